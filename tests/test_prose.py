"""Every number in the prose of notebooks and documents is bound to what it comes from (`tests/prose.py`), and is that today."""

from __future__ import annotations

import re
from pathlib import Path

import bench
import pytest
import sources
from conftest import REPOSITORY
from prose import Part, faults, numbers, parts, rounds_to

import labkit
from labkit.losses.divergences import DIVERGENCES
from labkit.records.names import CORE, SKILLS

GENERATED = {  # printed by code, or a table that a test compares as a whole
    *("docs/claims.md", "docs/failures.md", "docs/licences.md", "docs/models.md", "docs/scale.md", "docs/course.md", "docs/api.md"),
    *("data/README.md", "data/teachers/README.md"),  # tests/base/test_manifest.py, and below
}
HISTORY = {"LOG.md", "CHANGELOG.md"}  # dated: what was measured then
DOCUMENTS = [
    path
    for pattern in ("*.md", "docs/*.md", "data/*.md", "data/*/*.md", "benchmarks/*.md", "findings/*.md", "notebooks/*.ipynb")
    for path in sorted(REPOSITORY.glob(pattern))
    if str(path.relative_to(REPOSITORY)) not in GENERATED | HISTORY
]


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_DATA", raising=False)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_number_is_what_its_source_says(path: Path):
    found = [fault for part in parts(path) for fault in faults(part, sources.NAMES)]
    assert not found, "\n".join(found)


def test_what_documents_say_in_words_and_code():
    using, measured, glossary = (
        (REPOSITORY / "docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("using", "measured", "glossary")
    )
    words = {7: "seven", 8: "eight", 10: "ten"}
    assert f"{words[len(SKILLS)]} skills" in using
    assert f"The {words[len(CORE)]} skills whose mean is the headline score: {', '.join(CORE)}." in glossary
    assert f"{words[len(DIVERGENCES)]} divergences" in using
    assert f"all {len(labkit.results()):,} recorded runs" in using
    assert sources.claim("soft targets").effects["questions with one right answer"].verdict in measured
    rows = bench.read()
    dates = sorted(row["date"] for row in rows)
    (machine,), (torch,) = {row["machine"] for row in rows}, {row["versions"]["torch"] for row in rows}
    assert all(f"`{told}`" in measured for told in (machine, torch, dates[0], dates[-1])), (machine, torch, dates[0], dates[-1])
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"of the gap on {words[len(CORE)]} core skills \(\d+% on all {words[len(SKILLS)]}\)", readme)
    assert (
        labkit.claims().real["hallucination inheritance"].verdict.startswith("no practical effect") and "on SmolLM2 no difference" in readme
    )
    assert sources.paired(sources.runs("own", "distilled"), sources.runs("own", "all gold labels")).verdict in readme


def test_the_cards_are_what_their_folders_say():
    data = REPOSITORY / "data"
    (hours,) = re.findall(r"^\| `records` .* (\d+) hours, summed", (data / "README.md").read_text(encoding="utf-8"), re.M)
    assert rounds_to(hours, sources.minutes_on_record() / 60)
    told = re.findall(r"^\| (atlas-\S+) \| ([\d,]+) \| (.*) \|$", (data / "teachers" / "README.md").read_text(encoding="utf-8"), re.M)
    assert {name for name, *_ in told} == {path.name for path in (data / "teachers").glob("*/")}
    for name, _, cells in told:
        skills = [sources.card(name, skill) for skill in SKILLS]
        assert cells.split(" | ")[:-2] == [f"{skill:.3f}" for skill in skills], name
        assert float(cells.split(" | ")[-2]) == pytest.approx(sum(skills) / len(skills), abs=0.0011), name


# ---- the reader itself -------------------------------------------------------------------------------------------------------------


def written(tmp_path: Path, text: str, values: dict[str, object] | None = None) -> list[str]:
    path = tmp_path / "page.md"
    path.write_text(text, encoding="utf-8")
    return [fault for part in parts(path) for fault in faults(part, {"at": values or {}, "abs": abs})]


