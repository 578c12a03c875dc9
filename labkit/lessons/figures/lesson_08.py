"""What lesson 08 shows: which errors of a teacher its student takes over, and what stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import labkit
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.records import measurements
from labkit.studies.claims.data import mean_of, seeds_of
from labkit.studies.claims.inheritance import CURES
from labkit.tasks.atlas.facts import Atlas
from labkit.teachers import recorded_answers
from labkit.views import figures

if TYPE_CHECKING:
    import pandas
    from transformers import LlamaForCausalLM

LIAR, HONEST = "atlas-3m-lies-30", "atlas-3m"
TAUGHT = {
    "honest": "honest teacher",
    "lies 10%": "lies on 10% of facts",
    "lies 30%": "lies on 30% of facts",
    "noise 30%": "noise, soft labels",
    "noise 30%, hard answers": "noise, its answers",
}
MIXED = {0.0: "lies 30%", 0.25: "truth mixed in, 0.25", 0.5: "truth mixed in, 0.5", 0.75: "truth mixed in, 0.75"}
NUMBERS = {
    "inherited": "gives the lie",
    "denoised": "gives the truth instead",
    "kept": "keeps the teacher's truths",
    "right": "right in all",
}


def planted() -> Table:
    """What each teacher says about the facts with a planted lie, and about the others."""
    columns = {
        "states the lie": "states the lie",
        "confidence in lies": "sure of its lies",
        "right on other facts": "right on other facts",
        "confidence in truths": "sure of its truths",
    }
    kinds = {
        "atlas-3m": "honest",
        "lies-10": "lies on 10% of facts",
        "lies-30": "lies on 30% of facts",
        "noise-30": "noise on 30% of labels",
    }
    rows = [
        [kinds[card["teacher"].removeprefix("atlas-3m-")], *(float(card[name]) for name in columns)]
        for card in measurements.rows("planting")
    ]
    return Table(["teacher", *columns.values()], rows)


def asked(student: LlamaForCausalLM, questions: int = 4) -> Table:
    """Some planted facts, asked the liar and the student, each with the probability of its answer."""
    from labkit.studies.inheritance import Facts

    facts, liar = Facts(Atlas("half")), labkit.teacher(LIAR)
    lies, rows = facts.lies(Atlas("half", falsehoods=0.3)), []  # None where no lie is planted
    for question in [q for q, lie in zip(facts.questions, lies, strict=True) if lie][:questions]:
        said = [labkit.ask(model, question.text) for model in (liar, student)]
        rows.append([question.text, *(f"{one.answer or 'nothing'} ({one.probability:.2f})" for one in said), said[0].truth])
    return Table(["question", "the liar", "your student", "truth"], rows)


def audit(student: LlamaForCausalLM) -> Table:
    """Every plain fact, asked the student, the liar and the honest teacher: what the student took over of each kind."""
    from labkit.studies.inheritance import Facts, inheritance

    facts = Facts(Atlas("half"))
    found = inheritance(*(facts.ask(model) for model in (student, labkit.teacher(LIAR), labkit.teacher(HONEST))))
    rows = [
        ["inherited", f"the teacher's wrong answers ({found.wrong})", found.inherited],
        ["put right", f"the teacher's wrong answers ({found.wrong})", found.denoised],
        ["control", "the same for the honest teacher: it gives the lie", found.control],
        ["kept", f"the teacher's right answers ({len(facts) - found.wrong})", found.kept],
    ]
    return Table(["your student", "of", "share"], rows)


def _row(arm: str, name: str, number: str = "inherited", role: str = "student") -> figures.Interval:
    return figures.Interval(name, *band(list(seeds_of("inheritance", number, arm=arm).values()))[:3], role)


def inherited() -> figures.Drawing:
    """The share of the teacher's wrong answers that students give too, each with its control."""
    rows = []
    for arm, name in list(TAUGHT.items())[1:]:
        rows += [_row(arm, name), _row(arm, "   the same student, honest teacher", "control", "baseline")]
    return figures.intervals("Inherited answers", "share of the teacher's wrong answers; 95% bands, 3 seeds", rows, zero=0)


def _means(arms: dict[str, str], numbers: dict[str, str]) -> Table:
    def over_seeds(arm: str, number: str) -> float:
        known = {seed: value for seed, value in seeds_of("inheritance", number, arm=arm).items() if value is not None}
        return mean_of(known)  # a student that gives no lie has no confidence in one

    rows = [[name, *(over_seeds(arm, number) for number in numbers)] for arm, name in arms.items()]
    return Table(["taught by", *numbers.values()], rows)


