"""Write `docs/claims.md`, the verdicts on all claims, from the shipped records and measurements: `labkit build claims` (seconds)."""

from __future__ import annotations

import re
from pathlib import Path

from labkit.base.files import data_dir
from labkit.base.stats import NO_EFFECT
from labkit.studies.claims import CLAIMS, ClaimFinding, Claims, claims
from labkit.studies.claims.verdicts import CONDITIONS, NOT_TESTED, UNITS, difference, plain, sign, told, word_of
from labkit.studies.sweep import sweep

HEAD = f"""# Claims and verdicts

What is said of distillation, judged by the runs and measurements that ship with the lab. One claim, on Medusa and EAGLE, is answered from
the published trainers that it cites. Made by `labkit build claims`; a test compares. In Python: `labkit.claims("online cost")`.

Each claim has its verdict, a mark for each condition under which it was tested, and its numbers, folded.
`\u2713` it holds, `\u2717` the opposite holds, `=` no practical effect, `?` not distinguishable.

<details><summary>How to read verdicts and numbers</summary>

- **Verdict**: a claim *holds* if it holds under every condition listed. It *holds in part* if it holds under some, and the verdict is
  *mixed* if the opposite holds under others. It *does not hold* if it holds under none, and at least one condition shows the opposite or no
  practical effect. *True* and *false* are said of claims that no size of an effect decides.
- **{NOT_TESTED[0].upper()}{NOT_TESTED[1:]}**: the claim says something else than the sentence that was tested, or more,
  such as a cost. That sentence follows, with its own verdict.
- **Difference**: what was tested is a difference of two means, above 0 where the sentence holds. Scores and shares go from 0 to 1, so
  +0.10 is ten percentage points. A nat is the unit of KL. In the name of a condition "less" is minus.
- **Band**: the 95% t-interval of paired differences over n seeds. Where n is above 7, it is over n questions.
- **Condition**: it *holds* if the whole band is above 0; *the opposite* if the whole band is below 0; *not distinguishable* if the band
  contains 0; *no practical effect* if the band lies within {NO_EFFECT:g} of 0 on both sides, even if it does not contain 0.
- **Many conditions**: bands are not widened for their number. With no effect at all, about one claim in ten with four conditions would
  still hold under one of them, and up to one in four with twelve.
- **Core skill**: the mean score over the core skills of Atlas, the lab's world of facts. **Gold labels**: true answers that were paid for.
- **Recovery**: (student - baseline) / (teacher - baseline). The baseline is the same student on 300 gold labels.
- **Store**: a set of facts that a student learns by heart. An *exposure* is one time that it sees each fact.
- **Equal time**: it counts what a run does itself. The teacher's cached labels and its written text are there already and cost nothing; its
  hidden states are worked out in the run. The learning rates of the four ways to distil were chosen on one of their five seeds.
- **SmolLM2**: some claims were also tried on SmolLM2-135M and a student of half its layers, in short runs.
- **Published**: other people's results, cited and not checked here.

</details>

## All verdicts

| | claim | verdict |
|---|---|---|
"""
GROUPS = {  # by module of `labkit.studies.claims`: its claims' heading, and their lesson
    "ways": ("Ways to distil", "04_four_ways"),
    "temperature": ("Temperature", "02_temperature"),
    "capacity": ("Capacity", "06_capacity_floor"),
    "mismatch": ("Mismatch", "07_mismatch"),
    "inheritance": ("Inherited errors", "08_hallucination_inheritance"),
    "online": ("Online training", "09_online_cost"),
    "imitation": ("Imitation", "05_sequence_at_scale"),
    "speculation": ("Speculative decoding", "10_speculative_decoding"),
}
PARTED = """
## Where a grid came out otherwise than expected

A grid says what it expects before its runs: sign and size of a difference in mean core skill, and why (`[expected]` in `data/sweeps`). Here
are the lines that the runs contradict: the sign differs, or no value of the expected size lies in the measured band. Grids that were
recorded before this rule have no expectation, and none is made up for them.

"""


def page(found: Claims) -> str:
    rows = [
        f"| {sign(one.verdict)} | [{_title(name)}](#{_slug(_title(name))}) | {_short(found, name)} |\n" for name, one in found.found.items()
    ]
    text, group = HEAD + "".join(rows), ""
    for name in found.found:
        module = CLAIMS[name].measure.__module__.rpartition(".")[2]
        if module != group:
            heading, lesson = GROUPS[group := module]
            text += f"\n## {heading}\n\nLesson: [{lesson}](../notebooks/{lesson}.ipynb)\n"
        text += _section(found, name)
    return text + PARTED + (parted() or "None so far.\n")


def _title(name: str) -> str:
    return CLAIMS[name].text.rstrip(".")


def _slug(title: str) -> str:
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _short(found: Claims, name: str) -> str:
    """The first words of the verdicts, without the conditions."""

    def first(verdict: str) -> str:
        return verdict.partition(":")[0].partition(" under ")[0]

    finding = found.found[name]
    said = first(finding.verdict)
    if CLAIMS[name].on != "Atlas":
        return f"{said} (on {CLAIMS[name].on})"
    if said == NOT_TESTED:
        said += f"; what was tested: {first(finding.measured)}"
    same = name in found.real and not finding.answers  # else SmolLM2 tells of another sentence
    return f"{said}; on SmolLM2: {first(found.on_smollm2(name))}" if same else said


def _section(found: Claims, name: str) -> str:
    entry, finding, real = CLAIMS[name], found.found[name], found.real.get(name)
    text = f"\n### {_title(name)}\n\n**{sign(finding.verdict)}** {told(entry, finding)}\n\n{_chips(finding)}\n"
    if real:
        text += f"\nOn SmolLM2: {_chips(real)}\n"
    text += "\n<details><summary>Numbers and published results</summary>\n\n"
    text += f"Measured on {entry.on} ({UNITS.get(finding.unit, finding.unit)}): {entry.measured}.\n\n{_table(finding)}"
    if real:
        text += f"\nMeasured on SmolLM2: {real.unit}.\n\n{_table(real)}"
    return text + f"\n**Published:** {entry.published}.\n".replace("*CE", "\\*CE") + "\n</details>\n"


def _chips(finding: ClaimFinding) -> str:
    """A mark for each condition: its sign and its name."""
    return " ".join(f"`{CONDITIONS[word][0]} {condition}`" for condition, word in finding.conditions().items())


def _table(finding: ClaimFinding) -> str:
    """A table with one row for each condition, and the finding's remark below."""
    rows = ["| condition | difference (band) | n | says |", "|---|---|---|---|"]
    for condition, effect in finding.effects.items():
        rows.append(f"| {condition} | {difference(condition, effect, finding)} | {effect.n} | {word_of(effect)} |")
    return "\n".join(rows) + "\n" + (f"\n{plain(finding.beside)}\n" if finding.beside else "")


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
