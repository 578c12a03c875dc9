"""Write `docs/failures.md`, the results of the failures and their detectors on the shipped runs: `labkit build failures` (seconds)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labkit.base.stats import Band
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.failures.trials import SET_ON, Alarms, Sightings, alarms, cost, effect, sightings

SEEDS = " and ".join(map(str, SET_ON))
NAMED, FALSE, HEALTHY = 0.8, 0.02, 150  # the goal: least share named correctly, most false alarms, fewest healthy runs

HEAD = f"""# Failures and their detectors

`labkit build failures` makes this page from the recorded runs that ship; a test compares them. In the sweep "failures" each failure has
an arm of its name, in which it is provoked; the same recipe ran cured, with the same seeds. A band is the 95% t-interval of the paired
differences. Detectors read losses, exams, costs and batch checks; they do not see recipes, names and seeds. Their limits were set on
seeds {SEEDS} of that sweep. The detection rates and false alarms below are from other runs.

Five limits were set later, after findings in those other runs were known: the cost of text that a student writes is not judged before 100
steps; a missing skill is compared with the next fact skill, not with the best; a teacher that answered no question is not judged; a target
is too soft from 1 nat on, not from 0.5; and a student taught by students needs a signal with 5 times the teacher's entropy (the largest
value in all other runs was 2.3).

## What a failure does, and what cures it

"Core skill" is the mean over the core skills with the failure minus that without it. Some failures have a clear symptom but do not lower
the score yet.

"""
DETECTION = """
## Detection

A run is named correctly if its failure is the first finding. "Beside" lists what else was found in these runs.

"""
FALSE_ALARMS = """
## False alarms

These are all shipped runs whose recipe has no failure. Runs with an assistant are left out: a student is their teacher, and the detector
for students taught by students finds it. Older records have no batch checks, which most detectors need. They can raise fewer false
alarms, and are counted apart.

"""


def page() -> str:
    seen = {name: sightings(name) for name in FAILURES}
    groups = dict(zip(("with batch checks", "older, without"), alarms(), strict=True))
    return "".join((HEAD, _effects(), DETECTION, _named(seen), FALSE_ALARMS, _alarms(groups), _short(seen, groups)))


def build(folder: Path) -> None:
    (folder / "failures.md").write_text(page(), encoding="utf-8")


def _effects() -> str:
    rows = [
        (entry.label, entry.unit, _band(effect(name)), _band(cost(name)), entry.remedy, entry.cited) for name, entry in FAILURES.items()
    ]
    return _table(("failure", "symptom", "provoked minus cured", "core skill", "cure", "seen in"), rows)


def _named(seen: Mapping[str, Sightings]) -> str:
    rows = [
        (FAILURES[name].label, str(s.runs), f"{s.right / s.runs:.0%}", _counted(s.instead) or "-", _counted(s.beside) or "-")
        for name, s in seen.items()
    ]
    return _table(("failure", "unseen runs", "named correctly", "taken for", "beside"), rows)


def _alarms(groups: Mapping[str, Alarms]) -> str:
    rows = [(name, str(a.runs), str(len(a.false)), f"{_share(a):.1%}") for name, a in groups.items()]
    both = Alarms(sum(a.runs for a in groups.values()), [x for a in groups.values() for x in a.false])
    rows.append(("all", str(both.runs), str(len(both.false)), f"{_share(both):.1%}"))
    alike = Counter((recipe.but(seed=0).recipe, tuple(found)) for recipe, found in both.false)
    listed = [
        f"- {' and '.join(FAILURES[n].label for n in found)}, {'once' if times == 1 else f'{times} times'}: `{recipe}`\n"
        for (recipe, found), times in alike.items()
    ]
    asked = sum(a.fresh for a in groups.values())
    fresh = f"\nOf these runs, {asked} asked fresh questions, without which a leaked exam cannot be detected.\n"
    table = _table(("healthy runs", "how many", "with a finding", "share"), rows)
    return table + fresh + ("\n" + "".join(listed) if listed else "")


def _short(seen: Mapping[str, Sightings], groups: Mapping[str, Alarms]) -> str:
    """What falls short of the goal, in words."""
    lines = [f"{FAILURES[n].label} is named correctly in {s.right / s.runs:.0%} of its runs." for n, s in seen.items()]
    lines = [line for line, s in zip(lines, seen.values(), strict=True) if s.right < NAMED * s.runs]
    lines += [f"False alarms in {_share(a):.1%} of the runs {name}." for name, a in groups.items() if _share(a) > FALSE]
    if (fewer := groups["with batch checks"].runs) < HEALTHY:
        lines.append(f"Only {fewer} healthy runs have batch checks, not {HEALTHY}.")
    goal = (
        f"at least {NAMED:.0%} of each failure's unseen runs named correctly, at most {FALSE:.0%} false alarms over {HEALTHY} healthy runs"
    )
    short = "".join(f"- {line}\n" for line in lines)
    return f"\n## The goal\n\nThe goal was {goal} with batch checks. " + (f"Not reached:\n\n{short}" if short else "It is reached.\n")


def _share(found: Alarms) -> float:
    return len(found.false) / max(1, found.runs)


def _counted(names: Mapping[str, int]) -> str:
    return ", ".join(f"{FAILURES[name].label if name else 'nothing wrong'} ({n})" for name, n in sorted(names.items()))


def _band(found: Band) -> str:
    middle, low, high = (f"{value:+.3f}".replace("-", "\u2212") for value in found[:3])
    return f"{middle} ({low} to {high}, n = {found.n})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def lines() -> Iterator[str]:
        for row in (head, ["---"] * len(head), *rows):
            yield "| " + " | ".join(row) + " |\n"

    return "".join(lines())
