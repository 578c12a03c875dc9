"""A row of `benchmarks/results.json`: what was timed, the number, what it is compared with, and on which machine and when."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
Number = float | Sequence[float] | None


def row(
    work: str,
    unit: str,
    ours: Number = None,
    peer: Number = None,
    ratio: Number = None,
    *,
    against: str | None = None,
    packages: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    curve: Sequence[Sequence[float]] = (),
) -> dict[str, Any]:
    """ours, peer, ratio: a number, or the numbers of several repeats, of which the median is kept; the spread is from the lowest to the
    highest repeat of the ratio, or else of ours. packages: those of the peer. curve: pairs that stand in the place of ours."""
    repeats = next((numbers for numbers in (ratio, ours) if isinstance(numbers, Sequence)), None)
    return {
        "work": work,
        "ours": [[_short(x), _short(y)] for x, y in curve] if curve else _middle(ours),
        "peer": _middle(peer),
        "ratio": _middle(ratio),
        "spread": [_short(min(repeats)), _short(max(repeats))] if repeats else None,
        "against": against,
        "unit": unit,
        "seeds": list(seeds),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", *packages)},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.date.today().isoformat(),
    }


def over(ours: Sequence[float], peers: Sequence[float]) -> list[float]:
    """The ratio of each pair of repeats."""
    return [a / b for a, b in zip(ours, peers, strict=True)]


def _middle(numbers: Number) -> float | None:
    return None if numbers is None else _short(statistics.median(numbers) if isinstance(numbers, Sequence) else numbers)


def _short(number: float) -> float:
    return float(f"{number:.4g}")
