"""What an expression behind a number in prose may name (see `tests/prose.py`): what is on record, read as the lessons read it."""

from __future__ import annotations

import functools
import json
import random
import re
import runpy
from pathlib import Path
from typing import Any

import labkit
from labkit.base.files import data_dir
from labkit.base.settings import DEFAULT as SETTINGS  # noqa: F401
from labkit.base.stats import NO_EFFECT, Band, band  # noqa: F401
from labkit.cli.fetch import CUTS  # noqa: F401
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.failures.trials import (
    alarms,
    pair,  # noqa: F401
    sightings,
)
from labkit.diagnosis.incidents.probes import minutes  # noqa: F401
from labkit.lessons.catalogue import LESSONS
from labkit.lessons.exercises import lesson_11  # noqa: F401
from labkit.lessons.figures import lesson_01
from labkit.losses.cross_tokenizer.spans import spans
from labkit.losses.temperature import Audit, check_printed_softmax
from labkit.records import measurements
from labkit.records.cost import cost
from labkit.records.events import Labelled
from labkit.records.names import CORE
from labkit.records.record import NO_GAP, Record, core, mean, paired  # noqa: F401
from labkit.records.store import shipped
from labkit.studies import scaling
from labkit.studies.behaviour import lacks
from labkit.studies.capacity import knee  # noqa: F401
from labkit.studies.claims import CLAIMS, ONE_ANSWER, imitation, runs_of
from labkit.studies.claims.data import STARTS, less, mean_of, seconds_a_step, seeds_of  # noqa: F401
from labkit.studies.claims.mismatch import bits, of_task  # noqa: F401
from labkit.studies.claims.online import OFFLINE, excess_error  # noqa: F401
from labkit.studies.claims.speculation import rejections_saved, saved  # noqa: F401
from labkit.studies.inheritance import Facts  # noqa: F401
from labkit.studies.sweep import sweep as _sweep
from labkit.tasks.atlas.facts import Atlas, Question  # noqa: F401
from labkit.tasks.custom.rows import Row, read_rows, split
from labkit.tasks.metrics import Score, better, metric  # noqa: F401
from labkit.teachers import filters, recorded_answers
from labkit.teachers.recorded_answers import RecordedAnswer

ROOT = Path(__file__).resolve().parent.parent
sweep = functools.cache(_sweep)
measured = functools.cache(labkit.measured)


@functools.cache
def claim(name: str) -> Any:
    """What was found about a claim: `.effects["condition"]` is a band with `.middle`, `.low`, `.high` and `.verdict`."""
    return CLAIMS[name].measure()


@functools.cache
def runs(grid: str, arm: str = "", **values: Any) -> list[Record]:
    """The recorded runs of an arm, a seed each; of a sweep with a grid, at these values of its fields."""
    return runs_of(sweep(grid), arm, **values)


def skill(grid: str, arm: str, *skills: str) -> Band:
    """Mean over seeds, and its band, of an arm's score in some skills (the core skills if none is named)."""
    return band([mean(run.skills, skills) if skills else core(run) for run in runs(grid, arm)])


def recovered(grid: str, arm: str = "", **values: Any) -> tuple[float, float, float]:
    """Share of the gap to the teacher that an arm recovers: mean over seeds, and both ends of its band."""
    found = band([run.recovery().mean for run in runs(grid, arm, **values)])
    return found.middle, found.low, found.high


def lesson(number: str) -> Any:
    """A lesson of the catalogue: `.minutes`, `.experiment`."""
    return LESSONS[number]


@functools.cache
def bench(work: str) -> Any:
    """The row of `benchmarks/results.json` whose work begins so, as a dict."""
    rows = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    (row,) = [row for row in rows if row["work"].startswith(work)]
    return row


# ---- lessons 00 to 06 ----------------------------------------------------------------------------------------------------------------


def parameters(grid: str, arm: str, who: str = "student") -> int:
    """Of an arm's student, or of its "teacher"."""
    return int(runs(grid, arm)[0].numbers("parameters")[who])


def times_smaller(grid: str, arm: str) -> float:
    """How many of an arm's student would make its teacher."""
    return parameters(grid, arm, "teacher") / parameters(grid, arm)


def of_teacher(grid: str, arm: str, *skills: str) -> float:
    """The student's score in these skills as a share of the teacher's: mean over seeds."""
    return band([mean(run.skills, skills) / mean(run.scores["teacher"], skills) for run in runs(grid, arm)]).middle


def labelled(grid: str, arm: str) -> int:
    """Different questions that the teacher of an arm's first run answered."""
    return next(event.total for event in reversed(runs(grid, arm)[0].events) if isinstance(event, Labelled))


@functools.cache
def vocabulary(name: str = "atlas") -> int:
    """Tokens of one of the lab's vocabularies."""
    from labkit.models import tokenizer

    return tokenizer(name).size


@functools.cache
def recipe(name: str) -> dict[str, Any]:
    """What a script of `data/recipes` defines, by name."""
    return runpy.run_path(str(ROOT / "data" / "recipes" / f"{name}.py"))


