"""Write the verdict table, `docs/claims.md`, from the records and measurements that ship: `labkit build claims` (seconds)."""

from __future__ import annotations

from pathlib import Path

from labkit.base.files import data_dir
from labkit.studies.claims import Claims, claims
from labkit.studies.sweep import sweep

HEAD = """# Claims and verdicts

What is said of distillation, judged by what ships with the lab. Made by `labkit build claims`; a test compares. A band is a 95%
t-interval of paired differences over seeds (over questions, where n is above 5), and a claim holds only if it does under every condition
listed; within 0.02 either way is no practical effect. The bands are not widened for the number of conditions: with no
effect at all, about one claim in ten with four of them, and up to one in four with twelve, would still "hold when" something. The ladder's
rates were chosen on one of its five seeds. Equal time counts what a run does itself: the teacher's cached labels and its written text are
at hand and free, its hidden states are worked out in the run. The last column is other people's, cited and not checked here.

"""


PARTED = """
## Where a grid came out otherwise than expected

A grid says what it expects before its runs: sign and size of a difference in mean core skill, and why (`[expected]` in `data/sweeps`). Here
are the lines that the runs contradict: the sign differs, or no value of the expected size lies in the measured band. Grids that were
recorded before this rule have no expectation, and none is made up for them.

"""


def page(found: Claims) -> str:
    return HEAD + found.markdown() + PARTED + (parted() or "None so far.\n")


def parted() -> str:
    """A line for each surprise of the grids that ship."""
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