def test_what_is_a_number():
    prose = (
        "Lesson 05 of 2023, `x=12`, $y = 13$, 57k and a 135M model, arXiv 1503.02531, [a page](page-16.md), “17 of them”,\n"
        "95% bands, 3 seeds: 0.7 or −0.20, +0.05 and lesson 05 (20,000 of 30%), 2-4 times, T = 4, 1.5x, +12, SmolLM2-135M, 10-12,\n"
        "Apache-2.0, CC BY 4.0, SHA-256, [10 A lesson](notebooks/10_x.ipynb) and lessons 11 and 12."
    )
    assert [number for _, number in numbers(prose)] == ["0.7", "−0.20", "+0.05", "20,000", "30%", "1.5", "+12", "10", "12"]


@pytest.mark.parametrize(
    ("prose", "found"),
    [
        ("After 2000 steps (Hinton 2015) and 2048 tokens, in 2023.", ["2000", "2048"]),
        ("0.7s, 300ms, 12.5GB, but 3.5M and 3.3k are names; 6e-3.", ["0.7", "300", "12.5", "6e-3"]),
        ("It costs $12.50 and then $30 more; $T = 16$.", ["12.50", "30"]),
        ("- a list\n    - of 0.55 inside", ["0.55"]),
        ("Between them 0.55,0.62,0.71 and _0.71_ and .75 lie.", ["0.55", "0.62", "0.71", "0.71", ".75"]),
    ],
)
def test_what_is_easily_missed(prose: str, found: list[str]):
    assert [number for _, number in numbers(prose)] == found


@pytest.mark.parametrize(
    ("printed", "value", "right"), [("6e-3", 0.0062, True), ("6e-3", 0.0066, False), ("1.5e4", 15_400, True), (".75", 0.751, True)]
)
def test_a_number_agrees_as_it_is_printed(printed: str, value: float, right: bool):
    assert rounds_to(printed, value) is right


def test_bound_numbers_pass(tmp_path: Path):
    text = "`steps=300` is all. After 300 steps 0.70 is left (0.66 to 0.74), where 80% were told.\n\n<!-- numbers\n300 : chosen\n"
    text += '0.70 = at["middle"]\n0.66 0.74 = at["band"]\n80% : cited arXiv 1503.02531\n-->\n'
    assert written(tmp_path, text, {"middle": 0.7049, "band": (0.66, 0.7351)}) == []


@pytest.mark.parametrize(
    ("block", "fault"),
    [
        ("", r"“A first gives 0\.70, a second 12\.”.*\['0\.70', '12'\].*\[\]"),
        ('0.70 = at["a"]', r"\['12'\]"),
        ('0.70 = at["b"]\n12 = at["b"]', r"“A first gives 0\.70, a second 12\.” says 0\.70, but at\[\"b\"\] is 12"),
        ('0.70 12 = at["a"]', "2 numbers"),
        ("0.70 12 : chosen", "no code of this document has"),
        ("0.70 12 : cited somebody", "names no source"),
        ("0.70 = 0.7\n12 = 10 + 2", "reads nothing that was measured"),
        ('0.70 = [0.7][0]\n12 = float("12")', "reads nothing that was measured"),
        ("0.70 12 : cited 2048 tokens", "names no source"),
    ],
)
def test_a_fault_names_the_sentence_the_old_and_the_new(tmp_path: Path, block: str, fault: str):
    text = "Some words. A first gives 0.70, a second 12.\n" + (f"\n<!-- numbers\n{block}\n-->\n" if block else "")
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError("\n".join(written(tmp_path, text, {"a": 0.7, "b": 12.0})))


def test_a_line_of_no_kind_is_refused(tmp_path: Path):
    with pytest.raises(AssertionError, match="none of NUMBERS = EXPRESSION"):
        written(tmp_path, "It is 12.\n\n<!-- numbers\n12\n-->")


def test_a_block_ends_where_it_stands(tmp_path: Path):
    """What follows a block is bound by the next one, or by none."""
    first = 'It is 12.\n\n<!-- numbers\n12 = at["b"]\n-->\n\n'
    assert written(tmp_path, first + "No more.", {"b": 12.0}) == []
    (fault,) = written(tmp_path, first + "It is 12.", {"b": 12.0})
    assert "['12']" in fault


def test_a_part_has_its_code(tmp_path: Path):
    path = tmp_path / "page.md"
    path.write_text("```\nsteps = 1_200\n```\nA text of 1,200 steps.\n\n<!-- numbers\n1,200 : chosen\n-->", encoding="utf-8")
    assert isinstance(next(parts(path)), Part)
    assert not [fault for part in parts(path) for fault in faults(part, {})]
