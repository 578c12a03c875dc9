"""The tree is the pipeline: a file imports from its own package or from those to the left, nothing imports in a circle, and what needs
no torch does not wait for it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from labkit.studies.trace import PACKAGES as ORDER

PACKAGE = Path(__file__).resolve().parent.parent / "labkit"
TORCH = {"torch", "transformers", "accelerate", "safetensors", "tokenizers"}
HEAVY = TORCH | {"matplotlib", "plotly", "pandas", "numpy", "scipy", "ipywidgets", "anywidget"}
WITHOUT_TORCH = (
    *("base.errors", "base.kinds", "base.files", "base.manifest", "base.stats", "records", "losses.divergences"),
    *("tasks.types", "tasks.atlas.facts", "tasks.atlas.extraction", "tasks.custom.rows", "tasks.custom.shapes", "tasks.custom.sources"),
    *("tasks.custom.content_hash", "tasks.metrics", "tasks.calibration"),
    *("teachers.recorded_answers", "teachers.filters", "teachers.labelling"),
    *("views.figures", "studies.sweep", "studies.claims", "diagnosis.evidence", "diagnosis.failures", "diagnosis.incidents", "cli"),
    *("lessons.types", "lessons.catalogue", "lessons.predictions", "lessons.exercises"),
    *("lessons.passed", "lessons.handin", "lessons.handin_page", "lessons.grading"),
)
FILES = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.parent != PACKAGE
}


def imports(path: Path, *, when_imported: bool = False) -> set[str]:
    """Full names of what a file imports, anywhere in it, or only of what it does at once (types are for the checker alone)."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if when_imported and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def file_of(name: str) -> str:
    """The file of the package that an imported name is in, or is."""
    inner = name.removeprefix("labkit.")
    while inner not in FILES:
        inner = inner.rpartition(".")[0]
    return inner


def test_the_package_is_a_dozen_rooms():
    entries = {path.name for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert entries == {"__init__.py", "__main__.py", *ORDER}
    assert len(entries) <= 16


@pytest.mark.parametrize("name", FILES)
def test_imports_come_from_the_left(name: str):
    own = ORDER.index(name.split(".")[0])
    for target in imports(FILES[name]):
        if target.startswith("labkit."):
            package = target.split(".")[1]
            assert ORDER.index(package) <= own, f"{name} imports {target}: {ORDER[own]} stands to the left of {package}"


def test_no_circles():
    graph = {name: {file_of(t) for t in imports(path) if t.startswith("labkit.")} - {name} for name, path in FILES.items()}
    done: set[str] = set()
    while ready := {name for name, needs in graph.items() if name not in done and needs <= done}:
        done |= ready
    assert set(graph) == done, f"these import each other in a circle: {sorted(set(graph) - done)}"


@pytest.mark.parametrize("name", FILES)
def test_files_are_short_enough_to_read(name: str):
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= 350, f"{name} has {lines} lines: split it at 350"


@pytest.mark.parametrize("name", FILES)
def test_functions_are_short_enough_to_read(name: str):
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            assert lines <= 80, f"{name}.{node.name} has {lines} lines: split it at 80"


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_no_torch_when_imported(name: str):
    inside = [path for file, path in FILES.items() if file == name or file.startswith(f"{name}.")]
    assert inside
    for path in inside:
        assert not {n.split(".")[0] for n in imports(path, when_imported=True)} & TORCH, path


def loaded_by(code: str) -> set[str]:
    tail = f"; import sys, json; print(json.dumps([m for m in {sorted(HEAVY)!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_labkit_loads_nothing_heavy():
    assert loaded_by("import labkit; labkit.__version__; dir(labkit)") == set()


def test_what_needs_no_torch_loads_none():
    names = [
        file
        for file in FILES
        if any(file == name or file.startswith(f"{name}.") for name in WITHOUT_TORCH)
        and not file.endswith((".widget", ".endpoints", ".loop", ".running"))  # they need ipywidgets and openai
    ]
    assert not loaded_by("; ".join(f"import labkit.{name}" for name in names)) & TORCH


def test_public_names_exist_and_are_found_lazily():
    import labkit

    assert set(labkit.__all__) <= set(dir(labkit))
    for name, home in labkit._HOME.items():
        path = FILES[home]
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        defined |= {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        assert name in defined, f"labkit.{name} should be in {path.name}"
    with pytest.raises(AttributeError, match="'record'"):
        labkit.recrod  # noqa: B018


def test_one_place_goes_backward():
    calls = [
        name
        for name, path in FILES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
    ]
    assert calls == ["training.minimal", "training.step"], "beside the engine only the loop that is there to be read, which nothing imports"
