"""A record as finished figures: each chart is written once, for a pen that draws in matplotlib or in plotly.

    figures.waterfall(rec)                            # gold labels -> hard answers -> soft labels -> teacher
    figures.curves(rec, previous=old).save("kl.png")  # a Drawing: shows itself with its alt text, and saves
    figures.recovery(rec, backend="plotly").figure    # the plotly figure itself
    figures.snapshot(rec)                             # all three on one page; figures.describe(rec) says them in words

Nothing is read from matplotlib's global state, so a notebook's style cannot change a figure and any thread may draw one.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from labkit import events as ev
from labkit.atlas import BESIDE, CORE
from labkit.errors import LabError, need, unknown
from labkit.pens import HAIR, INK, MUTED, PALETTE, PAPER, MatplotlibPen, Pen, PlotlyPen, tint
from labkit.record import NO_GAP, Record, mean

BACKENDS = ("matplotlib", "plotly")
ARM_COLOURS = ("baseline", "baseline", "student", "teacher")
SOFT = {"output": "soft labels", "answers": "hard answers", "gold": "gold labels"}
SKILL_WORDS = {"two_hop": "two-hop", "two_hop_steps": "two-hop, in steps"}
KNOB_WORDS = {"temperature": "T", "learning_rate": "lr"}
LABEL_BUDGET, SAME_QUESTIONS = "label budget", "same questions"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A finished figure (matplotlib's or plotly's) and the same in words, for whoever does not see it."""

    figure: Any
    alt: str

    def __repr__(self) -> str:
        return f"Drawing({self.alt!r})"

    def png(self, dpi: float = 144) -> bytes:
        if hasattr(self.figure, "to_plotly_json"):
            try:
                return self.figure.to_image("png", scale=dpi / 96)
            except (ImportError, ValueError, RuntimeError):
                raise need("kaleido", "a PNG of a plotly figure") from None
        return MatplotlibPen.png(self.figure, dpi)

    def save(self, path: str | Path) -> Path:
        """Write a PNG, or for plotly an HTML page if the name ends in .html."""
        path = Path(path)
        plotly = hasattr(self.figure, "to_plotly_json")
        if path.suffix not in ((".png", ".html") if plotly else (".png",)):
            raise LabError(
                f"cannot save a figure as {path.name!r}: use a name that ends in .png{' or .html' * plotly}."
            )
        path.write_bytes(self.figure.to_html().encode() if path.suffix == ".html" else self.png())
        return path

    def _repr_html_(self) -> str:
        if hasattr(self.figure, "to_plotly_json"):
            page = self.figure.to_html(full_html=False, include_plotlyjs="cdn")
            return f'<div role="img" aria-label="{html.escape(self.alt)}">{page}</div>'
        width, data = round(self.figure.get_figwidth() * 100), base64.b64encode(self.png()).decode()
        return f'<img alt="{html.escape(self.alt)}" width="{width}" style="max-width:100%" src="data:image/png;base64,{data}">'

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        if hasattr(self.figure, "to_plotly_json"):
            return {**self.figure._repr_mimebundle_(), "text/plain": self.alt}
        return {"text/html": self._repr_html_(), "text/plain": self.alt}


# ---- the figures -----------------------------------------------------------------------------------------------------


def waterfall(record: Record, backend: str = "matplotlib") -> Drawing:
    """Mean core skill of the four arms, in their fixed order, each with its step from the arm before it."""
    return _finish(backend, 7.4, 3.3, lambda pen: draw_waterfall(pen, record), say_waterfall(record))


def curves(record: Record, *, previous: Record | None = None, backend: str = "matplotlib") -> Drawing:
    """KL to the teacher against step: training, held-out exams, the baselines, the `previous` run and the knobs turned."""
    return _finish(backend, 7.4, 4.2, lambda pen: draw_curves(pen, record, previous), say_curves(record, previous))


