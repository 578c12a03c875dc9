"""What lesson 07 shows: students with other tokens, other questions or another architecture than their teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

import labkit
from labkit.base.stats import band
from labkit.lessons.figures.tables import Table
from labkit.records.record import Record, core, mean, paired
from labkit.studies.claims.data import mean_of
from labkit.studies.claims.mismatch import ARCHITECTURES, LACKS, WAYS, lost, of_task
from labkit.tasks.atlas.facts import Atlas
from labkit.views import figures
from labkit.views.figures.token_table import shown

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

    from labkit.studies.run import Run

QUESTIONS = ("What is the capital of Peru?", "What is 3 + 4?", "Name a neighbour of France.")
NEIGHBOUR = "Name a neighbour of France."


def by_number(by_spans: LlamaForCausalLM, run: Run) -> Table:
    """The answers of a student taught by spans and of one taught by token number, and the loss of the second.

    run: of the second student; it is read to its end.
    """
    losses = Record(run).curve("loss")[1]
    rows = [[text, *(labkit.ask(model, text).answer for model in (by_spans, run.student))] for text in QUESTIONS]
    rows.append(["loss, first and last step", "", f"{losses[0]:.2f} and {losses[-1]:.2f} nats"])
    return Table(["question", "taught by spans", "taught by number"], rows)


def ways() -> figures.Drawing:
    """Mean core skill of one student for every way across, beside its teacher's own tokens; the line is the sampled text alone."""
    grid = labkit.sweep("vocabulary")
    arms = {"text": "text, sampled", "greedy text": "text, greedy"} | WAYS
    arms |= {"same vocabulary, text": "own tokens: text, sampled", "same vocabulary": "own tokens: probabilities"}
    return _scores(arms, {arm: grid.records(arm) for arm in arms}, "Every way across", "text")


def architectures() -> figures.Drawing:
    """Mean core skill of students of three architectures on the same teacher's soft labels."""
    grid, names = labkit.sweep("architecture"), {"llama": "Llama, like the teacher"} | ARCHITECTURES
    return _scores(names, {arm: grid.records(arm) for arm in names}, "Another architecture", "llama")


def _scores(names: dict[str, str], runs: dict[str, list[Record]], title: str, line: str) -> figures.Drawing:
    found = {arm: band([core(run) for run in some]) for arm, some in runs.items()}
    rows = [figures.Interval(name, *found[arm][:3], "baseline" if arm == line else "student") for arm, name in names.items()]
    return figures.intervals(title, "mean core skill; 95% bands, 3 seeds", rows, zero=found[line].middle)


def over_gold() -> Table:
    """What each architecture gains from the teacher over the same student on its gold labels alone."""
    grid, names = labkit.sweep("architecture"), {"llama": "Llama"} | ARCHITECTURES
    rows = []
    for arm, name in names.items():
        pairs = [(mean(run.scores["label budget"]), core(run)) for run in grid.records(arm)]
        gold, soft = (sum(scores) / len(scores) for scores in zip(*pairs, strict=True))
        gain = band([student - without for without, student in pairs])
        rows.append([name, gold, soft, gain.middle, f"{gain.low:.2f} to {gain.high:.2f}"])
    return Table(["architecture", "300 gold labels", "the teacher's soft labels", "gain", "95% band, 3 seeds"], rows)


def false_zero() -> Table:
    """What a teacher and a copy with its vocabulary shuffled would say next, and two losses between them."""
    import torch

    from labkit.losses.cross_tokenizer.spans import uld_loss
    from labkit.models import tokenizer

    own, teacher = tokenizer(), labkit.teacher("atlas-3m")
    logits = teacher(torch.tensor(own.prompts([NEIGHBOUR]))).logits[:, -1].detach()
    shuffled = logits[:, torch.randperm(own.size, generator=torch.Generator().manual_seed(0))]
    likeliest = [", ".join(own.token(int(t)).strip() for t in said[0].topk(5).indices) for said in (logits, shuffled)]
    losses = f"{float(uld_loss(logits, shuffled)):.3f}", f"{float(labkit.divergence('forward_kl')(logits, shuffled)):.1f} nats"
    rows = zip(
        ("the teacher's five likeliest", "the shuffled five", "ULD between both", "KL between both"), (*likeliest, *losses), strict=True
    )
    return Table(["", NEIGHBOUR], [list(row) for row in rows])


