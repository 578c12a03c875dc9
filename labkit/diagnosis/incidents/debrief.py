"""The verdict on a case: its failures, the probes that show them, how to look for them, and the effect of the cure."""

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
    """One failure that was in the run, or that you named."""

    name: str
    there: bool
    named: bool
    symptom: str  # in this run
    cured: str  # the symptom in sound runs of the intended recipe
    hidden: bool = False  # whether the symptom is no worse than in sound runs, because of the other failure
    cure_given: str = ""

    @property
    def cure_right(self) -> bool:
        return self.cure_given == FAILURES[self.name].remedy

    def _html(self) -> Html:
        entry = FAILURES[self.name]
        sign, word = {
            (True, True): ("\u2713", "found"),
            (True, False): ("\u2717", "missed"),
            (False, True): ("\u2717", "named, but not there"),
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
    """Your answer to a case, beside the truth."""

    truth: tuple[str, ...]
    named: tuple[str, ...]
    entries: tuple[Entry, ...]
    detectors: Sequence[Diagnosis]
    cheapest: tuple[str, ...] | None  # the cheapest probes with which detectors find all failures; None if there are none
    spent: int
    kept: str = ""  # why the answer could not be stored

    @property
    def score(self) -> float:
        return score(self.truth, self.named)

    @property
    def sentence(self) -> str:
        true, named = (" and ".join(FAILURES[name].label for name in names) or "no fault" for names in (self.truth, self.named))
        if self.score == 1:
            return f"Right: {true}. {self.spent} minutes spent."
        return f"You named {named}; it was {true}: {self.score:.2f} of a point. {self.spent} minutes spent."

    @property
    def hint(self) -> str:
        """The cheapest probes that show the failures."""
        if not self.truth:
            return "No probe proves that nothing is wrong. The more probes agree with sound runs, the surer you can be."
        if self.cheapest is None:
            return "With any four probes, the detectors do not find all of it: you have to reason from several."
        return f"{minutes(self.cheapest)} minutes are enough to see it: {', '.join(self.cheapest)}."

    @property
    def detected(self) -> str:
        if not self.detectors:
            return "The detectors, which see everything but the recipe, find nothing."
        return "The detectors, which see everything but the recipe, find: " + " ".join(f"{d.failure}: {d.finding}" for d in self.detectors)

    def __repr__(self) -> str:
        lines = [self.sentence, self.hint, self.detected]
        for entry in self.entries:
            known = FAILURES[entry.name]
            lines.append(f"{known.label}: symptom {entry.symptom} ({known.unit}); sound runs {entry.cured}. {' '.join(known.procedure)}")
            lines += [f"  Cure: {known.remedy}"] if entry.there else []
        return "\n".join([*lines, self.kept] if self.kept else lines)

    def _repr_html_(self) -> str:
        findings = listed(tag("b", label(d.failure)) + f": {d.finding}" for d in self.detectors)
        heading = "The detectors, which see everything but the recipe, find:" if self.detectors else self.detected
        lead = tag("p", tag("strong", self.sentence), f" {self.hint} {self.kept}", role="status")
        return lead + tag("p", heading) + (findings if self.detectors else "") + tag("div", *(entry._html() for entry in self.entries))


def entries(
    truth: Sequence[str], named: Sequence[str], cures: dict[str, str], seen: Evidence, healthy: Sequence[Evidence]
) -> tuple[Entry, ...]:
    """An entry for each failure in the run, then for each one that was wrongly named."""
    rows = []
    for name in (*truth, *(other for other in named if other not in truth)):
        here, sound = _symptom(name, seen), [_symptom(name, other) for other in healthy]
        hidden = len(truth) > 1 and bool(sound) and here <= max(sound)
        rows.append(Entry(name, name in truth, name in named, told(here), between(sound), hidden, cures.get(name, "")))
    return tuple(rows)


def _symptom(name: str, seen: Evidence) -> float:
    try:
        return FAILURES[name].symptom(seen)
    except LabError:  # the exam did not measure it
        return float("nan")
