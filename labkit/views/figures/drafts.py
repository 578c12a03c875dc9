"""Charts of drafts: acceptance during training, and the speed-up.

draw_acceptance(pen, record)                # by step, at each exam
draw_speedups(pen, alpha=0.8, cost=0.1)     # by tokens a round and cost of the draft, from `speculative.theory`
"""

from __future__ import annotations

import math

from labkit.base.palette import INK, MUTED, PALETTE, PAPER, SHAPES, shade
from labkit.records.record import Record
from labkit.speculative.theory import best_gamma, speedup, tokens_per_round
from labkit.views.figures.axes import EDGE, End, name_ends, number_axis, room_for, rule_rungs
from labkit.views.figures.letters import wide
from labkit.views.figures.pen import Pen, Room
from labkit.views.figures.scales import step_ticks

Points = list[tuple[float, float]]

GAMMAS = tuple(range(1, 13))  # tokens a round in the table
COSTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0)


def exams(record: Record, name: str) -> Points:
    """(step, value) of each exam that has it.

    name: "acceptance" of sampled tokens, or "agreement", the acceptance of greedy ones.
    """
    return [(e.step, e.fidelity[name]) for e in record.evaluations if math.isfinite(e.fidelity.get(name, math.nan))]


def draw_acceptance(pen: Pen, record: Record, previous: Record | None = None) -> None:
    """Draw acceptance by step."""
    lines = [("previous run", exams(previous, "acceptance") if previous else [], "ghost", "")]
    lines += [("greedy", exams(record, "agreement"), "student", "dot"), ("sampled", exams(record, "acceptance"), "student", "")]
    total = record.started.steps if record.started else 0
    longest = float(max([total, 1, *(x for _, points, *_ in lines for x, _ in points)]))
    ends = [
        End(points[-1][1], f"{name} {points[-1][1]:.2f}", MUTED if role == "ghost" else PALETTE[role], name == "sampled")
        for name, points, role, _ in lines
        if points
    ]
    rungs, steps = (0, 0.25, 0.5, 0.75, 1), step_ticks(longest)
    names, numbers = [f"{tick:g}" for tick in rungs], [f"{tick:,.0f}" for tick in steps]
    room = room_for(names, numbers, ends, "steps")
    pen.frame((0, longest), (0, 1), room=room)
    pen.title("Acceptance", "chance that the target accepts a guess, on held-out exams")
    rule_rungs(pen, (0, longest), rungs, names)
    number_axis(pen, pen.width - room.left - room.right, (0, longest), steps, numbers, 0, "steps")
    for name, points, role, dash in lines:
        if points:
            xs, ys = [x for x, _ in points], [y for _, y in points]
            pen.line(xs, ys, PALETTE[role], 2.0, dash, name=name, says=[f"step {x:,}: {y:.2f}" for x, y in points])
            pen.dots(xs, ys, PALETTE[role], SHAPES[role], 5, hollow=dash == "dot")
    name_ends(pen, longest, 0, pen.height - room.top - room.bottom, ends, below=room.bottom - EDGE)
    if not ends:
        pen.text(longest / 2, 0.5, "no acceptance on record yet", MUTED, "center", 9.5, boxed=True)


def say_acceptance(record: Record) -> str:
    """The same in words."""
    taken, alike = exams(record, "acceptance"), exams(record, "agreement")
    if not taken:
        return "No exam has taken acceptance yet."
    greedy = f"; of greedy ones {alike[-1][1]:.0%}" if alike else ""
    (_, first), (step, now) = taken[0], taken[-1]
    return f"Of its sampled guesses {now:.0%} would be accepted at step {step:,}, {first:.0%} at its first exam{greedy}."


# ---- what it gains ---------------------------------------------------------------------------------------------------


def titled_speedups(alpha: float, verify: float = 0.0) -> tuple[str, str]:
    """The title of the table, and the note under it."""
    extra = f"; each token judged costs {verify:g} more" if verify else ""
    note = "\u03b3 tokens proposed a round, each at c passes of the target; a row's best is framed, if one pays; a number below 1 is slower"
    return f"Times as fast as the target alone, \u03b1 = {alpha:.2f}", f"{note}{extra}"


