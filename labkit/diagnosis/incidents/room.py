"""One case at a time: you buy probes, name the failures once, and get the verdict."""

from __future__ import annotations

import datetime
import hashlib
import html
import numbers
import re
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from labkit.base.errors import LabError, shown, unknown
from labkit.diagnosis.failures import FAILURES, diagnose, provoke
from labkit.diagnosis.incidents.cases import Case, draw, ordered, train, truth
from labkit.diagnosis.incidents.debrief import IncidentVerdict, entries
from labkit.diagnosis.incidents.findings import ProbeFinding, cheapest, look
from labkit.diagnosis.incidents.history import NO_FAULT, IncidentAnswer, Mistakes, keep, mistakes
from labkit.diagnosis.incidents.probes import PROBES, probe

if TYPE_CHECKING:
    import pandas

BUDGET = 40  # minutes a case; all probes together cost more than twice as much
NUMBERS = 1_000_000  # of cases: short enough to pass on
LETTERS = "ABCD"


class Room:
    """A case and the probes bought for it. The buttons call `probe`, `name` and `next`."""

    widget: Callable[[Room], object] | None = None  # makes what is displayed

    def __init__(self, seed: int | None = None, budget: int = BUDGET, *, live: bool = False) -> None:
        if isinstance(budget, bool) or not isinstance(budget, int) or not 1 <= budget <= 1_000:
            raise LabError(f"budget={shown(budget)} must be a whole number of minutes from 1 to 1000, as in budget={BUDGET}.")
        self.budget, self.live = budget, live
        self.watchers: list[Callable[[], object]] = []  # called after each change
        self._view: Any = None
        self._case = _open(seed, live, _progress)
        self._findings: dict[str, ProbeFinding] = {}
        self._verdict: IncidentVerdict | None = None
        self._spent = 0

    # ---- what is known of the case ---------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        return self._case.number

    @property
    def brief(self) -> str:
        """The intended recipe, in a sentence."""
        return self._case.brief

    @property
    def left(self) -> int:
        """Minutes of the budget that are left."""
        return self.budget - self._spent

    @property
    def findings(self) -> Mapping[str, ProbeFinding]:
        """The findings of the probes bought so far, by name."""
        return MappingProxyType(self._findings)

    @property
    def probes(self) -> pandas.DataFrame:
        """All probes as a table: price, question answered, and whether it was bought."""
        import pandas

        rows = [{"probe": p.name, "minutes": p.minutes, "tells": p.tells, "bought": p.name in self.findings} for p in PROBES.values()]
        return pandas.DataFrame(rows).set_index("probe")

    @property
    def verdict(self) -> IncidentVerdict | None:
        """The verdict; None before the failures are named."""
        return self._verdict

    def cures(self, failure: str) -> dict[str, str]:
        """Four remedies by letter; one of them is for this failure. The four do not depend on the case."""
        name = _failure(failure)
        others = sorted((entry.remedy for entry in FAILURES.values() if entry.name != name), key=lambda text: _lot(name, text))[:3]
        return dict(zip(LETTERS, sorted([FAILURES[name].remedy, *others], key=lambda text: _lot(f"order {name}", text)), strict=True))

    # ---- what you can do -------------------------------------------------------------------------------------------------------------

    def probe(self, name: str) -> ProbeFinding:
        """Buy a probe and show its numbers. A probe that was bought costs nothing more; after the verdict, all are free.

        Raises `LabError` for an unknown probe and for one that costs more than what is left.
        """
        entry = probe(name)
        if name in self._findings:
            return self._findings[name]
        if reason := self.refused(name):
            raise LabError(reason)
        finding = self._findings[name] = look(entry.name, self._case.evidence, self._case.healthy)
        self._spent += 0 if self._verdict else entry.minutes
        self._tell()
        return finding

    def refused(self, name: str) -> str:
        """Why a probe cannot be bought, or ""."""
        entry = probe(name)
        if name in self._findings or self._verdict is not None or entry.minutes <= self.left:
            return ""
        cheaper = [p.name for p in PROBES.values() if p.minutes <= self.left and p.name not in self._findings]
        fix = f"take a cheaper one ({', '.join(cheaper)}), or name the fault" if cheaper else "name the fault"
        return f"{name!r} takes {entry.minutes} minutes and {self.left} of {self.budget} are left: {fix}, which is always free."

    def name(self, *faults: str, cure: str | Sequence[str] | None = None) -> IncidentVerdict:
        """Name up to two failures, or "no fault"; once a case.

        cure: a letter of `cures(fault)`, or words of that cure. For two faults: two of them, in the same order.

        Raises `LabError` for an answer that is not possible; such an answer does not count.
        """
        if self._verdict is not None:
            raise LabError("this case has been named; only one answer counts. room.next() opens another case.")
        named = _named(faults)
        self._possible(named)
        chosen = {name: self._cure(name, text) for name, text in zip(named, _several(cure, named), strict=False)}
        case = self._case
        was = truth(case._recipe)
        detected = diagnose(case._record)
        cured = [chosen[name] == FAILURES[name].remedy for name in named if name in was and name in chosen]
        answer = IncidentAnswer(
            case=f"live {case.number}" if case.live else str(case.number),
            truth=was,
            named=named,
            detectors=tuple(d.failure for d in detected),
            probes=tuple(self._findings),
            minutes=self._spent,
            cures=len(cured),
            cured=sum(cured),
            made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        rows = entries(was, named, chosen, case.evidence, case.healthy)
        least = cheapest(case.evidence, was) if was else ()
        verdict = self._verdict = IncidentVerdict(was, named, rows, detected, least, answer.minutes, keep(answer))
        self._tell()
        return verdict

    def next(self, seed: int | None = None, watch: Callable[[int, int], object] | None = None) -> Room:
        """Open another case in this room. A case that was not named does not count.

        seed, watch: as in `incident` and `cases.train`.
        """
        self._case = _open(seed, self.live, watch or _progress)
        self._findings, self._verdict, self._spent = {}, None, 0
        self._tell()
        return self

    def mistakes(self) -> Mistakes:
        """Your mistakes over all your cases, also those of earlier sessions."""
        return mistakes()

    # ---- parts -----------------------------------------------------------------------------------------------------------------------

    def _possible(self, named: Sequence[str]) -> None:
        """Raise `LabError` for two failures that cannot be in one run."""
        if len(named) < 2:
            return
        reasons = []
        for order in (named, named[::-1]):
            try:
                provoke(ordered(self._case._recipe), *order)
                return
            except LabError as error:
                reasons.append(str(error))
        raise LabError(f"{named[0]} and {named[1]} cannot both be in this run. {reasons[0]} Nothing has been counted; name again.")

    def _cure(self, name: str, text: str) -> str:
        """One of the four cures: by its letter, or the one that contains most of the given words."""
        options = self.cures(name)
        if (letter := text.strip().strip("().: ").upper()) in options:
            return options[letter]
        given = _stems(text)
        shared = {option: len(given & _stems(option)) for option in options.values()}
        best = max(shared, key=lambda option: shared[option])
        if 2 * shared[best] > len(given) and list(shared.values()).count(shared[best]) == 1:
            return best
        listed = "; ".join(f"{letter}: {option}" for letter, option in options.items())
        raise LabError(f"cure={shown(text)} is not clearly one of the four for {name}: give a letter. {listed}")

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()

    def __repr__(self) -> str:
        state = "named" if self._verdict else f"{self.left} of {self.budget} minutes left"
        costs = ", ".join(f"{p.name} ({p.minutes})" for p in PROBES.values())
        return (
            f"Incident {self.number}, {state}. {self.brief}\n"
            f"It may have failures, or none. Probes, with their minutes: {costs}.\n"
            'room.probe("loss curve") buys one; room.name("no fault") answers; labkit.catalogue("failures") lists the failures.'
        )

    def _repr_html_(self) -> str:
        return f'<pre style="white-space:pre-wrap">{html.escape(repr(self))}</pre>'

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        self._view = self._view or (self.widget(self) if self.widget else None)
        display(self._view or HTML(self._repr_html_()))


def _open(seed: int | None, live: bool, watch: Callable[[int, int], object]) -> Case:
    if seed is None:
        seed = secrets.randbelow(NUMBERS)
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= seed < NUMBERS:  # numpy's are of this kind too
        raise LabError(f"seed={shown(seed)} must be a whole number from 0 to {NUMBERS - 1:,}: the number of a case, as in seed=7.")
    return train(int(seed), watch) if live else draw(int(seed))


def _progress(step: int, steps: int) -> None:
    """Print the progress of a run that is trained before anything is displayed."""
    if sys.stdout is not None and (step % 10 == 0 or step == steps):
        print(f"\rTraining a case: step {step} of {steps}", end="\n" if step == steps else "", flush=True)


def _failure(name: object) -> str:
    """The name of a failure, from its name or its label."""
    by_label = {entry.label.casefold(): entry.name for entry in FAILURES.values()}
    text = name.strip() if isinstance(name, str) else ""
    for known in (text, text.replace(" ", "_").replace("-", "_").lower(), by_label.get(text.casefold(), "")):
        if known in FAILURES:
            return known
    raise unknown("failure", name, [NO_FAULT, *FAILURES])


def _named(faults: Sequence[str]) -> tuple[str, ...]:
    given = [f for fault in faults for f in (fault if isinstance(fault, list | tuple | set) else [fault])]
    if not given:
        raise LabError(f'name one or two failures, or say room.name("{NO_FAULT}"): labkit.catalogue("failures") lists them.')
    if wrong := [f for f in given if not isinstance(f, str)]:
        raise LabError(f"{shown(wrong[0])} is not the name of a failure: give a text, as in room.name({NO_FAULT!r}). This did not count.")
    nothing = [f for f in given if str(f).strip().casefold().replace("_", " ") in (NO_FAULT, "none", "healthy")]
    if nothing and len(nothing) < len(given):
        raise LabError(f"{NO_FAULT!r} and a failure contradict each other: name one or the other.")
    names = () if nothing else tuple(dict.fromkeys(_failure(f) for f in given))
    if len(names) > 2:
        raise LabError(f"{len(names)} failures are named, but a case has at most two: keep the two that you are surest of.")
    return names


def _several(cure: str | Sequence[str] | None, named: Sequence[str]) -> list[str]:
    """The given cures as a list; there may be fewer than failures named."""
    given = list(cure) if isinstance(cure, list | tuple) else [] if cure is None else [cure]
    cures = [text for text in given if isinstance(text, str)]
    if len(given) > len(named) or len(cures) < len(given):
        raise LabError(f"cure={shown(cure)} must be one letter or text for each failure named, in the same order; {len(named)} named.")
    return cures


def _stems(text: str) -> set[str]:
    """The first four letters of its words, so that "cache" matches "cached"."""
    return {word[:4] for word in re.findall(r"[a-z]{3,}", text.casefold())}


def _lot(name: str, text: str) -> bytes:
    return hashlib.blake2b(f"{name} {text}".encode(), digest_size=8).digest()
