"""What is said of distillation, put to the test: each claim has its experiment, an effect with its band, and a verdict.

    labkit.claims()                       # the table: claim, Atlas, SmolLM2, published
    CLAIMS["online"].measure().effects    # {"random start, equal questions": Band(...), ...}

Verdicts are worked out from the records and measurements that ship with the lab, by `judge`; none is typed. To add a claim,
write a function that returns the effects it would have, each as a band of differences that are above 0 where the claim holds.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from labkit import measurements
from labkit.atlas import CORE
from labkit.errors import LabError
from labkit.records import Record, core, mean, paired
from labkit.sweeps import Sweep, sweep
from labkit.verdicts import Band, band

if TYPE_CHECKING:
    import pandas

ONE_ANSWER = ("recall", "reverse", "city", "element")
STARTS = ("random", "warm")
ARMS = ("output", "hard answers", "hidden states", "attention relations", "teacher's text", "online")  # of the ladder


class Finding(NamedTuple):
    """effects: by condition, how far the claim is borne out, in `unit`; beside: what has to be known with it, in one sentence."""

    effects: Mapping[str, Band]
    unit: str
    beside: str = ""

    @property
    def verdict(self) -> str:
        return judge(self.effects)


class Claim(NamedTuple):
    """text: as it is said. measured: which difference is taken. published: elsewhere, cited."""

    name: str
    text: str
    measured: str
    published: str
    measure: Callable[[], Finding]


CLAIMS: dict[str, Claim] = {}


def claim(name: str, text: str, *, measured: str, published: str):
    def add(measure: Callable[[], Finding]) -> Callable[[], Finding]:
        CLAIMS[name] = Claim(name, text, measured, published, measure)
        return measure

    return add


def judge(effects: Mapping[str, Band]) -> str:
    """The verdict on a claim, in the fixed words: "holds" if it does under every condition, "holds when" those where it does, and
    otherwise the strongest thing that can be said. Raises `LabError` without any effect."""
    if not effects:
        raise LabError("a claim without a measured effect has no verdict: give at least one condition.")
    found = {condition: effect.verdict for condition, effect in effects.items()}
    better, worse = ([condition for condition, verdict in found.items() if verdict == which] for which in ("better", "worse"))
    if len(better) == len(found):
        return "holds"
    if better:
        return f"holds when: {'; '.join(better)}" + (f" (the opposite when: {'; '.join(worse)})" if worse else "")
    if all(verdict == "no practical effect" for verdict in found.values()):
        return "no practical effect"
    if worse or "no practical effect" in found.values():
        return "does not hold"
    return "not distinguishable" if "not distinguishable" in found.values() else "not testable at this scale"


class Claims:
    """The verdict table, as a DataFrame (`.table()`), as Markdown (`.markdown()`), or shown in a notebook."""

    def __init__(self) -> None:
        self.found = {name: entry.measure() for name, entry in CLAIMS.items()}

    def table(self) -> pandas.DataFrame:
        import pandas

        return pandas.DataFrame(self._rows())

    def markdown(self) -> str:
        rows = self._rows()
        lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        return "\n".join(lines + ["| " + " | ".join(row.values()) + " |" for row in rows]) + "\n"

    def _rows(self) -> list[dict[str, str]]:
        return [
            {
                "claim": CLAIMS[name].text,
                "Atlas": finding.verdict,
                "measured": f"{CLAIMS[name].measured}, {finding.unit}: {_told(finding.effects)}."
                + (f" {finding.beside}" * bool(finding.beside)),
                "SmolLM2": "not measured",
                "published": CLAIMS[name].published,
            }
            for name, finding in self.found.items()
        ]

    def _repr_html_(self) -> str:
        rows = self._rows()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in rows[0])
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in rows)
        style = "text-align:left;vertical-align:top;line-height:1.35"
        cells = body.replace("<td>", f'<td style="{style}">')
        return f'<table><thead><tr style="{style}">{head}</tr></thead><tbody>{cells}</tbody></table>'

    def __repr__(self) -> str:
        return "\n".join(f"{finding.verdict:24} {CLAIMS[name].text}" for name, finding in self.found.items())


def claims() -> Claims:
    """All claims, judged by what ships with the lab."""
    return Claims()


def _told(effects: Mapping[str, Band]) -> str:
    def one(effect: Band) -> str:
        middle, low, high = (f"{value:+.3f}".replace("-", "\u2212") for value in effect[:3])
        return f"{middle} ({low} to {high}, n = {effect.n})"

    return "; ".join(f"{condition}: {one(effect)}" for condition, effect in effects.items())


# ---- reading the records -----------------------------------------------------------------------------------------------------------


def runs_of(grid: Sweep, arm: str = "", **values: Any) -> list[Record]:
    """A point's runs, every seed of them. Raises `LabError` if one is missing."""
    found = grid.records(arm, **values)
    if len(found) < grid.seeds:
        raise LabError(f"{len(found)} of {grid.seeds} seeds of {grid.recipe(arm, **values).recipe!r} are on record: run the sweep.")
    return found


