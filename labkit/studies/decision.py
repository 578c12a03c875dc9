"""What the result of a distillation says to do, in words: use the student, use the one on gold labels, use the student as it came, keep the
teacher, or it cannot tell.

decision = decide(done)                    # done: what `distill` returns
decision.verdict, decision.reasons         # "Use the distilled student.", and why
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from labkit.base.html import Html, listed, table, tag
from labkit.base.stats import NO_EFFECT, Band
from labkit.records.cost import cost
from labkit.records.events import Finished
from labkit.records.record import NO_GAP
from labkit.tasks.metrics import Score, better
from labkit.views.figures import Drawing, Interval, intervals

Distilled = Any  # `studies.distill.Distilled`, whose file imports this one
HALF = 0.5  # a student that went less of the way from where it started to the teacher does not stand for it
FELL = 0.9  # a held-out KL below this part of what it was has fallen
FEWEST = 20  # with fewer held-out prompts, "better" is often said of students that are alike
DIFFERENT = 6  # if fewer prompts differ, chance can make one side win all of them (two-sided sign test: 2 x 0.5^5 > 0.05)
HELD_OUT = 5  # one prompt in so many is held out for the exam
FIRST = 20  # steps whose loss is taken together
LONG = 160  # characters of a prompt or an answer that are shown
ROLES = {"untouched": "ghost", "gold labels": "baseline", "distilled": "student", "teacher": "teacher"}


class Decision(NamedTuple):
    """What to do, and why."""

    verdict: str
    reasons: tuple[str, ...]  # sentences; the exam's size and what it cannot tell come last

    def __str__(self) -> str:
        return "\n".join([f"Decision: {self.verdict}", *(f"  {reason}" for reason in self.reasons)])


def decide(done: Distilled) -> Decision:
    """The decision, from scores on the same held-out prompts. A difference counts if its 95% band leaves 0 out, and `DIFFERENT` prompts or
    more differ. Fewer prompts than `FEWEST` decide nothing."""
    scores = done.scores
    start, own, teacher = scores["untouched"], scores[done.own], scores.get("teacher")
    gold = scores.get("gold labels") if done.own == "distilled" else None
    judged = "gold labels" if gold is not None and gold.mean > own.mean else done.own  # the better student
    best = scores[judged]
    pair = (own, gold) if gold is not None else (own, start)
    size, beside, exam = done.smaller(), _against(own, gold, teacher), _exam(*pair)
    if better(*pair).n < FEWEST:
        return Decision("Cannot tell.", (beside, f"{exam} {_needed(better(*pair))}"))
    if not _more(best, start):
        return _not_better(done, judged)
    if teacher and _more(teacher, best) and best.mean - start.mean < HALF * (teacher.mean - start.mean):
        way = (best.mean - start.mean) / (teacher.mean - start.mean)
        return Decision("Keep the teacher.", (f"The better student went {way:.0%} of the way to the teacher. {beside}", exam))
    if gold is None and done.own == "distilled":
        fix = "Run the same again without --no-baseline."
        return Decision("Cannot tell.", (f"{beside} The same student on the gold labels alone was not measured. {fix}", exam))
    if gold is None:
        return Decision("Use the student.", (f"{beside}{size}", exam))
    if better(own, gold).verdict == "no practical effect":
        return Decision("Use the student on gold labels.", (f"It is as good, and needs no teacher. {beside}{size}", exam))
    if _more(own, gold):
        return Decision("Use the distilled student.", (f"{beside}{size}", exam))
    if _more(gold, own):
        return Decision("Use the student on gold labels.", (f"It scores more. {beside}{size}", exam))
    return Decision("Cannot tell.", (beside, f"{exam} {_needed(better(own, gold))}"))


def _not_better(done: Distilled, judged: str) -> Decision:
    """The decision if no training made the student better: between the teacher and the student as it came.

    judged: the better one of the trained students.
    """
    start, best, teacher = done.scores["untouched"], done.scores[judged], done.scores.get("teacher")
    learned, exam, worse = better(best, start), _exam(best, start), _more(start, best)
    told = _worse(done, judged, learned) if worse else _learning(done, judged)
    if teacher and _more(teacher, start):
        more = f"The teacher scores {_signed(better(teacher, start))} more than the student as it came."
        return Decision("Keep the teacher.", (told, more, exam))
    if teacher and (worse or better(teacher, start).verdict in ("worse", "no practical effect")):
        less = f"The teacher does not score more: {_signed(better(teacher, start))}."
        return Decision("Use the student as it came.", (*([told] if worse else []), less, exam))
    if worse:
        return Decision("Use the student as it came.", (told, exam))
    return Decision("Cannot tell.", (told, f"{exam} {_needed(learned)}"))


def _more(a: Score, b: Score) -> bool:
    """Whether one scores measurably more than another."""
    return better(a, b).low > 0 and _different(a, b) >= DIFFERENT


def _different(a: Score, b: Score) -> int:
    """The number of prompts on which two differ."""
    return len({prompt for prompt, differs in zip(a.prompts, (a.table_N_C != b.table_N_C).any(1), strict=True) if differs})


def _against(own: Score, gold: Score | None, teacher: Score | None) -> str:
    """The score of the run's student beside those of the others, in a sentence."""
    told = [f"The student scores {own.mean:.2f}"]
    told += [f"{_signed(better(own, gold))} against the same student on gold labels"] if gold is not None else []
    told += [f"{_signed(better(own, teacher))} against the teacher"] if teacher is not None else []
    return f"{'; '.join(told)}."


