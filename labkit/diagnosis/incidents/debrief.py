"""What is said once a case has been named: what it was, what would have told, how to look for it, and that its cure works."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from labkit.base.errors import LabError
from labkit.base.html import Html, listed, tag
from labkit.diagnosis.evidence import Evidence
from labkit.diagnosis.failures import FAILURES, Diagnosis
from labkit.diagnosis.incidents.findings import between, told
from labkit.diagnosis.incidents.history import label, score, steps
from labkit.diagnosis.incidents.probes import minutes


@dataclasses.dataclass(frozen=True)
class Entry:
    """One failure that was there, or was named. symptom: its number in this run; cured: the same in sound runs of this order; hidden:
    whether the first is no worse than the others, so that something else hides it."""

    name: str
    there: bool
    named: bool
    symptom: str
    cured: str
    hidden: bool = False
    cure_given: str = ""

    @property
    def cure_right(self) -> bool:
        return self.cure_given == FAILURES[self.name].remedy

    def _html(self) -> Html:
        entry = FAILURES[self.name]
        sign, word = {
            (True, True): ("\u2713", "found"),
            (True, False): ("\u2717", "missed"),
            (False, True): ("\u2717", "named, and not there"),
        }[self.there, self.named]
        shown = f"with it {self.symptom}, cured {self.cured}" if self.there else f"here {self.symptom}, in sound runs {self.cured}"
        shown += " (the other failure hides it)" if self.there and self.hidden else ""
        parts = [
            tag("h4", f"{sign} {entry.label} ", tag("small", f"({self.name}): {word}")),
            tag("p", tag("b", "Symptom"), f", {entry.unit}: {shown}."),
            tag("p", tag("b", "Look for it"), ":") + steps(self.name),
        ]
        if self.there:
            given = "" if not self.cure_given else " \u2713 as you said." if self.cure_right else " \u2717 Not what you chose."
            parts += [tag("p", tag("b", "Cure"), f": {entry.remedy}{given}"), tag("p", f"Seen in {entry.cited}.")]
        return tag("section", *parts)


@dataclasses.dataclass(frozen=True)
class IncidentVerdict:
    """How a case was named. cheapest: the probes on which detectors would have told, None if on none; kept: why it is not on record."""

    truth: tuple[str, ...]
    named: tuple[str, ...]
    entries: tuple[Entry, ...]
    detectors: Sequence[Diagnosis]
    cheapest: tuple[str, ...] | None
    spent: int
    kept: str = ""

    @property
    def score(self) -> float:
        return score(self.truth, self.named)

    @property
    def sentence(self) -> str:
        was, said = (" and ".join(FAILURES[name].label for name in names) or "no fault" for names in (self.truth, self.named))
        if self.score == 1:
            return f"Right: {was}. {self.spent} minutes spent."
        return f"You named {said}; it was {was}: {self.score:.2f} of a point. {self.spent} minutes spent."

    @property
    def hint(self) -> str:
        """The least that would have told."""
        if not self.truth:
            return "No probe proves that nothing is wrong; the more of them agree with sound runs, the surer it is."
        if self.cheapest is None:
            return "The detectors do not see all of it on any four probes: this one has to be reasoned out."
        return f"It shows in {minutes(self.cheapest)} minutes: {', '.join(self.cheapest)}."

    @property
    def detected(self) -> str:
        if not self.detectors:
            return "The detectors, which see everything but the recipe, find nothing."
        return "The detectors, which see everything but the recipe, say: " + " ".join(f"{d.failure}: {d.finding}" for d in self.detectors)

    def __repr__(self) -> str:
        lines = [self.sentence, self.hint, self.detected]
        for entry in self.entries:
            known = FAILURES[entry.name]
            lines.append(f"{known.label}: symptom {entry.symptom} ({known.unit}); sound runs {entry.cured}. {' '.join(known.procedure)}")
            lines += [f"  Cure: {known.remedy}"] if entry.there else []
        return "\n".join([*lines, self.kept] if self.kept else lines)

    def _repr_html_(self) -> str:
        found = listed(tag("b", label(d.failure)) + f": {d.finding}" for d in self.detectors)
        said = tag("p", "The detectors, which see everything but the recipe, say:") + found if self.detectors else tag("p", self.detected)
        lead = tag("p", tag("strong", self.sentence), f" {self.hint} {self.kept}", role="status")
        return lead + said + tag("div", *(entry._html() for entry in self.entries))


def entries(
    truth: Sequence[str], named: Sequence[str], cures: dict[str, str], seen: Evidence, healthy: Sequence[Evidence]
) -> tuple[Entry, ...]:
    """An entry for every failure that is there, and then for every one that was wrongly named."""
    found = []
    for name in (*truth, *(other for other in named if other not in truth)):
        here, sound = _symptom(name, seen), [_symptom(name, other) for other in healthy]
        hidden = len(truth) > 1 and bool(sound) and here <= max(sound)
        found.append(Entry(name, name in truth, name in named, told(here), between(sound), hidden, cures.get(name, "")))
    return tuple(found)


def _symptom(name: str, seen: Evidence) -> float:
    try:
        return FAILURES[name].symptom(seen)
    except LabError:  # an exam that did not ask for it
        return float("nan")
