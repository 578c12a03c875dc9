"""Figures and tables of lesson 10: what drafts guess, how much of it is accepted, and when decoding becomes faster."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.base.html import Html
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.records.measurements import measured
from labkit.records.record import Record
from labkit.studies.sweep import sweep
from labkit.views import figures

if TYPE_CHECKING:
    import pandas

GAMMA = 4  # guesses a round


@functools.cache
def target() -> Any:
    """The model whose text is written, atlas-3m."""
    import labkit

    return labkit.teacher("atlas-3m")


def drafts(record: Record, yours: Any) -> dict[str, Any]:
    """Five drafts by name: untrained, on gold labels, yours, a larger one, and one that was distilled too hot for too short a time.

    record: of your draft. Two more are trained here from its recipe, which takes about as long again.
    """
    import labkit
    from labkit.training.loop import Run

    def trained(**changes: Any) -> Any:
        for _ in (run := Run(record.experiment.but(**changes), exams=0)):
            pass
        return run.student

    return {
        "untrained": labkit.student("57k"),
        "gold labels": trained(method="gold", gold=20_000),
        "yours": yours,
        "atlas-200k": labkit.teacher("atlas-200k"),
        "too hot": trained(temperature=8.0, steps=record.experiment.steps // 3),
    }


def questions(record: Record) -> list[str]:
    """Held-out questions, a few of each skill."""
    import labkit

    return [question.text for question in labkit.Atlas("half").exam(max(1, record.experiment.steps // 40))]


def rounds(drafts: Mapping[str, Any], asked: str, names: Sequence[str] = ("untrained", "gold labels", "yours")) -> Table:
    """One question decoded with some of the drafts, round by round."""
    import labkit
    from labkit.speculative.result import page

    return Table(["draft", "its rounds"], [[name, Html(page(labkit.speculate(target(), drafts[name], asked, GAMMA)))] for name in names])


def corrected(draft: Any, asked: Sequence[str]) -> Table:
    """The draft's weights before and after it was corrected on these questions, each as a fingerprint."""
    import labkit
    from labkit.models import fingerprint

    before = fingerprint(draft)
    done = [labkit.speculate(target(), draft, text, GAMMA) for text in asked]
    refused = sum(one.judged - len(one.path) for speculation in done for one in speculation.rounds)
    return Table(["guesses rejected", "weights before", "weights after"], [[refused, f"#{before}", f"#{fingerprint(draft)}"]])


def guesses(drafts: Mapping[str, Any], asked: Sequence[str], gamma: int = GAMMA) -> pandas.DataFrame:
    """Every judged guess of some drafts at temperature 1: its place in the round, its chance on paper, and whether it was taken."""
    import pandas

    from labkit.speculative import measure

    parts = {}
    for name, draft in drafts.items():
        parts[name] = pandas.DataFrame(measure.judged(target(), draft, _sampled(draft, asked, gamma)))
    return pandas.concat(parts, names=["draft"]).reset_index(level=0)


def _sampled(draft: Any, asked: Sequence[str], gamma: int) -> list[Any]:
    import labkit

    return [labkit.speculate(target(), draft, text, gamma, temperature=1.0, seed=i) for i, text in enumerate(asked)]


def diagonal(guesses: pandas.DataFrame) -> figures.Drawing:
    """The share of guesses that was taken, by their chance on paper in fifths."""
    from labkit.speculative import measure

    fifths = [part for _, part in guesses.groupby((guesses.chance * 5).astype(int).clip(upper=4))]
    points = [(part.chance.mean(), measure.share(part.itertuples())) for part in fifths]
    seen = figures.Line([(chance, s.middle) for chance, s in points], bands=[(s.low, s.high) for _, s in points])
    series = {"on paper": figures.Line([(0, 0), (1, 1)], "truth", "dash"), "seen": seen}
    note = f"share of {len(guesses):,} guesses of all drafts; 95% binomial bands"
    return figures.lines("Accepted", note, series, "1 - TV where the guess was made")


def alphas(guesses: pandas.DataFrame) -> pandas.DataFrame:
    """Acceptance by draft: on paper, and as it was seen with its 95% binomial band."""
    import pandas

    from labkit.speculative import measure

    rows = {name: (part.chance.mean(), *measure.share(part.itertuples())) for name, part in guesses.groupby("draft", sort=False)}
    return pandas.DataFrame(rows, ["on paper", "seen", "low", "high", "guesses"]).T.round(2).astype({"guesses": int})