def _signed(band: Band) -> str:
    return f"{band.middle:+.2f}" if band.n < 2 else f"{band.middle:+.2f} ({band.low:+.2f} to {band.high:+.2f})"


def _scored(done: Distilled, judged: str) -> str:
    return f"It scores {done.scores[judged].mean:.2f}, and scored {done.scores['untouched'].mean:.2f} before training"


def _worse(done: Distilled, judged: str, learned: Band) -> str:
    """That training made a student worse."""
    fix = f"Try a lower --learning-rate than {done.experiment.learning_rate:g}."
    return f"Training made the student worse: {_signed(learned)}. {_scored(done, judged)}. {fix}"


def _learning(done: Distilled, judged: str) -> str:
    """Whether a student learned: its score and its loss, held out and in training, beside those before."""
    if judged != done.own:  # the losses on record are of the run's own student
        told, fix = _scored(done, judged), "Try more --steps, or another --learning-rate."
        return f"The better student, on gold labels, is not measurably better than before. {told}. {fix}"
    before, after, steps = done.grades["untouched"], done.grades[judged], done.record.steps
    (old, new), first, last = (g.fidelity.get("kl") for g in (before, after)), steps[:FIRST], steps[-FIRST:]
    losses = [sum(step.values["loss"] for step in some) / len(some) for some in (first[:1], last)]
    kl = old is not None and new is not None
    fell = new < FELL * old if kl else losses[1] < FELL * losses[0]
    told = _scored(done, judged)
    told += f"; its KL to the teacher on held-out prompts is {new:.2f}, and was {old:.2f}" if kl else ""
    told += f"; its loss in training went from {losses[0]:.2f} to {losses[1]:.2f}."
    if fell:
        return f"The student has begun to learn, in {len(steps)} steps, but its answers are not measurably better. {told} Try more --steps."
    return f"The student did not learn, in {len(steps)} steps. {told} Try more --steps, or another --learning-rate."


def _exam(a: Score, b: Score) -> str:
    """The size of the exam that compared two, and what it cannot tell."""
    found, different = better(a, b), _different(a, b)
    told = f"Exam: {found.n} held-out prompt{'s' * (found.n != 1)}. "
    if found.n < 2:
        return told + "One prompt tells no difference at all."
    told += f"It cannot tell a difference under \N{PLUS-MINUS SIGN}{(found.high - found.low) / 2:.2f} (95%, over prompts)."
    if found.n < FEWEST:
        return f"{told} With fewer than {FEWEST} prompts, a difference can come from chance."
    if different < DIFFERENT and not found.low <= 0 <= found.high:
        return f"{told} Only {different} of the prompts differ, which can come from chance."
    return told


