"""Write `docs/claims.md`, the verdicts on all claims, from the shipped records and measurements: `labkit build claims` (seconds)."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.base.files import data_dir
from labkit.base.stats import NO_EFFECT
from labkit.studies.claims import CLAIMS, ClaimFinding, Claims, claims
from labkit.studies.sweep import sweep

HEAD = f"""# Claims and verdicts

What is said of distillation, judged by the runs and measurements that ship with the lab. Made by `labkit build claims`; a test compares.

## How to read this page

- **Difference**: each claim is measured as a difference of two means, above 0 where the claim holds. Scores and shares go from 0 to 1, so
  +0.10 is ten percentage points. A nat is the unit of KL. In the name of a condition "less" is minus.
- **Core skill**: the mean score over the core skills of Atlas, the lab's world of facts.
- **Gold labels**: true answers that were paid for.
- **Recovery**: (student - baseline) / (teacher - baseline). The baseline is the same student on 300 gold labels.
- **Store**: a set of facts that a student learns by heart. An *exposure* is one time that it sees each fact.
- **Band**: the 95% t-interval of paired differences over n seeds. Where n is above 5, it is over n questions.
- **0.02 rule**: a band that lies within {NO_EFFECT:g} of 0 on both sides is *no practical effect*, even if it does not contain 0.
- **Verdict under a condition**: *holds* if the whole band is above 0; *the opposite* if the whole band is below 0; *not distinguishable* if
  the band contains 0. The 0.02 rule goes first.
- **Verdict on a claim**: it *holds* if it holds under every condition listed. It *does not hold* if it holds under none, and at least one
  condition shows the opposite or no practical effect. *No practical effect* and *not distinguishable* are said if all conditions agree.
- **Many conditions**: bands are not widened for their number. With no effect at all, about one claim in ten with four conditions would
  still hold under one of them, and up to one in four with twelve.
- **Equal time**: it counts what a run does itself. The teacher's cached labels and its written text are there already and cost nothing; its
  hidden states are worked out in the run. The learning rates of the four ways to distil were chosen on one of their five seeds.
- **SmolLM2**: some claims were also tried on SmolLM2-135M and a student of half its layers, in short runs.
- **Published**: other people's results, cited and not checked here.

## All verdicts

"""
UNITS = {"points of 1": "score, 0 to 1", "share of 1": "share, 0 to 1"}
WORDS = {"better": "holds", "worse": "the opposite"}


PARTED = """
## Where a grid came out otherwise than expected

A grid says what it expects before its runs: sign and size of a difference in mean core skill, and why (`[expected]` in `data/sweeps`). Here
are the lines that the runs contradict: the sign differs, or no value of the expected size lies in the measured band. Grids that were
recorded before this rule have no expectation, and none is made up for them.

"""


def page(found: Claims) -> str:
    rows = [f"| [{_title(name)}](#{_slug(_title(name))}) | {_verdicts(found, name)} |\n" for name in found.found]
    text = HEAD + "| claim | verdict |\n|---|---|\n" + "".join(rows) + "".join(_section(found, name) for name in found.found)
    return text + PARTED + (parted() or "None so far.\n")


def _title(name: str) -> str:
    return CLAIMS[name].text.rstrip(".")


def _slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _verdicts(found: Claims, name: str) -> str:
    told = plainly(found.found[name])
    if CLAIMS[name].on != "Atlas":
        return f"{told} (on {CLAIMS[name].on})"
    return f"{told}; on SmolLM2: {plainly(found.real[name])}" if name in found.real else told


def plainly(finding: ClaimFinding) -> str:
    """The verdict on a claim, with the number of conditions that agree."""
    verdicts = [effect.verdict for effect in finding.effects.values()]
    n, better, worse = len(verdicts), verdicts.count("better"), verdicts.count("worse")
    short = finding.verdict.partition(":")[0]
    of = f"under {'both' if n == 2 else f'all {n}'} conditions" if n > 1 else ""
    if short == "holds when":
        return f"holds under {better} of {n} conditions" + (f", the opposite under {worse}" if worse else "")
    if short == "does not hold" and worse:
        return "does not hold: the opposite" + (f" {of}" if worse == n and n > 1 else f" under {worse} of {n} conditions" if n > 1 else "")
    return f"{short} {of}".strip()


def _section(found: Claims, name: str) -> str:
    entry, finding = CLAIMS[name], found.found[name]
    text = f"\n## {_title(name)}\n\n**Verdict on {entry.on}: {plainly(finding)}.**\n\n"
    text += f"Measured ({UNITS.get(finding.unit, finding.unit)}): {entry.measured}.\n\n{_table(finding)}"
    if name in found.real:
        real = found.real[name]
        text += f"\n**Verdict on SmolLM2: {plainly(real)}.** Measured: {real.unit}.\n\n{_table(real)}"
    other = f"Not tried on {'SmolLM2' if entry.on == 'Atlas' else 'Atlas'}. " if name not in found.real else ""
    return text + f"\n{other}**Published:** {entry.published}.\n".replace("*CE", "\\*CE")


def _table(finding: ClaimFinding) -> str:
    """A table with one row for each condition, and the finding's remark below."""
    rows = ["| condition | difference (band) | n | verdict |", "|---|---|---|---|"]
    for condition, effect in finding.effects.items():
        told = f"{effect.middle:+.3f} ({effect.low:+.3f} to {effect.high:+.3f})"
        told += f"; expected {finding.expected[condition]}" if condition in finding.expected else ""
        rows.append(f"| {condition} | {_minus(told)} | {effect.n} | {WORDS.get(effect.verdict, effect.verdict)} |")
    beside = finding.beside.replace("(better)", "(above 0)").replace("(worse)", "(below 0)")
    return "\n".join(rows) + "\n" + (f"\n{_minus(beside)}\n" if beside else "")


def _minus(text: str) -> str:
    return re.sub(r"(?<!\w)-(?=\d)", "\u2212", text)


def parted() -> str:
    """A line for each result of a shipped grid that contradicts its expectation."""
    found = [
        (path.stem, line)
        for path in sorted((data_dir() / "sweeps").glob("*.toml"))
        for line in sweep(path.stem).surprises().to_dict("records")
    ]
    return "".join(
        f"- `{name}`, {line['point']} against {line['against']}: expected {line['expected']}, because {line['reason']}; measured "
        f"{line['difference']:+.3f} ({line['low']:+.3f} to {line['high']:+.3f}).\n"
        for name, line in found
    )


def build(folder: Path) -> None:
    (folder / "claims.md").write_text(page(claims()), encoding="utf-8")
