"""Imports point down the levels only, and what needs no torch does not wait for it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "labkit"

LEVELS = {
    "names": 0, "model_folders": 0, "comparison": 0, "asking": 0, "lesson_type": 0,
    "batch": 1, "feature_losses": 1, "hooks": 2, "layers": 2,
    "errors": 0, "paths": 0, "events": 0, "experiment": 0, "records": 0, "verdicts": 0, "atlas": 0, "measurements": 0, "evidence": 0,
    "sources": 0, "own_data": 0, "metrics": 0, "calibration": 0, "reading": 0, "audit": 0, "curation": 0, "pinning": 0,
    "divergences": 1, "chunked": 1, "conventions": 1, "softening": 1, "alignment": 1, "models": 2, "signals": 2, "tensors": 2, "topk": 2,
    "adapters": 2, "architectures": 2, "pretrained": 2, "fetching": 2,
    "features": 3, "sequences": 3, "methods": 3, "online": 4, "step": 4, "inspection": 4, "evaluate": 3, "speculative": 3, "batches": 3,
    "checkpoints": 3, "faults": 3, "capacity": 3, "crossing": 3, "translation": 3, "own_exam": 3, "pruning": 3, "subjects": 4,
    "engine": 4, "runs": 4, "sweeps": 4, "failures": 4, "cost": 4, "scaling": 4, "probes": 4, "court": 4, "inheritance": 4, "exposure": 4,
    "export": 4, "planning": 4, "labelling": 4, "imitation": 4,
    "distilling": 5,
    "live": 5, "incidents": 5, "figures": 5, "judgment": 5, "reports": 5, "lessons": 5, "checks": 5, "cli": 5, "pens": 5, "__main__": 5,
}  # fmt: skip
HEAVY = (
    "torch",
    "transformers",
    "accelerate",
    "safetensors",
    "tokenizers",
    "matplotlib",
    "plotly",
    "pandas",
    "numpy",
    "ipywidgets",
    "anywidget",
)
WITHOUT_TORCH = [name for name, level in LEVELS.items() if level == 0] + [
    "divergences",
    "failures",
    "figures",
    "judgment",
    "incidents",
    "checks",
    "lessons",
    "labelling",
    "cli",
]
FILES = sorted(PACKAGE.rglob("*.py"))
HERE = {p.name.removesuffix(".py") for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists() or p.name == "live"}


def unit(path: Path) -> str:
    """The module or folder right under `labkit/` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports(path: Path, *, only_at_import_time: bool) -> set[str]:
    """Full names of imported modules; those for type checkers are left out."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if is_type_checking(node) or (only_at_import_time and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they point"
            found.add(node.module)
            if node.module == "labkit":
                found.update(f"labkit.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_every_module_has_a_level():
    for path in FILES:
        if path != PACKAGE / "__init__.py":
            assert unit(path) in LEVELS, f"give {unit(path)} a level in {Path(__file__).name}"


@pytest.mark.parametrize("path", [p for p in FILES if p != PACKAGE / "__init__.py"], ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path):
    own = LEVELS.get(unit(path), 5)
    for name in imports(path, only_at_import_time=False):
        if name.startswith("labkit."):
            target = name.split(".")[1]
            assert target in LEVELS, f"{path.name} imports {name}, which has no level"
            assert LEVELS[target] <= own, f"{path.name} (level {own}) imports {target} (level {LEVELS[target]})"


def test_no_circles():
    graph = {u: set() for u in map(unit, FILES)}
    for path in FILES:
        if path != PACKAGE / "__init__.py":
            graph[unit(path)] |= {n.split(".")[1] for n in imports(path, only_at_import_time=True) if n.startswith("labkit.")} - {
                unit(path)
            }
    done: set[str] = set()
    while ready := {u for u, needs in graph.items() if u not in done and needs <= done | {u}}:
        done |= ready
    assert set(graph) == done, f"these import each other in a circle: {set(graph) - done}"


@pytest.mark.parametrize("name", [n for n in WITHOUT_TORCH if n in HERE])
def test_no_torch_when_imported(name: str):
    folder = PACKAGE / name
    files = sorted(folder.rglob("*.py")) if folder.is_dir() else [PACKAGE / f"{name}.py"]
    for path in files:
        top = {n.split(".")[0] for n in imports(path, only_at_import_time=True)}
        assert not top & {"torch", "transformers", "accelerate", "safetensors", "tokenizers"}, path


def loaded_by(code: str) -> set[str]:
    tail = f"; import sys, json; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code + tail], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_labkit_loads_nothing_heavy():
    assert loaded_by("import labkit; labkit.__version__; dir(labkit)") == set()


@pytest.mark.parametrize("name", [n for n in WITHOUT_TORCH if n in HERE and n not in ("figures", "lessons")])
def test_what_needs_no_torch_loads_none(name: str):
    assert not loaded_by(f"import labkit.{name}") & {
        "torch",
        "transformers",
        "accelerate",
        "tokenizers",
        "matplotlib",
        "pandas",
        "ipywidgets",
    }


@pytest.mark.parametrize("name", [n for n in ("figures", "lessons") if n in HERE])
def test_pictures_and_lessons_load_no_torch(name: str):
    assert not loaded_by(f"import labkit.{name}") & {"torch", "transformers", "accelerate"}


def test_public_names_exist_and_are_found_lazily():
    import labkit

    assert set(labkit.__all__) <= set(dir(labkit))
    for name, home in labkit._HOME.items():
        path = PACKAGE / f"{home.replace('.', '/')}.py"
        path = path if path.exists() else PACKAGE / home / "__init__.py"
        tree = ast.parse(path.read_text(encoding="utf-8"))
        defined = {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)}
        defined |= {a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names}
        assert name in defined, f"labkit.{name} should be in {path.name}"
    with pytest.raises(AttributeError, match="'record'"):
        labkit.recrod  # noqa: B018


def test_one_place_goes_backward():
    calls = [
        path.name
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
    ]
    assert calls == ["step.py"]