def _needed(band: Band) -> str:
    """How much data would tell a difference of `NO_GAP`, or one as small as the exam shows: a band narrows with the root of the number of
    prompts."""
    if band.n < 2:
        return "Give some hundred rows with responses."
    half, most = (band.high - band.low) / 2, max(abs(band.low), abs(band.high))
    if most <= NO_GAP and band.n >= FEWEST:
        return f"The difference is smaller than {NO_GAP:g}: it hardly matters which of them you use."
    target = NO_GAP if half > NO_GAP else max(abs(band.middle), NO_EFFECT)
    wanted = max(band.n * (half / target) ** 2, band.n * 1.5 if half <= NO_GAP else 0, FEWEST)
    wanted, more = (_round(number) for number in (wanted, HELD_OUT * (wanted - band.n)))
    fix = f"give about {more:,} more rows with responses (one in {HELD_OUT} is held out)"
    return f"For {target:.2g} it takes about {wanted:,} prompts: {fix}."


def _round(number: float) -> int:
    """To two digits."""
    return int(float(f"{number:.2g}")) if math.isfinite(number) else 0


# ---- examples, money, and the head of a report ---------------------------------------------------------------------------------------


def line(text: str) -> str:
    """A text of others in one line, cut."""
    flat = " ".join(text.split())
    return flat if len(flat) <= LONG else f"{flat[:LONG]}\N{HORIZONTAL ELLIPSIS}"


def examples(done: Distilled) -> str:
    """The first held-out prompts, each with the answers before training, after it, and of the teacher."""
    told = [f"The first {len(done.shown)} held-out prompts, before and after:"]
    for row in done.shown:
        told += [f"  {name:16}{line(text)}" for name, text in row.items()]
        told.append("")
    return "\n".join(told).rstrip()


def money(done: Distilled) -> str:
    """The cost of the run, in a sentence; "" for one that did not finish."""
    if not isinstance(done.record.finished, Finished):
        return ""
    return f"Cost of this run: {cost(done.record).in_money()}."


def head(done: Distilled, shown: bool) -> Html:
    """The head of a report: the decision, the scores with their bands, and held-out rows.

    shown: whether held-out rows are shown.
    """
    decision, scores = decide(done), done.table()
    parts = [tag("p", tag("strong", decision.verdict), style="font-size:1.3rem;margin-bottom:.3rem"), listed(decision.reasons)]
    rows = [
        (name, *(None if cell != cell else cell for cell in row)) for name, row in zip(scores.index, scores.values.tolist(), strict=True)
    ]
    parts += [tag("h2", "Scores on held-out prompts"), tag("div", table(["model", *scores.columns], rows, digits=2), class_="wide")]
    parts.append(listed(done.verdict().splitlines()))
    if shown and done.shown:
        parts += [tag("h2", "Before and after"), tag("p", f"The first {len(done.shown)} of {asked(done)} held-out prompts:")]
        parts += [tag("dl", *(tag("dt", name) + tag("dd", line(text)) for name, text in row.items())) for row in done.shown]
    return Html("".join(parts))


def asked(done: Distilled) -> int:
    """The number of held-out prompts."""
    return len(done.grades[done.own].answers)


def picture(done: Distilled, names: dict[str, str]) -> Drawing:
    """The scores with their bands.

    names: of the models.
    """
    rows = []
    for name, score in done.scores.items():
        middle, low, high, _ = score.band
        rows.append(Interval(names[name], middle, low, high, ROLES[name]))
    return intervals(f"Score ({done.metric})", f"on {asked(done)} held-out prompts, with 95% bands over prompts", rows)
