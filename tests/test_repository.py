"""What the repository weighs: half of its history is weights that no lesson reads any more, so new ones are committed once."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DECIDED = "0445377452aa98af8079ae3092fb5c76a6939285"  # the last commit before the decision; what was committed twice until then stays


def git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def test_new_weights_are_committed_once():
    try:
        git("merge-base", "--is-ancestor", DECIDED, "HEAD")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no history here: a shallow clone, or an archive")
    changed = git("log", "--no-merges", "--no-renames", "--diff-filter=AM", "--name-only", "--format=", f"{DECIDED}..HEAD", "--", "data")
    written = Counter(name for name in changed.splitlines() if name.endswith((".safetensors", ".gguf")))
    assert not [name for name, times in written.items() if times > 1], "squash them before they are published: git keeps every version"


def test_what_says_clone_says_how_deep():
    """The full history is twice the size of what is used."""
    files = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "docs").glob("*.md"), *(ROOT / "binder").iterdir()]
    lines = [(path.name, line) for path in files for line in path.read_text(encoding="utf-8").splitlines() if "git clone" in line]
    assert {"README.md"} <= {name for name, _ in lines}
    assert not [line for line in lines if "--depth 1" not in line[1]]