def recovery(record: Record, baseline: str = LABEL_BUDGET, *, backend: str = "matplotlib") -> Drawing:
    """Baseline, student and teacher on every skill, and how much of the way between them the student went."""
    return _finish(backend, 7.4, 4.6, lambda pen: draw_recovery(pen, record, baseline), say_recovery(record, baseline))


def snapshot(record: Record, *, previous: Record | None = None) -> Drawing:
    """The three on one page (matplotlib): what a lesson ends with."""
    figure = _need_matplotlib(MatplotlibPen.canvas, 13.0, 7.6)
    headline(figure, record)
    draw_curves(MatplotlibPen(figure, (0.0, 0.405, 0.52, 0.515)), record, previous)
    draw_waterfall(MatplotlibPen(figure, (0.0, 0.04, 0.52, 0.35)), record)
    draw_recovery(MatplotlibPen(figure, (0.545, 0.04, 0.455, 0.88)), record)
    return Drawing(figure, describe(record, previous))


def describe(record: Record, previous: Record | None = None) -> str:
    """The snapshot in sentences."""
    return " ".join((say_outcome(record), say_curves(record, previous), say_waterfall(record), say_recovery(record)))


def _finish(backend: str, width: float, height: float, draw: Callable[[Pen], None], alt: str) -> Drawing:
    if backend not in BACKENDS:
        raise unknown("backend", backend, BACKENDS)
    if backend == "plotly":
        try:
            pen: Pen = PlotlyPen(width, height, alt)
        except ImportError:
            raise need("plotly", "a figure with backend='plotly'") from None
    else:
        pen = MatplotlibPen(_need_matplotlib(MatplotlibPen.canvas, width, height))
    draw(pen)
    return Drawing(pen.figure, alt)