def words(name: str) -> list[float]:
    """The numbers in the words of a claim, a percentage as a share."""
    found = re.findall(r"(\d+(?:\.\d+)?)(%?)", CLAIMS[name].text)
    return [float(number) / (100 if percent else 1) for number, percent in found]


def balance(arm: str) -> float:
    """Lesson 01: recall of the continent left out and of the others, their mean, at the bias that is best for this arm."""
    table = measured("left_out")
    return max(table[table.arm == arm].groupby("bias")[["recall", "others"]].mean().mean(axis=1))


def first_tokens(samples: int) -> float:
    """Lesson 01: how many different first tokens to expect among so many sampled answers to its question."""
    import torch

    from labkit.models import tokenizer

    with torch.no_grad():
        logits = labkit.teacher("atlas-3m")(torch.tensor(tokenizer().prompts(["Name a neighbour of Germany."]))).logits[0, -1]
    return float((1 - (1 - logits.softmax(-1)) ** samples).sum())


def printed() -> list[Audit]:
    """Lesson 01: the article's softened logits, at T = 1 and at T = 3."""
    return check_printed_softmax(lesson_01.LOGITS, lesson_01.ARTICLE)


@functools.cache
def answers() -> list[RecordedAnswer]:
    """The real teacher's recorded answers of lesson 05."""
    return recorded_answers.recorded()


def kept(name: str) -> filters.Outcome:
    """What a filter leaves of them: `.kept`, `.right`."""
    return filters.outcome(answers(), name)


def warmth(questions: str, temperature: float | None = None) -> Any:
    """Lesson 05: four samples of each of some questions ("many answers" or "one answer"), at one temperature or at all."""
    table = measured("warmth")
    return table[(table.questions == questions) & (table["T"].eq(temperature) if temperature else True)]


def greedy(questions: str) -> list[RecordedAnswer]:
    """The recorded answers, written greedily, to the same questions."""
    asked = set(warmth(questions).question)
    return [said for said in answers() if said.question.text in asked]


def different(answers: Any) -> int:
    """Different things that answers of `warmth` name, question by question."""
    return int(answers.groupby("question").named.nunique().sum())


def agreed(temperature: float, least: int) -> filters.Outcome:
    """The questions with one answer on which so many of four samples agree."""
    return filters.agreed(warmth("one answer", temperature).to_dict("records"), least)


def pupil(who: str, number: str, step: int = 60) -> float:
    """Lesson 05: a number ("form", "same" or "right") of a student after so many steps, mean over its answers."""
    return imitation.share(imitation.pupil(who, step), number)


def gained(number: str) -> float:
    """The same: what the student of the teacher's text has more than the untouched one."""
    return pupil("teacher's text", number) - pupil("untouched", number, 0)


def pupil_answers() -> list[RecordedAnswer]:
    """The teacher's recorded answers to the questions that lesson 05's students are examined on."""
    asked = {row["question"] for row in imitation.pupil("untouched", 0)}
    return [said for said in answers() if said.question.text in asked]


def taught() -> int:
    """Recorded answers that lesson 05's student learned: those that its run did not hold out."""
    made, said = recipe("measurements"), [said for said in answers() if said.question.skill in ONE_ANSWER]
    random.Random("pupils").shuffle(said)
    rows = [{"prompt": one.question.text, "response": one.text} for one in said[made["EXAMINED"] :][: made["TAUGHT"]]]
    return len(split(read_rows(rows)).train.rows)


def exposures() -> list[int]:
    """Lesson 06: how often the stores' facts were met, fewest first."""
    return sorted(set(measured("stores").exposures))


def stores(size: str, times: int = 100) -> Any:
    """Stores of facts that a student met so many times each, as hard labels: a row for each number of facts, mean over seeds."""
    table = measured("stores")
    hard = table[(table.arm != "soft labels") & (table.student == size) & (table.exposures == times)]
    return hard.groupby("facts").mean(numeric_only=True)


def held(size: str, times: int = 100, per: str = "body") -> dict[float, float]:
    """Bits held by bits asked, a store each, both for each parameter of the student's body (or of all: "parameters")."""
    found = stores(size, times)
    return dict(zip(found.asked / found[per], found.bits / found[per], strict=True))


def budget(steps: int, *skills: str) -> float:
    """Lesson 06: the 22k student's score in these skills (the core skills if none is named) after so many steps; mean over seeds."""
    table = measured("budgets")
    return float(table[table.steps == steps][list(skills or CORE)].mean(axis=None))


@functools.cache
def law() -> scaling.Law:
    """Lesson 06: core skill by size, as a law."""
    return scaling.fit("logistic", scaling.points(sweep("sizes"), core))


# ---- lessons 07 to 13 ----------------------------------------------------------------------------------------------------------------


def number(grid: str, arm: str, group: str, name: str) -> float:
    """A number of an arm's runs (see `Record.numbers`); mean over seeds."""
    return band([run.numbers(group)[name] for run in runs(grid, arm)]).middle