def tokens_a_round(draft: Any, asked: Sequence[str]) -> pandas.DataFrame:
    """Tokens a round by number of guesses, as seen where the answer's end cut no round short, and with one chance for all."""
    import pandas

    from labkit.speculative import measure, theory

    rows = {}
    for gamma in (1, 2, 4, 6):
        roomy = (part := guesses({"": draft}, asked, gamma))[part.roomy]
        begun = sum(roomy.place == 1)
        rows[gamma] = {
            "one chance for all": theory.tokens_per_round(roomy.chance.mean(), gamma),
            "seen": 1 + roomy.taken.sum() / begun,
            "place 1 accepted": (places := measure.by_place(roomy.itertuples()))[0],
            "place 2, after 1": places[1] if len(places) > 1 else float("nan"),
            "rounds": begun,
        }
    return pandas.DataFrame(rows).T.rename_axis("guesses a round").round(2)


def speeds(drafts: Mapping[str, Any], asked: Sequence[str]) -> pandas.DataFrame:
    """Greedy decoding with each draft beside the target alone: in seconds here, and as if a pass cost as much as its parameters.

    The cost of a draft's pass is in passes of the target, in seconds on this machine.
    """
    import pandas

    import labkit
    from labkit.models import parameters
    from labkit.speculative import measure
    from labkit.speculative.decode import plain

    rows = {}
    for name, draft in drafts.items():
        pairs = [(plain(target(), text), labkit.speculate(target(), draft, text, GAMMA)) for text in asked]  # by turns
        alone, done = zip(*pairs, strict=True)
        passes, drafted = (sum(getattr(one, of) for one in done) for of in ("target_passes", "draft_passes"))
        rows[name] = {
            "accepted": measure.pooled(done).acceptance,
            "target's passes": passes,
            "draft's passes": drafted,
            "cost of a draft's pass": measure.cost_ratio(target(), draft, asked[:20]),
            "times as fast": sum(one.seconds for one in alone) / sum(one.seconds for one in done),
            "by parameters": sum(one.target_passes for one in alone) / (passes + drafted * parameters(draft) / parameters(target())),
        }
    return pandas.DataFrame(rows).T.round(2)


def place(guesses: pandas.DataFrame, drafts: Mapping[str, Any], asked: Sequence[str]) -> dict[str, float]:
    """Acceptance and cost of your draft, as the lens "speculation" takes them."""
    from labkit.speculative import measure

    alpha = guesses[guesses.draft == "yours"].chance.mean()
    return {"alpha": alpha, "cost": measure.cost_ratio(target(), drafts["yours"], asked[:20])}


def ways_to_train() -> figures.Drawing:
    """Acceptance of recorded drafts by what they were trained on."""
    grid = sweep("drafts")
    rows = []
    for arm in grid.arms:
        found = band([run.exam.fidelity["acceptance"] for run in grid.records(arm)])
        rows.append(figures.Interval(arm, *found[:3], "baseline" if arm in ("gold labels", "target's text") else "student"))
    note = "share of sampled guesses accepted, held-out questions; 95% bands, 3 seeds"
    return figures.intervals("Acceptance of a draft of 57k", note, rows)


def heads() -> figures.Drawing:
    """Tokens a round of new drafts and heads that were trained on equal rows."""
    raced = measured("guessers").groupby("guesser", sort=False).tokens_per_round
    rows = [figures.Interval(name, *band(list(part))[:3]) for name, part in raced if len(part) > 1]
    note = f"tokens a round of 4 greedy guesses, 3 seeds; {raced.max().max():.2f} is the most"
    return figures.intervals("New guessers of atlas-3m", note, rows, zero=1)


def heads_by_depth() -> pandas.DataFrame:
    """Share of right guesses of recorded heads, by how many tokens they guess ahead."""
    import pandas

    grid = sweep("heads")
    return pandas.DataFrame({arm: pandas.DataFrame([run.skills for run in grid.records(arm)]).mean() for arm in grid.arms}).T.round(2)


def real() -> figures.Drawing:
    """How many times as fast SmolLM2 decodes with each recorded head, three guesses a round."""
    told = measured("speculation")
    some = told[told.how == "gamma 3"]
    rows = [figures.Interval(row.draft, row.speedup, row.low, row.high) for row in some.itertuples()]
    note = "seconds alone divided by seconds with the head, prompts included; 95% bands over groups of 40 prompts"
    return figures.intervals("SmolLM2, times as fast", note, rows, zero=1)