def _need_matplotlib(make: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return make(*arguments)
    except ImportError:
        raise need("matplotlib", "a figure") from None


def headline(figure: Any, record: Record) -> None:
    """Over a snapshot: who was run and what came of it, in one sentence; under it: the recipe and the machine."""
    if record.started is None:
        raise LabError("this record is empty, so there is nothing to draw: a record begins with its 'started' event.")
    pen = MatplotlibPen(figure, head=0.0)
    pen.frame((0, 1), (0, 1))
    pen.text(0.012, 0.968, shown(record.started.title, 110), size=15, bold=True)
    pen.text(0.012, 0.930, say_outcome(record), size=10.5)
    pen.text(0.012, 0.014, shown(f"{record.experiment.recipe}  \u00b7  {record.started.machine}", 190), MUTED, size=8)


def say_outcome(record: Record) -> str:
    """How far the run came, and how good the student is, in one or two sentences."""
    end, step = record.finished, record.steps[-1].step if record.steps else 0
    if isinstance(end, ev.Failed):
        lead = f"Failed at step {end.step:,}: {shown(end.message, 70)}"
    else:
        reason = "unfinished" if end is None else "finished" if end.reason == "completed" else "stopped"
        lead = f"{reason.capitalize()} at step {step:,} after {record.steps[-1].seconds if record.steps else 0:,.0f} s"
    _, low, student, high, share = recovery_rows(record)[0][0]
    if student is None:
        return f"{lead}; no exam yet."
    of = f" of the teacher's {high:.2f}" if high is not None else ""
    way = f", {share} of the way from the {LABEL_BUDGET} baseline's {low:.2f}" if share.endswith("%") else ""
    return f"{lead}. Mean core skill {student:.2f}{of}{way}."


# ---- the waterfall ---------------------------------------------------------------------------------------------------


def draw_waterfall(pen: Pen, record: Record) -> None:
    pen.frame((-0.80, 1.24), (-3.95, 0.62))
    pen.title("From gold labels to the teacher", "mean core skill, each step from the last measured arm above it")
    for tick in (0, 0.25, 0.5, 0.75, 1):
        pen.line([tick, tick], [0.45, -3.45], HAIR, 0.8)
        pen.text(tick, -3.72, f"{tick:g}", MUTED, "center", 8)
    before = None
    arms = zip(record.waterfall().values(), _arm_names(record), ARM_COLOURS, strict=True)
    for y, (value, (name, note), role) in enumerate(arms):
        y, colour = -float(y), PALETTE[role]
        pen.text(-0.03, y, name, colour if value is not None else MUTED, "right", 9.5, bold=True, dy=6)
        pen.text(-0.03, y, note, MUTED, "right", 8, dy=-6)
        if value is None:
            pen.hatch(0, 1, y, 0.5, name)
            pen.text(0.5, y, "not measured", MUTED, "center", 8.5, boxed=True)
            continue
        start = before if before is not None else 0.0
        pen.bar(0, value, y, 0.5, tint(colour, 0.3 if before is not None else 1.0), name)
        if before is not None:
            pen.line([before, before], [above, y - 0.25], MUTED, 0.9, "dot")
            pen.bar(min(start, value), max(start, value), y, 0.5, colour if value >= start else PAPER, edge=colour)
        pen.text(max(start, value), y, f"{value:.2f}", colour, "left", 10, bold=True, dx=7)
        if before is not None:
            pen.text(max(start, value), y, signed(value - before), INK, "left", 9, dx=39)
        before, above = value, y - 0.25


def _arm_names(record: Record) -> list[tuple[str, str]]:
    exp = record.experiment
    gold, hard = (record.references.get(name) for name in (LABEL_BUDGET, SAME_QUESTIONS))
    so_far = f", at step {record.evaluations[-1].step:,}" if record.evaluations and not record.complete else ""
    return [
        ("gold labels", f"label budget: {exp.gold:,}{seeds_of(gold)}"),
        ("hard answers", f"the teacher's, as labels{seeds_of(hard)}"),
        (f"{SOFT[exp.method]} (this run)", f"{exp.student} student, seed {exp.seed}{so_far}"),
        ("teacher", shown(exp.teacher, 30)),
    ]


def say_waterfall(record: Record) -> str:
    parts, before = [], None
    for value, (name, note) in zip(record.waterfall().values(), _arm_names(record), strict=True):
        step = f", a step of {signed(value - before)}" if value is not None and before is not None else ""
        parts.append(f"{name} ({note}) {'not measured' if value is None else f'{value:.2f}'}{step}")
        before = before if value is None else value
    return f"Mean core skill of four arms: {'; '.join(parts)}."


# ---- the curves ------------------------------------------------------------------------------------------------------


def draw_curves(pen: Pen, record: Record, previous: Record | None = None) -> None:
    lines = _curve_lines(record, previous)
    exams = positive([(e.step, e.fidelity.get("kl")) for e in record.evaluations])
    total = record.started.steps if record.started else 0
    longest = float(max([total, 1, *(x for line in lines for x in line[1])]))
    low, high = log_domain([v for line in lines for v in line[2]] + [v for _, v in exams])

    def level(fraction: float) -> float:
        return low * (high / low) ** fraction

    pen.frame((-0.115 * longest, 1.34 * longest), (level(-0.16), level(1.16)), log=True)
    pen.title("KL to the teacher", "nats per answer token at temperature 1, log scale")
    for tick in ticks(low, high):
        pen.line([0, longest], [tick, tick], HAIR, 0.8)
        pen.text(0, tick, f"{tick:g}", MUTED, "right", 8, dx=-6)
    for tick in step_ticks(longest):
        pen.text(tick, level(-0.065), f"{tick:,.0f}", MUTED, "center", 8)
    pen.text(longest, level(-0.065), "steps", MUTED, "left", 8, dx=16)
    busy = [-math.inf, -math.inf]
    for knob in (e for e in record.events if isinstance(e, ev.KnobTurned)):
        pen.line([knob.step, knob.step], [low, level(1.14)], MUTED, 0.8, "dot")
        row = next((i for i, end in enumerate(busy) if end < knob.step), None)
        if row is not None:
            words = f"{KNOB_WORDS.get(knob.name, shown(knob.name, 18))} {_number(knob.old)} \u2192 {_number(knob.new)}"
            pen.text(knob.step, level(1.12 - 0.065 * row), words, INK, "left", 8.5, dx=4, boxed=True)
            busy[row] = knob.step + longest * (0.03 + 0.017 * len(words))
    ends = []
    for name, xs, ys, colour, width, dash, alpha in lines:
        pen.line(xs, ys, colour, width, dash, alpha, name)
        if name and xs:
            ends.append((math.log(ys[-1] / low) / math.log(high / low), name, colour, name == "student"))
    if exams:
        pen.dots([x for x, _ in exams], [y for _, y in exams], PALETTE["student"], "o", 6, "held-out exam", hollow=True)
        ends.append(
            (math.log(exams[-1][1] / low) / math.log(high / low), "\u25cb held-out exam", PALETTE["student"], False)
        )
    for at, (_, name, colour, bold) in zip(
        spread([e[0] for e in sorted(ends)], 0.068, -0.02, 1.0), sorted(ends), strict=True
    ):
        pen.text(longest, level(at), name, MUTED if colour == PALETTE["ghost"] else colour, "left", 9, bold=bold, dx=8)
    if not lines and not exams:
        pen.text(longest / 2, level(0.5), "no KL on record yet", MUTED, "center", 9.5, boxed=True)


def _curve_lines(
    record: Record, previous: Record | None
) -> list[tuple[str, list[float], list[float], str, float, str, float]]:
    """Name, xs, ys, colour, width, dash, opacity; what was measured is faint, its running mean is strong and named."""
    lines: list[tuple[str, list[float], list[float], str, float, str, float]] = []

    def add(
        name: str, points: list[tuple[float, float]], role: str, width: float, dash: str = "", alpha: float = 1.0
    ) -> None:
        if points:
            lines.append((name, [x for x, _ in points], [y for _, y in points], PALETTE[role], width, dash, alpha))

    for name, dash in ((LABEL_BUDGET, "dash"), (SAME_QUESTIONS, "dot")):
        if name in record.references:
            add(f"{name} baseline", positive(record.references[name].curve), "baseline", 1.5, dash)
    if previous is not None:
        add("previous run", smooth(positive(zip(*previous.curve("kl"), strict=True))), "ghost", 1.5)
    points = positive(zip(*record.curve("kl"), strict=True))
    add("", points, "student", 0.7, alpha=0.35)
    add("student", smooth(points), "student", 2.0)
    return lines


def say_curves(record: Record, previous: Record | None = None) -> str:
    points = positive(zip(*record.curve("kl"), strict=True))
    parts = []
    if points:
        now = smooth(points)[-1]
        verb = "fell" if now[1] < points[0][1] else "went"
        parts.append(f"training, smoothed, {verb} from {points[0][1]:.2g} to {now[1]:.2g} at step {now[0]:,.0f}")
    exams = positive([(e.step, e.fidelity.get("kl")) for e in record.evaluations])
    if exams:
        parts.append(f"the held-out exam at step {exams[-1][0]:,.0f} gave {exams[-1][1]:.2g}")
    for name in (LABEL_BUDGET, SAME_QUESTIONS):
        curve = positive(record.references[name].curve) if name in record.references else []
        parts += [f"the {name} baseline ended at {curve[-1][1]:.2g}"] if curve else []
    ghost = positive(zip(*previous.curve("kl"), strict=True)) if previous else []
    parts += [f"the previous run ended at {smooth(ghost)[-1][1]:.2g}"] if ghost else []
    for knob in (e for e in record.events if isinstance(e, ev.KnobTurned)):
        parts.append(
            f"{shown(knob.name, 18)} went from {_number(knob.old)} to {_number(knob.new)} at step {knob.step:,}"
        )
    return f"KL to the teacher in nats per answer token, log scale: {'; '.join(parts) or 'nothing on record yet'}."


# ---- recovery by skill -----------------------------------------------------------------------------------------------


def draw_recovery(pen: Pen, record: Record, baseline: str = LABEL_BUDGET) -> None:
    rows, note = recovery_rows(record, baseline)
    bottom = -(len(rows) + 0.75)
    pen.frame((-0.68, 1.76), (bottom - 0.8, 0.95))
    pen.title("Recovery by skill", note)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        pen.line([tick, tick], [-0.45, bottom], HAIR, 0.8)
        pen.text(tick, bottom - 0.42, f"{tick:g}", MUTED, "center", 8)
    if not any(value is not None for row in rows for value in row[1:4]):
        pen.text(0.5, bottom / 2, "no exam on record yet", MUTED, "center", 9.5, boxed=True)
        return
    looks = (("baseline", "s"), ("teacher", "D"), ("student", "o"))
    heads = sorted(
        (v, role) for v, (role, _) in zip((rows[0][1], rows[0][3], rows[0][2]), looks, strict=True) if v is not None
    )
    for at, (_, role) in zip(spread([h[0] for h in heads], 0.21, 0.0, 1.02), heads, strict=True):
        pen.text(at, 0.55, role, PALETTE[role], "center", 9, bold=True)
    pen.text(1.36, 0.55, "recovery", MUTED, "right", 8)
    pen.text(1.74, 0.55, "score, 0 to 1", MUTED, "right", 8)
    y = 0.0
    for i, (name, low, student, high, share) in enumerate(rows):
        if name == BESIDE[0]:
            pen.text(-0.03, y - 0.1, "beside it, not in the mean", MUTED, "right", 8)
            pen.line([-0.66, 1.74], [y + 0.45, y + 0.45], HAIR, 0.8)
            y -= 0.9
        size = 9.0 if i == 0 else 6.5
        pen.text(-0.03, y, "mean of core skills" if i == 0 else skill_name(name), INK, "right", 9.5, bold=i == 0)
        if low is not None and high is not None:
            pen.line([low, high], [y, y], HAIR, 3.5)
        if low is not None and student is not None:
            pen.line([low, student], [y, y], PALETTE["student"], 2.5, alpha=0.45)
        for value, (role, marker) in zip((low, high, student), looks, strict=True):
            if value is not None:
                pen.dots(
                    [value],
                    [y],
                    PALETTE[role],
                    marker,
                    size if role == "student" else size - 1.0,
                    f"{role}, {skill_name(name)}",
                )
        pen.text(1.36, y, share, PALETTE["student"] if share.endswith("%") else MUTED, "right", 9.5, bold=i == 0)
        scores = [f"{v:.2f}" for v in (student, high) if v is not None]
        pen.text(1.74, y, " of ".join(scores) if student is not None else "", MUTED, "right", 8.5)
        y -= 1.25 if i == 0 else 1.0


Row = tuple[str, float | None, float | None, float | None, str]


def recovery_rows(record: Record, baseline: str = LABEL_BUDGET) -> tuple[list[Row], str]:
    """(skill, baseline, student, teacher, recovery in words) with the mean first; and the line that names the baseline."""
    reference, teacher = (r.skills if (r := record.references.get(n)) else None for n in (baseline, "teacher"))
    student = record.skills if record.evaluations else None
    missing = [name for name, scores in ((f"{baseline!r} baseline", reference), ("teacher", teacher)) if scores is None]
    shares: dict[str, float | None] = {}
    if not missing and student is not None:
        found = record.recovery(baseline)
        shares = {"mean": found.mean if math.isfinite(found.mean) else None, **found.per_skill}

    def row(name: str, of: Sequence[str]) -> Row:
        low, middle, high = (mean(scores, of) if scores else None for scores in (reference, student, teacher))
        share = shares.get(name, math.nan)
        return (
            name,
            low,
            middle,
            high,
            "no gap" if share is None else "" if math.isnan(share) else f"{100 * share:.0f}%".replace("-", "\u2212"),
        )

    rows = [row("mean", CORE), *(row(skill, [skill]) for skill in (*CORE, *BESIDE))]
    if missing:
        return rows, f"no {' and no '.join(missing)} on record: recovery is not shown"
    where = f"baseline: {baseline}{seeds_of(record.references[baseline])}"
    return rows, f"{where}; no gap: the teacher is less than {NO_GAP:g} above it"


def say_recovery(record: Record, baseline: str = LABEL_BUDGET) -> str:
    rows, note = recovery_rows(record, baseline)

    def tell(row: Row) -> str:
        name, low, student, high, share = row
        scores = [
            f"{role} {v:.2f}"
            for role, v in (("baseline", low), ("student", student), ("teacher", high))
            if v is not None
        ]
        return f"{'mean of core skills' if name == 'mean' else skill_name(name)}: {', '.join(scores) or 'not measured'}{f' ({share})' if share else ''}"

    return f"Scores by skill, and recovery in brackets ({note}). " + "; ".join(map(tell, rows)) + "."


# ---- small parts -----------------------------------------------------------------------------------------------------


def skill_name(skill: str) -> str:
    return SKILL_WORDS.get(skill, shown(skill, 30).replace("_", " "))


def seeds_of(reference: ev.Reference | None) -> str:
    return f", mean of {reference.seeds} seeds" if reference and reference.seeds > 1 else ""


def signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "\u2212")


