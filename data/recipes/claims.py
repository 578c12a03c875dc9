"""Write the verdict table, `docs/claims.md`, from the records and measurements that ship: `labkit build claims` (seconds)."""

from __future__ import annotations

from pathlib import Path

from labkit.claims import claims

HEAD = """# Claims and verdicts

What is said of distillation, judged by what ships with the lab. Made by `labkit build claims`; a test compares. A band is a 95%
t-interval of paired differences over seeds, and a claim holds only if it does under every condition listed; within 0.02 either way
is no practical effect. The last column is other people's, cited and not checked here.

"""


def page() -> str:
    return HEAD + claims().markdown()


def build(folder: Path) -> None:
    (folder / "claims.md").write_text(page(), encoding="utf-8")
