"""Export a recipe as a script for TRL, with the same rows in the same order, the same student and the same loss.

export(Experiment(student="57k", temperature=2.0), "distil.py")   # and a folder `distil` next to it, with rows and student

A recipe with a knob that TRL does not have is refused. Where TRL's conventions differ from the lab's, a comment in the script says so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from labkit import models
from labkit.base.errors import LabError
from labkit.base.files import data_dir, fill_whole, write_whole
from labkit.models import lora, pretrained
from labkit.models.architectures import LanguageModel
from labkit.records import events as ev
from labkit.records.experiment import Experiment
from labkit.records.names import FAULTY_TEACHERS, named_model
from labkit.records.rules import HARD, TRL, refuse
from labkit.training.loop import Run
from labkit.training.methods import method
from labkit.training.setup import task_of
from labkit.training.step import WARMUP

BETA = {"forward_kl": 0.0, "reverse_kl": 1.0}


def export(experiment: Experiment, out: str | Path) -> Path:
    """Write the script, and a folder of the same name next to it.

    out: the script; its name ends in ".py".

    Returns the path of the script. Raises `LabError` for another name, a folder that cannot be made, or a recipe that TRL cannot run.
    """
    exp, out = experiment, Path(out)
    if out.suffix != ".py":
        raise LabError(f"--out {out} must be a Python script: give a name that ends in .py, such as {out.with_suffix('.py')}.")
    refuse(exp, "run", "trl")
    folder = out.with_suffix("")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"--out {out}: the folder {folder} for its rows cannot be made ({error.strerror}): give another name.") from None
    subject = task_of(exp)
    teacher = subject.teacher()
    student = _first_student(exp)
    _write_rows(exp, subject, teacher, models.tokenizer_of(student), folder)
    if named_model(exp.student):
        place = str(pretrained.folder_of(exp.student).resolve())
    else:
        place = "student"
        fill_whole(folder / place, lambda to: _save(student, models.tokenizer(exp.vocabulary).for_transformers(), to))
    maps = lora.targets_of(student) if exp.adapter else []
    text = _script(exp, folder.name, place, _teacher(exp, teacher, folder), student, maps)
    write_whole(out, lambda to: to.write_text(text, encoding="utf-8"))
    return out


def _save(student: Any, tokenizer: Any, folder: Path) -> None:
    student.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _first_student(exp: Experiment) -> Any:
    """The student before the first step of the training loop, without the adapter, which has no effect yet."""
    if exp.data:
        return task_of(exp).student(exp.seed)
    run = Run(exp.but(adapter=0))
    for event in run:
        if isinstance(event, ev.Inspected):  # the last event before the first gradient
            break
    return run.student


def _write_rows(exp: Experiment, subject: Any, teacher: LanguageModel | None, own: Any, folder: Path) -> None:
    """Write each training row once to `rows.jsonl`, and the numbers of the rows of all steps, in order, to `order.json`."""
    entry = method(exp.method)
    pool = subject.pool(teacher) if entry.needs_signal else None
    feed = subject.feed(subject.text_pool(_finished(subject.texts(teacher))) if entry.text else pool)
    number: dict[tuple[bool, int], int] = {}
    order: list[int] = []
    lines: list[str] = []
    for _ in range(exp.steps):
        pool_rows, gold_rows = feed.next_rows(exp.batch, entry.gold_share(exp.mix))
        if pool is not None:
            list(pool.prepare(pool_rows))
        step_rows = feed.draw(pool_rows, gold_rows)
        keys = [(False, i) for i in pool_rows] + [(True, i) for i in gold_rows]
        for key, prompt, response in zip(keys, step_rows.prompts, step_rows.answers, strict=True):
            if key not in number:
                number[key] = len(lines)
                text = {"prompt": own.text(prompt), "response": own.text(response)}  # for people to read; training uses the ids
                lines.append(json.dumps(text | {"prompt_ids": prompt, "response_ids": response}) + "\n")
            order.append(number[key])
    write_whole(folder / "rows.jsonl", lambda to: to.write_text("".join(lines), encoding="utf-8"))
    write_whole(folder / "order.json", lambda to: to.write_text(json.dumps(order), encoding="utf-8"))


def _finished(work: Iterator[Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as done:
            return done.value


def _teacher(exp: Experiment, teacher: Any, folder: Path) -> str:
    """The path of the teacher for the script; a faulty teacher, which has no folder with all its weights, is saved in `folder`."""
    if exp.method in HARD or teacher is None:
        return ""
    if named_model(exp.teacher):
        return str(pretrained.folder_of(exp.teacher).resolve())
    if exp.teacher in FAULTY_TEACHERS:
        fill_whole(folder / "teacher", teacher.save_pretrained)
        return "teacher"
    return os.path.relpath(data_dir() / "teachers" / exp.teacher, folder.resolve())


# ---- the script ------------------------------------------------------------------------------------------------------------------


def _script(exp: Experiment, name: str, place: str, teacher: str, student: Any, maps: Sequence[str] | str) -> str:
    """Fill in the template `trl.py.tmpl`.

    name: of the folder.
    place, teacher: where the weights of student and teacher are, in the folder or elsewhere.
    student: the student itself. If it learns its teacher's format, the tokenizer is read from the teacher's folder.
    maps: the linear maps that get an adapter, as peft takes them.
    """
    from jinja2 import Environment, StrictUndefined

    page = Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined)
    page.filters |= {"quoted": json.dumps, "repr": repr, "inside": lambda text: json.dumps(text, ensure_ascii=False)[1:-1]}
    adopted = bool(getattr(student, "adopted", ""))
    soft, half = exp.method not in HARD, named_model(exp.teacher)
    return page.from_string(Path(__file__).with_name("trl.py.tmpl").read_text(encoding="utf-8")).render(
        exp=exp,
        name=name,
        student=place,
        tokenizer=str(pretrained.folder_of(exp.teacher).resolve()) if adopted else place,
        ends=student.chat.end_list if adopted else [],
        teacher=teacher,
        longest=models.tokenizer_of(student).longest,
        soft=soft,
        half=half,
        online=exp.method == "online",
        compared=soft and (exp.temperature != 1 or half),
        beta=exp.beta if exp.divergence == "jsd" else BETA.get(exp.divergence, 0.0),
        maps=maps,
        trl=TRL,
        warmup=WARMUP,
    )