def shown(text: object, most: int) -> str:
    """Text of unknown origin, for display: control and text-direction characters out, length bounded."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return clean if len(clean) <= most else clean[: most - 1] + "\u2026"


def positive(points: Any) -> list[tuple[float, float]]:
    """The points a log axis can show."""
    return [(x, y) for x, y in points if y is not None and math.isfinite(y) and y > 0]


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The geometric mean of each point and its neighbours, a sixtieth of the run to either side: it does not lag behind."""
    reach, sums = max(1, len(points) // 60), [0.0]
    for _, y in points:
        sums.append(sums[-1] + math.log(y))
    spans = [(max(0, i - reach), min(len(points), i + reach + 1)) for i in range(len(points))]
    return [(x, math.exp((sums[b] - sums[a]) / (b - a))) for (x, _), (a, b) in zip(points, spans, strict=True)]


def log_domain(values: Sequence[float]) -> tuple[float, float]:
    """From the 1-2-5 rung below to the one above, and always 0.1 to 1, so that axes of different runs are alike."""
    rungs = [m * 10.0**e for e in range(-8, 6) for m in (1, 2, 5)]
    low, high = max(min([0.1, *values]), 1e-6), min(max([1.0, *values]), 1e5)
    return max(r for r in rungs if r <= low * 1.0001), min(r for r in rungs if r >= high * 0.9999)


def ticks(low: float, high: float) -> list[float]:
    fine = [
        m * 10.0**e
        for e in range(-8, 6)
        for m in (1, 2, 5)
        if low <= m * 10.0**e * 1.0001 and m * 10.0**e <= high * 1.0001
    ]
    return fine if len(fine) <= 8 else [t for t in fine if f"{t:e}"[0] == "1"]


def step_ticks(longest: float) -> list[float]:
    rungs = [m * 10.0**e for e in range(8) for m in (1, 2, 5)]
    unit = next((r for r in rungs if longest / r <= 5), longest)
    return [i * unit for i in range(int(longest / unit) + 1)]


def spread(positions: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Sorted positions moved apart until neighbours are `gap` away, the last at `high` or below it."""
    out: list[float] = []
    for position in positions:
        out.append(max(position, low, out[-1] + gap) if out else max(position, low))
    for i in reversed(range(len(out))):
        out[i] = min(out[i], high if i == len(out) - 1 else out[i + 1] - gap)
    return out


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else shown(value, 12)
