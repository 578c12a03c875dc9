"""Charts of a run, each as strokes (`draw_...`) and as a sentence (`say_...`), from its `Record` alone.

    draw_waterfall(pen, record)       # pen: one of those in pen.py
    say_waterfall(record)             # the alt text

A chart says what was not measured, and names the baseline of a recovery.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from labkit.base.palette import HAIR, INK, MUTED, PALETTE, PAPER, SHAPES, Colour, tint
from labkit.records import events as ev
from labkit.records.model_folders import without_hash
from labkit.records.names import BESIDE, CORE, SKILLS
from labkit.records.record import NO_GAP, Record, mean
from labkit.views.figures.axes import EDGE, LINE, TICK, End, name_ends, number_axis, room_for, rows_of, rule_rungs
from labkit.views.figures.letters import wide
from labkit.views.figures.pen import Pen, Room
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
    arms = list(zip(record.waterfall().values(), _arm_names(record), ARM_COLOURS, strict=True))
    known = [value for value, _, _ in arms if value is not None]
    left = max(max(wide(name, 9.5, bold=True), wide(note, TICK)) for _, (name, note), _ in arms) + 6 / 72 + EDGE
    numbers = wide("0.00", 10, bold=True) + 6 / 72
    right = 7 / 72 + numbers + wide("+0.00", 9) + EDGE
    pen.frame((0, max([1.0, *known])), (-3.45, 0.45), room=Room(left, right, 0.06 + LINE + EDGE / 2, 0.05))
    pen.title("From gold labels to the teacher", f"{measure(record)}, each step from the last measured arm above it")
    marks = (0, 0.25, 0.5, 0.75, 1)
    for tick in marks:
        pen.line([tick, tick], [0.45, -3.45], HAIR, 0.8)
    number_axis(pen, pen.width - left - right, (0, 1), marks, [f"{tick:g}" for tick in marks], -3.45)
    before, above = None, 0.0
    for i, (value, (name, note), role) in enumerate(arms):
        y, colour = -float(i), PALETTE[role]
        pen.text(0, y, name, colour if value is not None else MUTED, "right", 9.5, bold=True, dx=-6, dy=6)
        pen.text(0, y, note, MUTED, "right", TICK, dx=-6, dy=-6.5)
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
            pen.text(max(start, value), y, signed(value - before), INK, "left", 9, dx=7 + 72 * numbers)
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

    def share(y: float) -> float:
        return math.log(y / low) / math.log(high / low)

    ends = [
        End(share(ys[-1]), name, MUTED if colour == PALETTE["ghost"] else colour, name == "student")
        for name, xs, ys, colour, *_ in lines
        if name and xs
    ]
    ends += [End(share(exams[-1][1]), "\u25cb held-out exam", PALETTE["student"])] if exams else []
    rungs, steps = ticks(low, high), step_ticks(longest)
    names, numbers = [f"{tick:g}" for tick in rungs], [f"{tick:,.0f}" for tick in steps]
    room = room_for(names, numbers, ends, "steps")
    width = pen.width - room.left - room.right
    turned = sorted((e for e in record.events if isinstance(e, ev.KnobTurned)), key=lambda e: e.step)
    words = [f"{KNOB_WORDS.get(e.name, shown(e.name, 18))} {number(e.old)} \u2192 {number(e.new)}" for e in turned]
    rows = rows_of([knob.step / longest * width for knob in turned], words, 8.5, width + room.right - EDGE, left=True)
    over = min(2, max((row + 1 for row, _ in rows), default=0))  # rows of knobs; more of them have a line and no words
    room = room._replace(top=0.1 + over * 0.17)
    pen.frame((0, longest), (low, high), log=True, room=room)
    pen.title("KL to the teacher", "nats per answer token at temperature 1, log scale")
    rule_rungs(pen, (0, longest), rungs, names)
    number_axis(pen, width, (0, longest), steps, numbers, low, "steps")
    for knob, text, (row, aside) in zip(turned, words, rows, strict=True):
        pen.line([knob.step, knob.step], [low, high], MUTED, 0.8, "dot")
        if row < over:
            pen.text(knob.step, high, text, INK, "left", 8.5, dx=72 * aside, dy=72 * (0.1 + 0.17 * row))
    for name, xs, ys, colour, thick, dash, alpha in lines:
        pen.line(xs, ys, colour, thick, dash, alpha, name)
    if exams:
        pen.dots([x for x, _ in exams], [y for _, y in exams], PALETTE["student"], "o", 6, "held-out exam", hollow=True)
    name_ends(pen, longest, low, pen.height - room.top - room.bottom, ends, below=room.bottom - EDGE)
    if not lines and not exams:
        pen.text(longest / 2, math.sqrt(low * high), "no KL on record yet", MUTED, "center", 9.5, boxed=True)


def _curve_lines(record: Record, previous: Record | None) -> list[tuple[str, list[float], list[float], Colour, float, str, float]]:
    """Name, xs, ys, colour, width, dash, opacity of each line. Measured values are faint; their running mean is strong and has a name."""
    lines: list[tuple[str, list[float], list[float], Colour, float, str, float]] = []

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
    names = [row_name(record, row[0]) for row in rows]
    bottom = -(len(rows) + 0.65)
    aside = "beside it, not in the mean"
    left = max([wide(aside, TICK), *(wide(name, 9.5, bold=not i) for i, name in enumerate(names))]) + 6 / 72 + EDGE
    share_end = 0.12 + max(wide("recovery", TICK), wide("\u2212000%", 9.5, bold=True))  # inches from the data to the end of a column
    score_end = share_end + 0.22 + wide("score, 0 to 1", TICK)
    room = Room(left, score_end + EDGE, 0.06 + LINE + EDGE / 2, 0.32)
    width = pen.width - room.left - room.right
    pen.frame((0, 1), (bottom, 0.5), room=room)
    pen.title("Recovery" if own_score(record) else "Recovery by skill", note)
    marks = (0, 0.25, 0.5, 0.75, 1)
    for tick in marks:
        pen.line([tick, tick], [0.45, bottom], HAIR, 0.8)
    number_axis(pen, width, (0, 1), marks, [f"{tick:g}" for tick in marks], bottom)
    if not any(value is not None for row in rows for value in row[1:4]):
        pen.text(0.5, bottom / 2, "no exam on record yet", MUTED, "center", 9.5, boxed=True)
        return
    roles = ("baseline", "teacher", "student")
    heads = sorted((v, role) for v, role in zip((rows[0][1], rows[0][3], rows[0][2]), roles, strict=True) if v is not None)
    sizes = [wide(role, 9, bold=True) + 0.1 for _, role in heads]
    places = spread([v * width for v, _ in heads], sizes, 0.0, width + 0.1 - sizes[-1] / 2)
    for at, (_, role) in zip(places, heads, strict=True):
        pen.text(0, 0.5, role, PALETTE[role], "center", 9, bold=True, dx=72 * at, dy=10)
    pen.text(1, 0.5, "recovery", MUTED, "right", TICK, dx=72 * share_end, dy=10)
    pen.text(1, 0.5, "score, 0 to 1", MUTED, "right", TICK, dx=72 * score_end, dy=10)
    y = 0.0
    for i, (name, low, student, high, share) in enumerate(rows):
        if name == BESIDE[0]:
            pen.text(0, y - 0.1, aside, MUTED, "right", TICK, dx=-6)
            pen.line([0, 1], [y + 0.45, y + 0.45], HAIR, 0.8)
            y -= 0.9
        size = 9.0 if i == 0 else 6.5
        pen.text(0, y, names[i], INK, "right", 9.5, bold=i == 0, dx=-6)
        if low is not None and high is not None:
            pen.line([low, high], [y, y], HAIR, 3.5)
        if low is not None and student is not None:
            pen.line([low, student], [y, y], PALETTE["student"], 2.5, alpha=0.45)
        for value, role in zip((low, high, student), roles, strict=True):
            if value is not None:
                big = size if role == "student" else size - 1.0
                pen.dots([value], [y], PALETTE[role], SHAPES[role], big, f"{role}, {skill_name(name)}")
        colour = PALETTE["student"] if share.endswith("%") else MUTED
        pen.text(1, y, share, colour, "right", 9.5, bold=i == 0, dx=72 * share_end)
        scores = [f"{v:.2f}" for v in (student, high) if v is not None]
        pen.text(1, y, " of ".join(scores) if student is not None else "", MUTED, "right", 8.5, dx=72 * score_end)
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
