"""Figures of lesson 01: a soft target beside sampled answers, what labels are worth, and a continent that was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labkit.lessons.figures.tables import Table
from labkit.records.measurements import measured
from labkit.records.record import Record, mean, paired
from labkit.studies.claims import ONE_ANSWER, runs_of
from labkit.studies.sweep import sweep
from labkit.views import figures

if TYPE_CHECKING:
    from labkit.models.architectures import LanguageModel

ROLES = {"hard answers": ("baseline", ""), "soft labels, T = 1": ("student", ""), "soft labels, T = 4": ("student", "dash")}
LOGITS = (4, 3, -1, -3)
ARTICLE: dict[float, Sequence[float]] = {1: (0.708, 0.260, 0.005, 0.0006), 3: (0.452, 0.324, 0.121, 0.062)}  # as printed, by T


def samples(question: str, count: int, seed: int = 0) -> figures.Drawing:
    """The teacher's likeliest first tokens of an answer, and how often each came up among some sampled answers.

    count: sampled answers.
    """
    import torch

    import labkit
    from labkit.models import tokenizer, write

    teacher, prompt = labkit.teacher("atlas-3m"), tokenizer().prompts([question])
    with torch.no_grad():
        probabilities = teacher(torch.tensor(prompt)).logits[0, -1].softmax(-1)
    top = probabilities.topk(9).indices.tolist()
    seen = Counter(said.ids[0] for said in write(teacher, prompt * count, temperature=1.0, seed=seed))
    asked = labkit.Atlas().find(question)
    begins = {tokenizer().answers([answer])[0][0]: answer for answer in (asked.answers if asked else ())}

    def name(token: int) -> str:
        piece = tokenizer().token(token).strip()
        whole = begins.get(token, "" if asked else piece)
        return piece if whole == piece else f"{piece}\u2026 ({whole})" if whole else f"{piece} (not taught)"

    soft, hard = probabilities[top].tolist(), [seen[token] / count for token in top]

    return figures.bars(
        question,
        f"first token of the answer: soft target (teacher, upper bars), share of {count} hard labels (lower bars)",
        [*map(name, top), "all other tokens"],
        {"teacher": [*soft, 1 - sum(soft)], "baseline": [*hard, 1 - sum(hard)]},
    )


def labels() -> figures.Drawing:
    """What 4 and 16 sampled answers a question, and soft labels, are worth beside one sampled answer."""
    grid = sweep("soft")
    one = runs_of(grid, "1 answer")
    scores: dict[str, Callable[[Record], float]] = {
        "one right answer: share right": lambda r: mean(r.skills, ONE_ANSWER),
        "many: mass on right answers": lambda r: r.exam.open["validity"],
        "agreement with the teacher": lambda r: r.exam.fidelity["agreement"],
    }
    rows = []
    for name, score in scores.items():
        for arm in ("4 answers", "16 answers", "soft labels"):
            role = "student" if arm == "soft labels" else "baseline"
            rows.append(figures.Interval(f"{name}; {arm}", *paired(runs_of(grid, arm), one, score)[:3], role))
    note = "score minus that of one sampled answer a question; 95% bands, 5 seeds; right of the line is better"
    return figures.intervals("What more labels a question are worth", note, rows, zero=0)


def recalled(student: LanguageModel, continent: str, biases: Sequence[float]) -> Table:
    """Where a student places the countries of a continent that it was never told of, and the others.

    biases: on the continent's name, in nats.

    Raises `LabError` for an unknown continent.
    """
    import labkit
    from labkit.studies.behaviour import left_out

    found = left_out(student, labkit.Atlas("half"), continent, biases)
    rows = [[f"{one.bias:g} nats", one.recall, one.others] for one in found]
    return Table(["bias on the name", f"countries of {continent} placed there", "other countries placed right"], rows)


def biases() -> figures.Drawing:
    """Recall of the continent that was left out, by the bias on its name."""
    told = measured("left_out").groupby(["arm", "bias"])["recall"].mean()
    series = {arm: figures.Line(list(told.loc[arm].items()), *look) for arm, look in ROLES.items()}
    note = "share of South American countries that the student places there; mean of 5 recorded seeds"
    return figures.lines("What a bias brings back", note, series, "bias on the name South America, in nats")


def balance() -> Table:
    """Each kind of label at its best bias: recall of South America, of the other continents, and their mean."""
    told = measured("left_out").groupby(["arm", "bias"])[["recall", "others"]].mean()
    told["balanced"] = told.mean(axis=1)
    best = told.loc[told.groupby("arm").balanced.idxmax()]
    rows = [[arm, f"{bias:g}", *row] for (arm, bias), row in zip(best.index, best.to_numpy().tolist(), strict=True)]
    return Table(["labels", "best bias, nats", "South America", "the others", "mean of both (a guess: 0.5)"], rows)


def article() -> Table:
    """The article's softened logits, as printed and as computed."""
    from labkit.losses.temperature import check_printed_softmax

    rows = []
    for found in check_printed_softmax(LOGITS, ARTICLE):
        for which, values in (("printed", found.printed), ("computed", found.right)):
            rows.append([f"T = {found.temperature:g}, {which}", *values, sum(values)])
    return Table(["softmax of", *(f"{logit}".replace("-", "\u2212") for logit in LOGITS), "sum"], rows, digits=4)