def draw_speedups(pen: Pen, alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0) -> None:
    """Draw a table of speed-ups; those below 1 have another colour, the best of each row is framed, and `gamma` at `cost` is boxed."""
    costs = sorted({*COSTS, round(cost, 4)})
    left = max(wide(f"c = {c:g}", 9, bold=True) for c in costs) + 8 / 72 + EDGE
    pen.frame((0, len(GAMMAS)), (-len(costs) + 0.6, 0.6), room=Room(left, EDGE, EDGE, 0.26))
    pen.title(*titled_speedups(alpha, verify))
    pen.text(0, 0.6, "\u03b3 =", MUTED, "right", 9, dx=-8, dy=9)
    for j, g in enumerate(GAMMAS):
        pen.text(j + 0.5, 0.6, f"{g}", INK if g == gamma else MUTED, "center", 9, bold=g == gamma, dy=9)
    top = max(speedup(alpha, g, c, verify) for g in GAMMAS for c in costs)
    for i, c in enumerate(costs):
        y, here = -i + 0.1, bool(cost) and c == round(cost, 4)
        best, _ = best_gamma(alpha, c, verify, most=GAMMAS[-1])
        pen.text(0, y, f"c = {c:g}", INK if here else MUTED, "right", 9, bold=here, dx=-8)
        for j, g in enumerate(GAMMAS):
            value = speedup(alpha, g, c, verify)
            share = (value - 1) / max(top - 1, 1e-9) if value >= 1 else 1 - value
            colour = shade(PALETTE["student" if value >= 1 else "baseline"], min(1.0, share))
            name, says = f"\u03b3 = {g}, c = {c:g}", f"{value:.2f} times as fast"
            pen.bar(j + 0.03, j + 0.97, y, 0.9, colour, name, edge=INK if g == best else PAPER, says=says)
            pen.text(j + 0.5, y, f"{value:.2f}", INK, "center", 8.5, bold=g == best)
            if here and g == gamma:
                pen.line([j, j + 1, j + 1, j, j], [y - 0.5, y - 0.5, y + 0.5, y + 0.5, y - 0.5], INK, 2.0)


def alt_speedups(alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0) -> str:
    """The axes of the table, its highest value, the cost from which no draft pays, and the value of `gamma` at `cost`."""
    head = (
        f"Times as fast as the target alone at acceptance {alpha:.2f}, over 1 to {GAMMAS[-1]} tokens a round and costs of 0 to 1 a token."
    )
    best, gain = best_gamma(alpha, COSTS[0], verify, most=GAMMAS[-1])
    dear = [f"{c:g}" for c in COSTS if not best_gamma(alpha, c, verify, most=GAMMAS[-1])[0]]
    parts = [f"The highest is {gain:.2f} with {best} at cost 0"] if best else []
    parts += [f"none pays from cost {dear[0]} on"] if dear else []
    here = f" With {gamma} at cost {cost:g}: {speedup(alpha, gamma, cost, verify):.2f}." if gamma and cost else ""
    return f"{head} {'; '.join(parts).capitalize()}.{here}"


def say_speedups(alpha: float, gamma: int = 0, cost: float = 0.0, verify: float = 0.0) -> str:
    """The best of each row, and the value of `gamma` at `cost`, in words."""
    rows = []
    for c in COSTS:
        best, gain = best_gamma(alpha, c, verify, most=GAMMAS[-1])
        rows.append(f"{gain:.2f} with {best} at cost {c:g}" if best else f"none pays at cost {c:g}")
    head = (
        f"Times as fast as the target alone at acceptance {alpha:.2f}, by the best of 1 to {GAMMAS[-1]} tokens a round: {'; '.join(rows)}."
    )
    if not (gamma and cost):
        return head
    place = f"{tokens_per_round(alpha, gamma):.2f} tokens a round, {speedup(alpha, gamma, cost, verify):.2f} times as fast"
    return f"{head} With {gamma} at cost {cost:g}: {place}."