def spelled() -> Table:
    """The likeliest spellings of one answer in the teacher's tokens, and what all the others add."""
    from labkit.teachers.cross_tokenizer_pool import spellings

    found = spellings(labkit.teacher("atlas-3m"), "What is the capital of Chad?", "N'Djamena")
    rows = [[" | ".join(map(shown, cut)), f"{p:.2f}" if p > 0.01 else f"{p:.0e}"] for cut, p in list(found.items())[:3]]
    rows.append([f"the other {len(found) - 3} together", f"{sum(list(found.values())[3:]):.0e}"])
    return Table(["spelling", "probability"], rows)


def exact_targets() -> Table:
    """The next tokens that a student with other tokens should write, and their probabilities, while it spells "Spain"."""
    from labkit.losses.cross_tokenizer.spans import next_tokens
    from labkit.models import tokenizer
    from labkit.teachers.cross_tokenizer_pool import answers_of

    other = tokenizer("other")
    (texts,) = answers_of(labkit.teacher("atlas-3m"), tokenizer().prompts([NEIGHBOUR]))
    spelled = other.answers(["Spain"])[0]
    targets = next_tokens([([*other.cut(text), 0], p) for text, p in texts.items()], spelled)
    rows, written = [], ""
    for target, token in zip(targets, spelled, strict=True):
        likely = sorted(target.items(), key=lambda found: -found[1])[:5]
        rows.append([written or "nothing", ", ".join(f"{shown(other.pieces[t])} {p:.2f}" for t, p in likely)])
        written += shown(other.pieces[token])
    return Table(["written so far", "next token, and its probability"], rows)


def smaller_vocabularies() -> figures.Drawing:
    """What a way across adds to the text alone, for students with 384 tokens or with bytes."""
    grid, rows = labkit.sweep("vocabulary_sizes"), []
    for kind, words in (("small", "384 tokens"), ("bytes", "bytes")):
        for arm in [arm for arm in grid.arms if arm.startswith(kind) and not arm.endswith("text")]:
            found = paired(grid.records(arm), grid.records(f"{kind}, text"))
            rows.append(figures.Interval(f"{words}: {WAYS[arm.removeprefix(f'{kind}, ')]}", *found[:3], "student", found.verdict))
    return figures.intervals("What a way across adds", "mean core skill minus that of the text alone; 95% bands, 3 seeds", rows, zero=0)


def holes() -> Table:
    """For each thing left out of the questions: how many stay, how many of it are right with and without, and the recovery of both."""
    from labkit.studies.behaviour import lacks

    asked, grid, rows = Atlas("half").questions(4_000, 7), labkit.sweep("task"), []
    for start in ("random", "warm"):
        for name, words in LACKS.items():
            left = sum(lacks(question, name) for question in asked) / len(asked)
            right = [mean_of(of_task(who, start, name)) for who in ("all covered", "left out")]
            whole = [[run.recovery().mean for run in grid.records(start=start, left_out=out)] for out in ("nothing", name)]
            rows.append([f"{words}, {start} start", f"{left:.0%}", *right, *(sum(some) / len(some) for some in whole)])
    return Table(["left out", "share of questions", "right on it: asked", "not asked", "recovery: asked", "not asked"], rows)


def losses() -> figures.Drawing:
    """What is lost on the part left out, and on the rest."""
    rows = [
        figures.Interval(f"{side}: {words}, {start} start", *lost(start, name, of)[:3])
        for of, side in (("missing", "on it"), ("rest", "on the rest"))
        for start in ("random", "warm")
        for name, words in LACKS.items()
    ]
    return figures.intervals("What is lost", "share right if asked, minus if not asked; 95% bands, 3 seeds", rows, zero=0)