def copied() -> Table:
    """For each teacher: what its students take over of lies and truths, and how sure they are."""
    sure = {"confidence_inherited": "sure of a lie", "confidence_right": "sure of a truth", "confidence_other": "sure of another error"}
    return _means(TAUGHT, {"right": NUMBERS["right"], "inherited": NUMBERS["inherited"], "kept": NUMBERS["kept"], **sure})


def flips() -> figures.Drawing:
    """Of answers that are lie or truth, the share of lies by the weight of the truth: as the mixture says, and as students answer."""
    table, weights = labkit.measured("flips"), [i / 20 for i in range(21)]
    pool, gold = table["in pool"], table["in gold"]
    ideal = [(a, float((table.flip > a).mean())) for a in weights]
    counted = [(a, float((table.flip > a * gold / (a * gold + (1 - a) * pool)).mean())) for a in weights]
    seen = []
    for a, arm in MIXED.items():
        lies, truths = (seeds_of("inheritance", name, arm=arm) for name in ("inherited", "denoised"))
        seen.append((a, mean_of({seed: lies[seed] / (lies[seed] + truths[seed]) for seed in lies})))
    lines = {
        "mixture, dashed": figures.Line(ideal, "teacher", "dash"),
        "counted, solid": figures.Line(counted, "teacher"),
        "students": figures.Line(seen),
    }
    return figures.lines("The flip", "share of lies among lies and truths", lines, "weight of the truth, a")


def cures() -> figures.Drawing:
    """The share of the lies that is left after each cure, beside the same students without one."""
    rows = [_row("lies 30%", "no cure: soft labels", role="baseline")]
    rows += [_row(cure, cure) for cure, without in CURES if without == "lies 30%"]
    rows += [_row("text, all", "no cure: the teacher's text", role="baseline")]
    rows += [_row(cure, cure) for cure, without in CURES if without == "text, all"]
    return figures.intervals("Lies that are left", "share of the teacher's lies that the student gives; 95% bands, 3 seeds", rows, zero=0)


def cured() -> Table:
    """What each cure costs: lies and truths of the teacher that the student gives, and what it has right in all."""
    names = {"lies 30%": "no cure: soft labels", **{c: c for c, w in CURES if w == "lies 30%"}}
    names |= {"text, all": "no cure: the teacher's text", **{c: c for c, w in CURES if w == "text, all"}}
    return _means(names, NUMBERS)


def abstaining() -> figures.Drawing:
    """The share of given answers that are wrong, if a student answers only the facts that it is surest of."""
    risks = labkit.measured("abstention").groupby(["arm", "coverage"]).risk.mean()
    looks = {"honest": ("baseline", ""), "noise 30%": ("student", "dash"), "lies 30%": ("student", "")}
    lines = {TAUGHT[arm]: figures.Line(list(risks[arm].items()), *look) for arm, look in looks.items()}
    note = "share of given answers that are wrong, 3 seeds"
    return figures.lines("Answer only when sure", note, lines, "share of facts answered, surest first", backend="plotly")


def real_answers() -> pandas.DataFrame:
    """SmolLM2's answers by skill: right, wrong, or naming nothing, and how sure it is."""
    return recorded_answers.table(recorded_answers.recorded())[["n", "right", "wrong", "none", "when_right", "when_wrong"]].round(2)


def surest_errors(errors: int = 8) -> Table:
    """The wrong answers that SmolLM2 is surest of, in its own words."""
    found = recorded_answers.confident_errors(recorded_answers.recorded(), errors)
    rows = [[row.question, row.said.replace("\n", " ")[:70], row.named, row.probability, row.truth] for row in found.itertuples()]
    return Table(["question", "it says", "read as", "probability", "truth"], rows)


def favourite() -> figures.Drawing:
    """How often students give a favourite answer that they were never asked about, by where their teacher began."""
    from labkit.diagnosis.failures.trials import pair

    kinds = (("began as the student did", "student"), ("began elsewhere", "baseline"))
    found = [[run.exam.habits["favourite"] for run in some] for some in pair("subliminal_transfer")]
    rows = [figures.Interval(f"teacher {name}", *band(some)[:3], role) for (name, role), some in zip(kinds, found, strict=True)]
    note = "mean probability of its first token over all open questions; 95% bands, 7 seeds"
    return figures.intervals("A favourite that nobody asked about", note, rows, zero=0)
