"""Trace one batch from question to gradient: the files of the package that a step enters, and the shapes of its tensors.

    print(trace(Experiment(student="57k")))

It watches one real step of the training loop, from drawing its rows to the gradient on the student.
"""

from __future__ import annotations

import ast
import functools
import itertools
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

import labkit
from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.rules import refuse
from labkit.training.batches import StepRows
from labkit.training.loop import Run

PACKAGES = (  # in order of import: a file imports from its own package or from those to the left
    *("base", "records", "losses", "models", "tasks", "teachers", "training", "speculative"),
    *("views", "studies", "diagnosis", "lessons", "cli"),
)
ROOT = Path(labkit.__file__).parent
FIRST, LAST = "Run._draw", "gradients"  # the functions with which the watched part of a step begins and ends
WIDTH, UNBROKEN = 120, "\N{NO-BREAK SPACE}"


class Call(NamedTuple):
    """The first call of a function in a step, with the names and shapes of its tensors."""

    file: str
    function: str
    says: str  # the first sentence of its docstring
    given: tuple[str, ...]
    returned: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """The calls of one step. Print it for a page of text."""

    recipe: str
    rows: int
    example: Sequence[str]
    calls: Sequence[Call]  # in the order of their first call
    back: Sequence[tuple[str, str]]  # caller and called, where the called file is in a package further right; each once
    gradient: Sequence[int]  # number of elements of each trained tensor that has a gradient

    @property
    def files(self) -> list[str]:
        return list(dict.fromkeys(call.file for call in self.calls))

    def text(self, full: bool = False) -> str:
        """The page: each file, and what its functions return.

        full: also their inputs, and the first sentence of each docstring.
        """
        lines = [
            f"Step 2 of: {self.recipe}",
            f"{self.rows} questions, from question to gradient. Shapes are in brackets, () is one number. The first question:",
        ]
        lines += self.example
        for number, file in enumerate(self.files, start=1):
            lines += ["", f"{number:2} {file}: {_docstrings(file)['']}"]
            calls = [call for call in self.calls if call.file == file]
            for shaped, group in itertools.groupby(calls, lambda call: full or bool(call.returned)):
                some = list(group)
                lines += [line for c in some for line in _lines(c, full)] if shaped else _filled("", [c.function for c in some])
        lines += ["", f"gradient: of {len(self.gradient)} trained tensors, {sum(self.gradient):,} numbers"]
        lines += [f"{len(self.files)} files entered; {len(self.back)} calls back to the right:"]
        return "\n".join([*lines, *(f"     {caller} calls {called}" for caller, called in self.back)])

    __str__ = text


def trace(experiment: Experiment) -> Trace:
    """Run two steps of a recipe, and watch the second.

    experiment: the recipe. Its teacher first answers the questions that it has not answered yet, which may take a while.

    Returns the calls. Raises `LabError` for a recipe that breaks a rule, or whose run ends before its second step.
    """
    exp = experiment.but(steps=max(2, experiment.steps))
    refuse(exp)
    run, watch, before = Run(exp, exams=0), _Watch(), sys.getprofile()
    try:
        for event in run:
            if isinstance(event, ev.Step) and event.step == 1:
                sys.setprofile(watch)
            elif isinstance(event, ev.Step | ev.Failed):
                break
    finally:
        sys.setprofile(before)
        run.close()
    if watch.step_rows is None:
        raise LabError(f"the run ended before its second step: {event}. Train one with `labkit run`, and trace it when it trains.")
    return Trace(
        exp.recipe,
        len(watch.step_rows.prompts),
        list(_example(run.task.reads, watch.step_rows)),
        list(watch.calls.values()),
        list(watch.back),
        watch.gradient,
    )


def _example(tokenizer: Any, step_rows: StepRows) -> Iterator[str]:
    """The first row, as text and as tokens."""
    for what, ids in (("question", step_rows.prompts[0]), ("answer", step_rows.answers[0])):
        yield f"     {what:8}  {tokenizer.text(ids)!r}  {ids}"


