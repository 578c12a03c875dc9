"""Charts of a run, each as strokes (`draw_...`) and as a sentence (`say_...`), from its `Record` alone.

    draw_waterfall(pen, record)       # pen: one of those in pen.py
    say_waterfall(record)             # the alt text

A chart says what was not measured, and names the baseline of a recovery.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from labkit.base.errors import LabError
from labkit.records import events as ev
from labkit.records.model_folders import without_hash
from labkit.records.names import BESIDE, CORE, SKILLS
from labkit.records.record import NO_GAP, Record, mean
from labkit.views.figures.pen import HAIR, INK, MUTED, PALETTE, PAPER, Pen, tint
from labkit.views.figures.scales import log_domain, number, positive, shown, signed, smooth, spread, step_ticks, ticks

ARM_COLOURS = ("baseline", "baseline", "student", "teacher")
SOFT = {
    "output": "soft labels",
    "answers": "hard answers",
    "gold": "gold labels",
    "hidden": "soft labels, states",
    "similarity": "soft labels, similarities",
    "relations": "soft labels, relations",
    "sequence": "teacher's text",
    "online": "online soft labels",
    "mutual": "gold labels, a peer",
    "next_state": "soft labels, next state",
}
SKILL_WORDS = {"two_hop": "two-hop", "two_hop_steps": "two-hop steps"}
KNOB_WORDS = {"temperature": "T", "learning_rate": "lr"}
LABEL_BUDGET, SAME_QUESTIONS = "label budget", "same questions"


# ---- the headline of a page


def draw_headline(pen: Pen, record: Record) -> None:
    """Draw the title and the outcome over a page, and the recipe and the machine under it.

    Raises `LabError` for an empty record.
    """
    if record.started is None:
        raise LabError("this record is empty, so there is nothing to draw: give one that begins with a 'started' event.")
    pen.frame((0, 1), (0, 1))
    pen.text(0.012, 0.968, shown(record.started.title, 110), size=15, bold=True)
    pen.text(0.012, 0.930, say_outcome(record), size=10.5)
    pen.text(0.012, 0.014, shown(f"{record.experiment.recipe}  \u00b7  {record.started.machine}", 190), MUTED, size=8)


def say_outcome(record: Record) -> str:
    """How far the run got, and how good the student is, in one or two sentences."""
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
    name = measure(record)
    return f"{lead}. {name[0].upper()}{name[1:]} {student:.2f}{of}{way}."


# ---- the waterfall ---------------------------------------------------------------------------------------------------


def draw_waterfall(pen: Pen, record: Record) -> None:
    """Draw the scores of the four arms, each with its difference from the one before."""
    pen.frame((-0.80, 1.24), (-3.95, 0.62))
    pen.title("From gold labels to the teacher", f"{measure(record)}, each step from the last measured arm above it")
    for tick in (0, 0.25, 0.5, 0.75, 1):
        pen.line([tick, tick], [0.45, -3.45], HAIR, 0.8)
        pen.text(tick, -3.72, f"{tick:g}", MUTED, "center", 8)
    before, above = None, 0.0
    arms = zip(record.waterfall().values(), _arm_names(record), ARM_COLOURS, strict=True)
    for i, (value, (name, note), role) in enumerate(arms):
        y, colour = -float(i), PALETTE[role]
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
        (f"{SOFT[exp.method]} (this run)", f"{without_hash(exp.student)} student, seed {exp.seed}{so_far}"),
        ("teacher", shown(without_hash(exp.teacher), 30)),
    ]


def say_waterfall(record: Record) -> str:
    """The same in words."""
    parts, before = [], None
    for value, (name, note) in zip(record.waterfall().values(), _arm_names(record), strict=True):
        step = f", a step of {signed(value - before)}" if value is not None and before is not None else ""
        parts.append(f"{name} ({note}) {'not measured' if value is None else f'{value:.2f}'}{step}")
        before = before if value is None else value
    name = measure(record)
    return f"{name[0].upper()}{name[1:]} of four arms: {'; '.join(parts)}."


# ---- the curves ------------------------------------------------------------------------------------------------------


def draw_curves(pen: Pen, record: Record, previous: Record | None = None) -> None:
    """Draw the KL to the teacher by step."""
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
            words = f"{KNOB_WORDS.get(knob.name, shown(knob.name, 18))} {number(knob.old)} \u2192 {number(knob.new)}"
            pen.text(knob.step, level(1.12 - 0.065 * row), words, INK, "left", 8.5, dx=4, boxed=True)
            busy[row] = knob.step + longest * (0.03 + 0.017 * len(words))
    ends = []
    for name, xs, ys, colour, width, dash, alpha in lines:
        pen.line(xs, ys, colour, width, dash, alpha, name)
        if name and xs:
            ends.append((math.log(ys[-1] / low) / math.log(high / low), name, colour, name == "student"))
    if exams:
        pen.dots([x for x, _ in exams], [y for _, y in exams], PALETTE["student"], "o", 6, "held-out exam", hollow=True)
        ends.append((math.log(exams[-1][1] / low) / math.log(high / low), "\u25cb held-out exam", PALETTE["student"], False))
    for at, (_, name, colour, bold) in zip(spread([e[0] for e in sorted(ends)], 0.068, -0.02, 1.0), sorted(ends), strict=True):
        pen.text(longest, level(at), name, MUTED if colour == PALETTE["ghost"] else colour, "left", 9, bold=bold, dx=8)
    if not lines and not exams:
        pen.text(longest / 2, level(0.5), "no KL on record yet", MUTED, "center", 9.5, boxed=True)


def _curve_lines(record: Record, previous: Record | None) -> list[tuple[str, list[float], list[float], str, float, str, float]]:
    """Name, xs, ys, colour, width, dash, opacity of each line. Measured values are faint; their running mean is strong and has a name."""
    lines: list[tuple[str, list[float], list[float], str, float, str, float]] = []

    def add(name: str, points: list[tuple[float, float]], role: str, width: float, dash: str = "", alpha: float = 1.0) -> None:
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
    """The same in words."""
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
        parts.append(f"{shown(knob.name, 18)} went from {number(knob.old)} to {number(knob.new)} at step {knob.step:,}")
    return f"KL to the teacher in nats per answer token, log scale: {'; '.join(parts) or 'nothing on record yet'}."


# ---- recovery by skill -----------------------------------------------------------------------------------------------


def draw_recovery(pen: Pen, record: Record, baseline: str = LABEL_BUDGET) -> None:
    """Draw scores and recovery by skill."""
    rows, note = recovery_rows(record, baseline)
    bottom = -(len(rows) + 0.75)
    pen.frame((-0.68, 1.76), (bottom - 0.8, 0.95))
    pen.title("Recovery" if own_score(record) else "Recovery by skill", note)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        pen.line([tick, tick], [-0.45, bottom], HAIR, 0.8)
        pen.text(tick, bottom - 0.42, f"{tick:g}", MUTED, "center", 8)
    if not any(value is not None for row in rows for value in row[1:4]):
        pen.text(0.5, bottom / 2, "no exam on record yet", MUTED, "center", 9.5, boxed=True)
        return
    looks = (("baseline", "s"), ("teacher", "D"), ("student", "o"))
    heads = sorted((v, role) for v, (role, _) in zip((rows[0][1], rows[0][3], rows[0][2]), looks, strict=True) if v is not None)
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
        pen.text(-0.03, y, row_name(record, name), INK, "right", 9.5, bold=i == 0)
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
    """The rows (skill, baseline, student, teacher, recovery in words), the mean first; and a line that names the baseline."""
    reference, teacher = (r.skills if (r := record.references.get(n)) else None for n in (baseline, "teacher"))
    student = record.skills if record.evaluations else None
    missing = [name for name, scores in ((f"{baseline!r} baseline", reference), ("teacher", teacher)) if scores is None]
    shares: dict[str, float | None] = {}
    if not missing and student is not None:
        result = record.recovery(baseline)
        gap = mean(result.teacher) - mean(result.reference)  # a share of a tiny gap would be noise
        shares = {"mean": result.mean if gap >= NO_GAP else None, **result.per_skill}

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

    rows = [row("mean", CORE)]  # on the user's own data: its only score
    if not own_score(record):
        rows += [row(skill, [skill]) for skill in (*CORE, *BESIDE)]
    if missing:
        return rows, f"no {' and no '.join(missing)} on record: recovery is not shown"
    where = f"baseline: {baseline}{seeds_of(record.references[baseline])}"
    return rows, f"{where}; no gap: the teacher is less than {NO_GAP:g} above it"


def say_recovery(record: Record, baseline: str = LABEL_BUDGET) -> str:
    """The same in words."""
    rows, note = recovery_rows(record, baseline)

    def tell(row: Row) -> str:
        name, low, student, high, share = row
        scores = [f"{role} {v:.2f}" for role, v in (("baseline", low), ("student", student), ("teacher", high)) if v is not None]
        return f"{row_name(record, name)}: {', '.join(scores) or 'not measured'}" + (f" ({share})" if share else "")

    return f"Scores{'' if own_score(record) else ' by skill'}, and recovery in brackets ({note}). " + "; ".join(map(tell, rows)) + "."


def own_score(record: Record) -> str:
    """The name of the score of a run on the user's own data; "" in the small world, whose exams have skills."""
    skills = record.started.skills if record.started else ()
    return shown(skills[0], 30) if skills and not set(skills) & set(SKILLS) else ""


def measure(record: Record) -> str:
    """The name of the headline score of a run."""
    return f"score ({name})" if (name := own_score(record)) else "mean core skill"


def row_name(record: Record, name: str) -> str:
    """The label of a row of `recovery_rows`."""
    return skill_name(name) if name != "mean" else own_score(record) or "mean of core skills"


def skill_name(skill: str) -> str:
    """A skill as a chart names it."""
    return SKILL_WORDS.get(skill, shown(skill, 30).replace("_", " "))


def seeds_of(reference: ev.Reference | None) -> str:
    """A note on the seeds of a reference; "" for a single one."""
    return f", mean of {reference.seeds} seeds" if reference and reference.seeds > 1 else ""