def ladder(arm: str, against: str) -> dict[str, Band]:
    """An arm of the ladder less another, from both starts, on equal questions and in equal time."""
    return {
        f"{start} start, equal {equal}": paired(runs_of(grid, f"{arm}, {start}"), runs_of(grid, f"{against}, {start}"))
        for equal, grid in (("questions", sweep("ladder")), ("time", sweep("ladder_time")))
        for start in STARTS
    }


def cost_ratio(arm: str, against: str) -> str:
    """How much longer an arm's step takes than another's, from either start, in words: one timing each, of the first seed, which was run
    alone on the machine. Labels and text that are at hand cost nothing here; what is read anew in every run does."""
    grid = sweep("ladder")
    ratios = [seconds_a_step(runs_of(grid, f"{arm}, {s}")[0]) / seconds_a_step(runs_of(grid, f"{against}, {s}")[0]) for s in STARTS]
    return "A step takes {:.1f} to {:.1f} times as long".format(*sorted(ratios))


def seconds_a_step(record: Record) -> float:
    """Mean time from one step to the next, exams left out."""
    examined = {event.step for event in record.evaluations}
    pairs = zip(record.steps, record.steps[1:], strict=False)
    gaps = [after.seconds - before.seconds for before, after in pairs if before.step not in examined]
    return sum(gaps) / len(gaps)


# ---- the claims --------------------------------------------------------------------------------------------------------------------


@claim(
    "output",
    "Output distillation: low cost, good quality.",
    measured="mean core skill of soft labels less that of the same student on 300 gold labels",
    published="GPT-2 on Dolly: word-level KD 22.8 ROUGE-L, plain fine-tuning 23.3 (Gu et al. 2023, arXiv 2306.08543)",
)
def output() -> Finding:
    grid = sweep("ladder")
    effects = {}
    for start in STARTS:
        runs = runs_of(grid, f"output, {start}")
        effects[f"{start} start"] = band([core(r) - mean(r.references["label budget"].skills) for r in runs])
    return Finding(effects, "points of 1", f"{cost_ratio('output', 'hard answers')} as one on hard labels.")


@claim(
    "feature",
    "Feature distillation: medium cost, better quality.",
    measured="mean core skill of soft labels and hidden states less that of soft labels alone",
    published="ResNets on CIFAR-10: level with or above logit KD in two of three pairs, by fractions of a point (arXiv 2605.31191)",
)
def feature() -> Finding:
    return Finding(ladder("hidden states", "output"), "points of 1", f"{cost_ratio('hidden states', 'output')}.")


@claim(
    "sequence",
    "Sequence-level distillation: low cost, good quality.",
    measured="mean core skill on the teacher's greedy text less that on its soft labels",
    published="En-De, greedy: word-level KD 15.4 BLEU, sequence-level 18.9 (Kim & Rush 2016, arXiv 1606.07947)",
)
def sequence() -> Finding:
    closed = [skill for skill in CORE if skill != "open"]
    grid = sweep("ladder")
    text, soft = (runs_of(grid, f"{arm}, warm") for arm in ("teacher's text", "output"))
    without = paired(text, soft, lambda r: mean(r.skills, closed))
    cost = cost_ratio("teacher's text", "output")
    beside = f"{cost}. Without open questions, warm start, equal questions: "
    return Finding(ladder("teacher's text", "output"), "points of 1", f"{beside}{without.middle:+.2f} ({without.verdict}).")


@claim(
    "online",
    "Online distillation: high cost, best quality.",
    measured="mean core skill of online runs (half of the answers the student's own) less that of soft labels on the teacher's answers",
    published="GKD: 1.7 to 2.1 times the gain of KD on fixed text, at 1.8 to 2.2 times the compute (Agarwal et al. 2023, arXiv 2306.13649)",
)
def online() -> Finding:
    return Finding(ladder("online", "output"), "points of 1", f"{cost_ratio('online', 'output')}.")


@claim(
    "a tenth of the cost",
    "80% of its quality at 10% of the cost.",
    measured="what a student of 7% of the teacher's parameters reaches, less 0.80",
    published="DistilBERT: 97% of BERT on GLUE with 60% of its parameters (Sanh et al. 2019, arXiv 1910.01108)",
)
def a_tenth_of_the_cost() -> Finding:
    runs = runs_of(sweep("minute"), "soft labels")
    effects = {
        "as student / teacher": band([r.recovery().ratio - 0.8 for r in runs]),
        "as recovery over 300 gold labels": band([r.recovery().mean - 0.8 for r in runs]),
    }
    chains = sum(r.skills["chain"] / r.references["teacher"].skills["chain"] for r in runs) / len(runs)
    return Finding(effects, "share of 1", f"On chains of sums it reaches {chains:.0%} of the teacher.")