def _lines(call: Call, full: bool) -> list[str]:
    if not full:
        return _filled(f"{call.function} gives ", call.returned)
    name = [f"     {call.function}"] if not call.says else _filled(f"{call.function}: ", [call.says])
    return [*name, *_filled("  takes ", call.given), *_filled("  gives ", call.returned)]


def _filled(name: str, parts: Sequence[str]) -> list[str]:
    """A name and its parts, wrapped to lines; no line if there are no parts."""
    lines = textwrap.wrap(name + ", ".join(parts), WIDTH, initial_indent=" " * 5, subsequent_indent=" " * 9) if parts else []
    return [line.replace(UNBROKEN, " ") for line in lines]


class _Watch:
    """A profiler that notes each function of the package when it is first entered between `FIRST` and `LAST`."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str], Call] = {}
        self.back: dict[tuple[str, str], None] = {}
        self.step_rows: StepRows | None = None
        self.gradient: list[int] = []
        self._on = False

    def __call__(self, frame: FrameType, event: str, arg: Any) -> None:
        if event not in ("call", "return") or not (file := _file(frame)):
            return
        name = frame.f_code.co_qualname
        self._on = self._on or (event == "call" and name == FIRST)
        if not self._on or "<" in name.replace("<locals>.", ""):  # a comprehension or lambda counts as its function
            return
        key = (file, name)
        if event == "call" and key not in self.calls:
            code = frame.f_code
            names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            given = tuple(part for name in names if name != "self" for part in _tensors(name, frame.f_locals[name]))
            self.calls[key] = Call(file, name.replace("<locals>.", ""), _docstrings(file).get(name, ""), given, ())
        if event == "call":
            self._note_caller(frame, file, name)
        elif not self.calls[key].returned:
            self.calls[key] = self.calls[key]._replace(returned=tuple(_tensors("", arg)))
        if event == "return" and name == FIRST and isinstance(arg, StepRows):
            self.step_rows = arg
        if event == "return" and name == LAST:
            self.gradient = [p.grad.numel() for p in frame.f_locals["parts"].learner.parameters() if p.grad is not None]
            self._on = False
            sys.setprofile(None)

    def _note_caller(self, frame: FrameType, file: str, name: str) -> None:
        caller = frame.f_back
        while caller and not _file(caller):
            caller = caller.f_back
        if caller and PACKAGES.index(_file(caller).split("/")[0]) < PACKAGES.index(file.split("/")[0]):
            self.back[f"{_file(caller)} {caller.f_code.co_qualname}", f"{file} {name}"] = None


def _file(frame: FrameType) -> str:
    """The file of the package that a frame is in; "" if it is elsewhere."""
    path = Path(frame.f_code.co_filename)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) and path.parent != ROOT else ""


@functools.cache
def _docstrings(file: str) -> dict[str, str]:
    """The first sentence of each function of a file by qualified name, and of the file itself by ""."""
    sentences: dict[str, str] = {}

    def visit(node: ast.Module | ast.ClassDef | ast.FunctionDef, name: str) -> None:
        text = " ".join((ast.get_docstring(node) or "").split())
        sentences[name] = text.partition(". ")[0].rstrip(".") + "." * bool(text)
        inside = name + (".<locals>." if isinstance(node, ast.FunctionDef) else "." if name else "")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                visit(child, inside + child.name)

    visit(ast.parse((ROOT / file).read_text(encoding="utf-8")), "")
    return sentences


def _tensors(name: str, value: Any) -> Iterator[str]:
    """The tensors in a value, by name with their shapes: `tokens_B_T (128, 34)`."""
    if isinstance(value, torch.Tensor):
        yield f"{name} {tuple(value.shape)}".strip().replace(" ", UNBROKEN)
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, inner in zip(value._fields, value, strict=True):
            yield from _tensors(field, inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _tensors(name, inner)
