"""Write what the shipped runs say of failures and their detectors, `docs/failures.md`: `labkit build failures` (seconds)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from labkit.base.stats import Band
from labkit.diagnosis.failures import FAILURES
from labkit.diagnosis.failures.trials import SET_ON, Alarms, Sightings, alarms, cost, effect, sightings

SEEDS = " and ".join(map(str, SET_ON))
NAMED, FALSE, HEALTHY = 0.8, 0.02, 150  # the goal: named correctly, at least; false alarms, at most; over at least so many healthy runs

HEAD = f"""# Failures and their detectors

Made from the runs that ship by `labkit build failures`; a test compares. A failure is provoked in the arm of the sweep "failures" that
bears its name; the same recipe, cured, ran beside it with the same seeds. A band is the 95% t-interval of the paired differences.
Detectors read losses, exams, costs and looks at single batches; recipe, names and seeds are kept from them. Their limits were set on
seeds {SEEDS} of that sweep, and what is said below of names and false alarms is of other runs. Four rules are younger, and were made with
findings in other runs in view: that the cost of text a student writes is not judged before 100 steps; that a missing skill is told by its
distance from the next fact skill, not from the best; that a teacher that answered no question is not judged; and that a target is too
soft from 1 nat on, not from 0.5. The limit for students in a row (a signal 5 times as unsure as the teacher) was set with the largest value
of all other runs, 2.3, in view.

## What a failure does, and what cures it

"Core skill" is the mean over the core skills, with the failure less without it: some failures show plainly and cost nothing yet.

"""
DETECTION = """
## Told by their looks

Right is a run whose failure is the first finding. "Beside" is what else was found in these runs.

"""
FALSE_ALARMS = """
## False alarms

Over every shipped run whose recipe has no failure within it. Runs with a teacher assistant are left out: they are taught by a student, and
the detector of students in a row says so. Older recordings hold no looks at single batches, which most detectors
need, so that they are easier to pass and counted apart.

"""


def page() -> str:
    seen = {name: sightings(name) for name in FAILURES}
    groups = dict(zip(("with looks at batches", "older, without"), alarms(), strict=True))
    return "".join((HEAD, _effects(), DETECTION, _named(seen), FALSE_ALARMS, _alarms(groups), _short(seen, groups)))


def build(folder: Path) -> None:
    (folder / "failures.md").write_text(page(), encoding="utf-8")


def _effects() -> str:
    rows = [
        (entry.label, entry.unit, _band(effect(name)), _band(cost(name)), entry.remedy, entry.cited) for name, entry in FAILURES.items()
    ]
    return _table(("failure", "symptom", "provoked less cured", "core skill", "cure", "seen in"), rows)


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
    fresh = (
        f"\nFresh questions, without which a leaked exam cannot be told, were asked in {sum(a.fresh for a in groups.values())} of them.\n"
    )
    table = _table(("healthy runs", "how many", "with a finding", "share"), rows)
    return table + fresh + ("\n" + "".join(listed) if listed else "")


def _short(seen: Mapping[str, Sightings], groups: Mapping[str, Alarms]) -> str:
    """What does not hold of the goal, in words."""
    lines = [f"{FAILURES[n].label} is named correctly in {s.right / s.runs:.0%} of its runs." for n, s in seen.items()]
    lines = [line for line, s in zip(lines, seen.values(), strict=True) if s.right < NAMED * s.runs]
    lines += [f"False alarms in {_share(a):.1%} of the runs {name}." for name, a in groups.items() if _share(a) > FALSE]
    if (fewer := groups["with looks at batches"].runs) < HEALTHY:
        lines.append(f"Only {fewer} healthy runs have looks at batches, not {HEALTHY}.")
    goal = (
        f"at least {NAMED:.0%} of each failure's unseen runs named correctly, at most {FALSE:.0%} false alarms over {HEALTHY} healthy runs"
    )
    told = "".join(f"- {line}\n" for line in lines)
    return f"\n## Against the goal\n\nThe goal was {goal} with looks. " + (f"Short of it:\n\n{told}" if told else "It is reached.\n")


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
