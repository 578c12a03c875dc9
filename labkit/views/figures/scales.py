"""Numbers and words for charts: ticks, smoothing, labels that do not overlap, text that is safe to show. Pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any


def minus(text: str) -> str:
    """A number with a real minus sign, not a hyphen."""
    return text.replace("-", "\u2212")


def signed(value: float) -> str:
    """A number with its sign and two decimals."""
    return minus(f"{value:+.2f}")


def shown(text: object, most: int) -> str:
    """Text of unknown origin, safe for display: without control and text-direction characters, cut to `most` characters."""
    clean = "".join(c if c.isprintable() else " " for c in str(text))
    return clean if len(clean) <= most else clean[: most - 1] + "\u2026"


def positive(points: Any) -> list[tuple[float, float]]:
    """The points that a logarithmic axis can show."""
    return [(x, y) for x, y in points if y is not None and math.isfinite(y) and y > 0]


def smooth(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The geometric mean of each point and its neighbours, a sixtieth of the run to each side, so it does not lag."""
    reach, sums = max(1, len(points) // 60), [0.0]
    for _, y in points:
        sums.append(sums[-1] + math.log(y))
    spans = [(max(0, i - reach), min(len(points), i + reach + 1)) for i in range(len(points))]
    return [(x, math.exp((sums[b] - sums[a]) / (b - a))) for (x, _), (a, b) in zip(points, spans, strict=True)]


def log_domain(values: Sequence[float]) -> tuple[float, float]:
    """The ends of a logarithmic axis, of the form 1, 2 or 5 times 10^n. It always has 0.1 to 1, so axes of different runs are similar."""
    rungs = [m * 10.0**e for e in range(-8, 6) for m in (1, 2, 5)]
    low, high = max(min([0.1, *values]), 1e-6), min(max([1.0, *values]), 1e5)
    return max(r for r in rungs if r <= low * 1.0001), min(r for r in rungs if r >= high * 0.9999)


def ticks(low: float, high: float) -> list[float]:
    """The ticks of a logarithmic axis: 1, 2 and 5 times 10^n, or only 10^n if these are more than eight."""
    fine = [m * 10.0**e for e in range(-8, 6) for m in (1, 2, 5) if low <= m * 10.0**e * 1.0001 and m * 10.0**e <= high * 1.0001]
    return fine if len(fine) <= 8 else [t for t in fine if f"{t:e}"[0] == "1"]


def even_ticks(low: float, high: float) -> list[float]:
    """The ticks of a linear axis: at most seven, 1, 2 or 5 times 10^n apart, from at most `low` to at least `high`."""
    wide = (high - low) or 1.0
    unit = next(m * 10.0**e for e in range(-12, 300) for m in (1, 2, 5) if wide <= 5 * m * 10.0**e)
    return [round(i * unit, 12) for i in range(math.floor(low / unit + 1e-9), math.ceil(high / unit - 1e-9) + 1)]


def step_ticks(longest: float) -> list[float]:
    """The ticks of an axis of steps, 0 to `longest`."""
    rungs = [m * 10.0**e for e in range(8) for m in (1, 2, 5)]
    unit = next((r for r in rungs if longest / r <= 5), longest)
    return [i * unit for i in range(int(longest / unit) + 1)]


def spread(positions: Sequence[float], gap: float | Sequence[float], low: float, high: float) -> list[float]:
    """Move sorted positions until neighbours are far enough apart, the first at `low` or above, the last at `high` or below.

    gap: the distance of any two neighbours, or the size of each, so that neighbours touch at most. If there is no room for all, the first
        are below `low`.
    """
    sizes = [gap] * len(positions) if isinstance(gap, int | float) else list(gap)
    apart = [(a + b) / 2 for a, b in itertools.pairwise(sizes)]
    out: list[float] = []
    for i, position in enumerate(positions):
        out.append(max(position, low, out[-1] + apart[i - 1]) if out else max(position, low))
    for i in reversed(range(len(out))):
        out[i] = min(out[i], high if i == len(out) - 1 else out[i + 1] - apart[i])
    return out


def number(value: object) -> str:
    """A value of a knob, in at most 12 characters if it is text."""
    return f"{value:g}" if isinstance(value, int | float) else shown(value, 12)


def short(value: float) -> str:
    """A number with three digits: 3.33k, 815k, 2.85M, 0.25."""
    rounded = float(f"{value:.3g}")  # first, so that 999.7 is 1k, as 1,000 is
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(rounded) >= unit:
            return f"{rounded / unit:.3g}{name}"
    return f"{rounded:.3g}"


def digits(*values: float) -> int:
    """How many decimals, at least two, tell values apart. Values that differ by no more than a rounding error count as one."""
    apart = [(a, b) for a, b in itertools.pairwise(sorted(values)) if b - a > 1e-9]
    return next((n for n in range(2, 9) if all(fixed(a, n) != fixed(b, n) for a, b in apart)), 9)


def fixed(value: float, decimals: int) -> str:
    """A number with so many decimals, and never -0.00."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def clear(places: Sequence[float], widths: Sequence[float], gap: float) -> list[int]:
    """The numbers of the labels that can be shown without touching one another: the last, and from the first on each that has room.

    places: the middles, sorted.
    widths: of the labels, in the same unit.
    gap: between two of them.
    """
    kept: list[int] = []
    for i, (place, width) in enumerate(zip(places, widths, strict=True)):
        if not kept or place - width / 2 - (places[kept[-1]] + widths[kept[-1]] / 2) >= gap:
            kept.append(i)
    last = len(places) - 1
    while kept and kept[-1] != last and places[last] - widths[last] / 2 - (places[kept[-1]] + widths[kept[-1]] / 2) < gap:
        kept.pop()
    return kept if not places or kept[-1:] == [last] else [*kept, last]