@claim(
    "soft targets",
    "Soft targets contain more information than hard labels.",
    measured="the same 2,000 questions and steps, soft labels less one sampled answer each",
    published="Hinton et al. 2015, arXiv 1503.02531: 3% of speech data with soft targets nearly reaches the accuracy of all of it",
)
def soft_targets() -> Finding:
    grid = sweep("soft")
    soft, hard, many = (runs_of(grid, arm) for arm in ("soft labels", "1 answer", "16 answers"))
    effects = {
        "questions with one right answer": paired(soft, hard, lambda r: mean(r.skills, ONE_ANSWER)),
        "questions with many: mass on right answers": paired(soft, hard, lambda r: r.evaluations[-1].open["validity"]),
        "agreement with the teacher": paired(soft, hard, lambda r: r.evaluations[-1].fidelity["agreement"]),
    }
    kl = paired(soft, hard, lambda r: r.evaluations[-1].fidelity["kl"])
    left = paired(soft, many, lambda r: r.evaluations[-1].open["validity"])
    beside = (
        f"KL to the teacher: {kl.middle:+.2f} nats. Against 16 answers a question, on open questions: {left.middle:+.2f} ({left.verdict})."
    )
    return Finding(effects, "points of 1", beside)


@claim(
    "T from 2 to 4",
    "T = 2 to 4 is typical.",
    measured="does it pay: mean core skill at T = 2, and at T = 4, less that at T = 1, forward KL",
    published="MNIST 20, speech 2, 30-unit nets 2.5 to 4 (Hinton et al. 2015, arXiv 1503.02531); language models mostly 1",
)
def typical() -> Finding:
    grid = sweep("temperature")

    def at(size: str, start: str, temperature: float) -> list[Record]:
        return runs_of(grid, size, start=start, temperature=temperature, divergence="forward_kl")

    conditions = [(T, size, start) for T in (2.0, 4.0) for size in grid.arms for start in STARTS]
    return Finding({f"T = {T:g}, {z}, {s} start": paired(at(z, s, T), at(z, s, 1.0)) for T, z, s in conditions}, "points of 1")


@claim(
    "higher T",
    "A higher temperature reveals the model's uncertainty.",
    measured="of the mass beside the first guess, the share on tokens that begin other answers it was taught, at T = 4 less at T = 1",
    published="Hinton et al. 2015: very small probabilities carry the similarity structure, and noise, since little constrains them",
)
def higher_temperature() -> Finding:
    at = {T: {row["question"]: row["valid"] for row in measurements.rows("beneath") if row["T"] == T} for T in (1.0, 4.0)}
    effect = band([at[4.0][q] - at[1.0][q] for q in at[1.0]])
    middle = {T: sum(values.values()) / len(values) for T, values in at.items()}
    beside = f"On average {middle[1.0]:.2f} at T = 1 and {middle[4.0]:.2f} at T = 4; that entropy grows with T is a theorem."
    return Finding({"the teacher, question by question": effect}, "share of 1", beside)


@claim(
    "diversity",
    "Temperature controls response diversity.",
    measured="different answers among 16 samples a question, at sampling temperature 1.5 less at 0.5",
    published="Kim & Rush 2016 train on the mode; Alpaca samples its 52,000 answers",
)
def diversity() -> Finding:
    rows = measurements.rows("sampling")
    effects, lost = {}, []
    for kind in ("open", "one answer"):
        at = {T: {r["question"]: r for r in rows if r["T"] == T and r["questions"] == kind} for T in (0.5, 1.5)}
        effects[f"{kind} questions"] = band([at[1.5][q]["distinct"] - at[0.5][q]["distinct"] for q in at[0.5]])
        lost.append(sum(at[1.5][q]["valid"] - at[0.5][q]["valid"] for q in at[0.5]) / len(at[0.5]))
    beside = f"Right answers change by {lost[0]:+.2f} and {lost[1]:+.2f}: it is a dial between variety and truth, and not the loss's T."
    return Finding(effects, "share of 1", beside)


@claim(
    "bounded",
    "The student's quality is bounded by the teacher.",
    measured="mean core skill of a teacher that is wrong about half the time, less that of its student",
    published="born-again networks of the same size pass their teachers (Furlanello et al. 2018, arXiv 1805.04770)",
)
def bounded() -> Finding:
    grid = sweep("bounded")
    words = {0.0: "soft labels alone", 0.25: "a quarter of the loss on 300 gold labels"}
    effects = {
        words[mix]: band([mean(r.references["teacher"].skills) - core(r) for r in runs_of(grid, mix=mix)]) for mix in grid.grid["mix"]
    }
    return Finding(effects, "points of 1")