def above_gold(grid: str, arm: str) -> Band:
    """What an arm has more of, in the mean of its skills, than the same student on its gold labels alone."""
    return band([core(run) - mean(run.scores["label budget"]) for run in runs(grid, arm)])


def flops(grid: str, arm: str) -> float:
    """Arithmetic of student and teacher in an arm's runs; mean over seeds."""
    return band([cost(run).flops for run in runs(grid, arm)]).middle


def told(table: str, column: str, **where: Any) -> float:
    """A column of a measurement, mean of the rows where other columns have these values."""
    found = [row[column] for row in measurements.rows(table) if all(row[name] == value for name, value in where.items())]
    return sum(found) / len(found)


@functools.cache
def asked() -> list[Question]:
    """The 4,000 questions of the half world that lesson 07 counts on."""
    return labkit.Atlas("half").questions(4_000, 7)


def share_lacking(left_out: str) -> float:
    """Of these, the share that a transfer set without this does not ask."""
    return sum(lacks(question, left_out) for question in asked()) / len(asked())


@functools.cache
def cut(name: str) -> dict[str, float]:
    """How one of the lab's vocabularies cuts them. tokens: of a question, in the mean. single: share of the answers that are one token.
    elsewhere: share of the answers' spans that begin with a string the teacher's vocabulary has too, where the teacher writes another."""
    from labkit.models import tokenizer

    teacher, own = tokenizer(), tokenizer(name)
    prompts = own.prompts([question.text for question in asked()])
    both = [[[side.pieces[t] for t in ids] for ids in side.answers([q.gold for q in asked()])] for side in (teacher, own)]
    firsts = [(of[s.teacher[0]], mine[s.student[0]]) for of, mine in zip(*both, strict=True) for s in spans(of, mine)]
    return {
        "tokens": sum(map(len, prompts)) / len(prompts),
        "single": sum(len(answer) == 2 for answer in both[1]) / len(prompts),  # the other is the end mark
        "elsewhere": sum(mine != his and mine in set(teacher.pieces) for his, mine in firsts) / len(firsts),
    }


def lies_ahead(arm: str) -> float:
    """Lesson 08: of an arm's answers that are either the lie or the truth, the share of lies; mean over seeds."""
    lies, truths = (seeds_of("inheritance", name, arm=arm) for name in ("inherited", "denoised"))
    return mean_of({seed: lies[seed] / (lies[seed] + truths[seed]) for seed in lies})


def wrong_above(probability: float) -> float:
    """Of the answers of the real teacher that it gave so much probability or more, the share that is wrong."""
    sure = [said for said in answers() if said.named is not None and said.probability >= probability]
    return sum(not said.right for said in sure) / len(sure)


def width(prompts: int) -> float:
    """Lesson 13: how wide the band of an exact score is over so many prompts, half of them answered right."""
    rows = [Row(str(line), "right" if line % 2 else "wrong", line) for line in range(prompts)]
    found = metric("exact")(["right"] * prompts, rows).band
    return found.high - found.low


@functools.cache
def tickets(model: str) -> Score:
    """Lesson 13: label F1 of a model's recorded answers to the tickets that are held out."""
    rows = {row.line: row for row in read_rows("tickets")}
    found = [row for row in measurements.rows("tickets") if row["model"] == model and row["seed"] == 0]
    return metric("label_f1")([row["answer"] for row in found], [rows[row["line"]] for row in found])


# ---- documents --------------------------------------------------------------------------------------------------------------------


def stated(row: dict[str, Any]) -> list[float]:
    """The numbers in the sentence of a row of the bench: how many tokens, steps, times."""
    return [float(number.replace(",", "")) for number in re.findall(r"(?<![\w.])\d[\d,]*(?![\w.])", row["work"])]


@functools.cache
def failures() -> tuple[int, int, float, int]:
    """Failures that are named in every unseen run, of how many; false alarms as a share of the healthy runs with looks, and how many."""
    seen, (looked, _) = [sightings(name) for name in FAILURES], alarms()
    return sum(found.right == found.runs for found in seen), len(seen), len(looked.false) / looked.runs, looked.runs


@functools.cache
def longest_live() -> float:
    """Seconds of work of the longest recorded run that a lesson begins with."""
    found = (shipped().find(lesson.experiment) for lesson in LESSONS.values())
    return max(run.finished.seconds for run in found if run and run.finished)


def minutes_on_record() -> float:
    """Of training, summed over the runs that ship."""
    return labkit.results()["run.seconds"].sum() / 60


def rows(path: str) -> int:
    """Of a table in `data`, without the head of a CSV."""
    return len((data_dir() / path).read_text(encoding="utf-8").splitlines()) - path.endswith(".csv")


def card(teacher: str, skill: str) -> float:
    """A skill of a shipped teacher, as measured for its card."""
    return json.loads((data_dir() / "teachers" / teacher / "manifest.json").read_text(encoding="utf-8"))["note"]["skills"][skill]


NAMES = {name: value for name, value in globals().items() if not name.startswith("_") and name != "annotations"}
