"""A record is the fold of its events; it survives the disk; and recovery is never shown without its baseline."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from hypothesis import given
from hypothesis import strategies as st

import labkit
from labkit.base import files as paths
from labkit.base import manifest
from labkit.base.errors import DataError, LabError
from labkit.base.files import data_dir
from labkit.lessons import predictions
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment
from labkit.records.names import BESIDE, CORE, SKILLS
from labkit.records.record import BASELINES, Record, load, mean, read_events, recovery, replay
from labkit.records.store import Store

EXP = Experiment(student="57k", temperature=2.0, steps=4)
PACKING = runpy.run_path(str(REPOSITORY / "data" / "recipes" / "records.py"))


def scores(value: float, **some: float) -> dict[str, float]:
    return {s: some.get(s, value) for s in SKILLS}


def story(
    exp: Experiment = EXP, student: float = 0.5, references: dict[str, float] | None = None, end: ev.Event | None = None
) -> list[ev.Event]:
    return [
        ev.Started(exp.to_dict(), "a title", 3_000_000, 57_000, exp.steps, exp.questions, SKILLS, "here"),
        ev.Labelled(128, 256, 0.25),
        ev.Step(1, 0.5, 128, {"loss": 6.5, "kl": 6.5, "lr": 0.001, "grad_norm": 2.0}),
        *(ev.Reference(name, scores(value)) for name, value in (references or {}).items()),
        ev.Evaluated(1, 0.75, scores(0.125), {"kl": 6.25, "agreement": 0.0}, {"validity": 0.125, "coverage": 0.0}, 0.5),
        ev.Step(2, 1.0, 256, {"loss": math.nan, "kl": math.nan, "lr": 0.001, "grad_norm": 2.0}),
        ev.Warned(2, "Côte d'Ivoire – 日本"),
        ev.Step(4, 1.5, 512, {"loss": 0.5, "kl": 0.25, "lr": 0.001, "grad_norm": 2.0}),
        ev.Evaluated(4, 1.75, scores(student), {"kl": 0.25, "agreement": 0.5}, {"validity": student, "coverage": 0.25}, 0.125, final=True),
        end or ev.Finished(4, 2.0, "completed", {"questions": 512.0}),
    ]


# ---- the fold ----------------------------------------------------------------------------------------------------------------


def test_fold():
    record = Record(story(references={"teacher": 1.0}))
    assert record.experiment == EXP
    assert record.experiment.key == EXP.key
    assert [s.step for s in record.steps] == [1, 2, 4]
    assert [e.step for e in record.evaluations] == [1, 4]
    assert record.skills == scores(0.5)
    assert set(record.references) == {"teacher"}
    assert record.complete
    assert record.finished.reason == "completed"
    assert list(replay(record)) == record.events == story(references={"teacher": 1.0})
    assert "57k" in repr(record)
    assert "3 steps" in repr(record)


def test_adding_one_by_one_is_the_same_fold():
    grown = Record()
    for event in story():
        grown.add(event)
    whole = Record(story())
    assert vars(grown) == vars(whole)


@pytest.mark.parametrize("end", [ev.Finished(2, 1.0, "stopped"), ev.Failed(2, "the loss became nan", "lower the rate")])
def test_only_a_run_to_the_end_is_complete(end: ev.Event):
    assert not Record(story(end=end)).complete
    assert not Record(story()[:-1]).complete


def test_an_empty_record_says_so():
    with pytest.raises(LabError, match="empty"):
        Record().experiment  # noqa: B018
    with pytest.raises(LabError, match="holds no exam"):
        Record(story()[:3]).skills  # noqa: B018


def test_curves_leave_out_what_was_not_measured():
    steps, values = load_again(Record(story())).curve("kl")
    assert (steps, values) == ([1, 4], [6.5, 0.25])
    assert Record(story()).curve("peer") == ([], [])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda record: record.curve("k1"), "Did you mean 'kl'"),
        (lambda record: record.numbers("skillls"), "Did you mean 'skills'"),
        (lambda record: record.recovery("teacher"), "unknown baseline 'teacher'"),
        (lambda record: record.save("."), r"'\.' is a folder: add the name of a file"),
        (lambda record: record.save("x" * 5_000), "cannot be a path"),
        (lambda record: record.save("a\0b"), "cannot be a path"),
        (lambda record: record.save("\ud800"), "cannot be a path"),
        (lambda record: record.save(""), "it is empty"),
    ],
)
def test_a_name_that_no_record_knows_and_a_path_that_no_file_can_have(call, said: str):
    for record in (Record(story()), labkit.record(student="57k", learning_rate=2e-2)):
        with pytest.raises(LabError, match=said):
            call(record)


def test_a_run_as_a_yardstick():
    reference = Record(story()).reference("label budget")
    assert reference == ev.Reference("label budget", scores(0.5), ((1, 6.25), (4, 0.25)), EXP.recipe)


# ---- the disk ----------------------------------------------------------------------------------------------------------------


def load_again(record: Record) -> Record:
    return Record(ev.from_json(json.loads(ev.dumps(e))) for e in record.events)


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz", "deep/er/run.jsonl.gz"])
def test_save_and_load(tmp_path: Path, name: str):
    record = Record(story(references={"teacher": 1.0, "label budget": 0.25}))
    path = record.save(tmp_path / name)
    back = load(path)
    assert back.events == load_again(record).events
    assert back.recovery() == record.recovery()
    assert back.experiment == EXP
    assert back.save(tmp_path / "again" / name).read_bytes() == path.read_bytes(), "saved twice, the same bytes"
    assert len((gzip.decompress(path.read_bytes()) if name.endswith("gz") else path.read_bytes()).splitlines()) == len(record.events)


def test_a_last_line_cut_short_is_left_out_wherever_it_is_cut(tmp_path: Path):
    lines = [ev.dumps(e).encode() for e in story()[:6]]
    assert not lines[-1].isascii(), "so that some cuts fall inside a character"
    whole = b"\n".join(lines)
    start = len(whole) - len(lines[-1])
    path = tmp_path / "events.jsonl"
    for cut in range(start, len(whole)):
        path.write_bytes(whole[:cut])
        assert [ev.dumps(e).encode() for e in read_events(path)] == lines[:-1], whole[start:cut]
    path.write_bytes(whole)
    assert len(list(read_events(path))) == 6, "only the newline is missing"


@pytest.mark.parametrize(
    "damage", ['{"event":"ste', "nonsense", "[]", "3", '"text"', "null", '{"event":"exploded"}', '{"event":"step"}', '{"event":[]}', "{}"]
)
def test_any_other_damage_is_named_by_file_and_line(tmp_path: Path, damage: str):
    lines = [ev.dumps(e) for e in story()]
    for name, pack in (("run.jsonl", bytes), ("run.jsonl.gz", gzip.compress)):
        path = tmp_path / name
        path.write_bytes(pack("\n".join([*lines[:3], damage, *lines[3:], ""]).encode()))
        with pytest.raises(DataError) as caught:
            load(path)
        assert str(path) in str(caught.value)
        assert "line 4" in str(caught.value)


def test_a_damaged_archive_is_named(tmp_path: Path):
    path = Record(story()).save(tmp_path / "run.jsonl.gz")
    raw = path.read_bytes()
    for damaged in (b"", b"not gzip", raw[: len(raw) // 2], raw[:30] + bytes([raw[30] ^ 0xFF]) + raw[31:], raw[:-6] + b"xx" + raw[-4:]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"run\.jsonl\.gz"):
            load(path)


def test_every_flipped_byte_of_an_archive_is_seen(tmp_path: Path):
    path = Record(story()).save(tmp_path / "run.jsonl.gz")
    raw, whole, seen = path.read_bytes(), load(path).events, 0
    for place in range(10, len(raw), 7):  # after the header, where gzip itself ignores a few bytes
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0x10]) + raw[place + 1 :])
        try:
            assert load(path).events == whole, place  # the bits that fill the last byte mean nothing
        except DataError:
            seen += 1
    assert seen > 0.95 * len(range(10, len(raw), 7))


@pytest.mark.parametrize("bit", [0, 1, 4])
def test_every_flipped_byte_of_a_plain_record_is_seen(tmp_path: Path, bit: int):
    path = Record(story()).save(tmp_path / "run.jsonl")
    raw, whole = path.read_bytes(), load(path).events
    for place in range(bit, len(raw), 5):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])
        with contextlib.suppress(DataError):
            assert load(path).events == whole, f"only the seal itself, {raw[place - 10 : place + 10]!r}"
    path.write_bytes(raw.replace(b',"seal":', b',"note":', 1))
    assert load(path).events == whole, "a field that is not the lab's"
    path.write_bytes(b"".join(raw.splitlines(keepends=True)[:-1]))
    with pytest.raises(DataError, match=r"run\.jsonl is damaged \(its content does not match"):
        load(path)


@pytest.mark.parametrize(
    ("event", "change"),
    [
        ("started", {"experiment": []}),
        ("started", {"steps": "8"}),
        ("started", {"skills": "capital"}),
        ("step", {"values": 3}),
        ("step", {"values": {"loss": "low"}}),
        ("step", {"step": 1.5}),
        ("step", {"step": True}),
        ("step", {"step": 10**400}),
        ("step", {"seconds": 10**400}),
        ("evaluated", {"fidelity": "good"}),
        ("evaluated", {"skills": {"capital": None}}),
        ("evaluated", {"final": 1}),
        ("reference", {"skills": None}),
        ("reference", {"curve": [[1]]}),
        ("sampled", {"rows": [3]}),
        ("probe", {"tokens": [None]}),
        ("finished", {"cost": []}),
    ],
)
def test_a_field_of_another_type_is_named_by_line(tmp_path: Path, event: str, change: dict):
    events = [*story(references={"teacher": 1.0}), ev.Sampled(4, ()), ev.Probe(4, "?", (), (), ())]
    rows = [e.to_json() | (change if e.kind == event else {}) for e in events]
    (number, *_) = [n for n, row in enumerate(rows, 1) if row["event"] == event]
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=rf"run\.jsonl is damaged at line {number} .*{next(iter(change))}=.* another type"):
        load(path)


def test_missing_and_headless_records(tmp_path: Path):
    with pytest.raises(DataError, match=r"no record at .*nowhere\.jsonl"):
        load(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="started"):
        load(Record(story()[1:]).save(tmp_path / "headless.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        load(tmp_path / "empty.jsonl")


# ---- recovery ----------------------------------------------------------------------------------------------------------------


def test_recovery_by_hand():
    student, baseline, teacher = scores(0.7), scores(0.5), scores(0.9)
    student["recall"], baseline["recall"], teacher["recall"] = 0.95, 0.9, 0.93  # less than 0.05 to gain: no gap
    student["add"], baseline["add"], teacher["add"] = 0.2, 0.4, 0.8  # worse than its baseline
    found = recovery(student, baseline, teacher, "label budget")
    n = len(CORE)
    assert found.mean == pytest.approx(((0.7 * (n - 2) + 1.15) - (0.5 * (n - 2) + 1.3)) / ((0.9 * (n - 2) + 1.73) - (0.5 * (n - 2) + 1.3)))
    assert found.ratio == pytest.approx((0.7 * (n - 2) + 1.15) / (0.9 * (n - 2) + 1.73))
    m = len(SKILLS)
    assert found.all_skills == pytest.approx((0.2 * (m - 2) - 0.15) / (0.4 * (m - 2) + 0.43))
    assert found.per_skill["recall"] is None
    assert found.per_skill["add"] == pytest.approx(-0.5)
    assert found.per_skill["city"] == pytest.approx(0.5)
    assert (found.baseline, found.student, found.reference, found.teacher) == ("label budget", student, baseline, teacher)


@given(st.floats(0, 1), st.floats(0.1, 1), st.floats(0, 1))
def test_recovery_identities(baseline: float, gap: float, share: float):
    teacher = baseline + gap
    found = recovery(scores(baseline + share * gap), scores(baseline), scores(teacher), "same questions")
    for value in (found.mean, found.all_skills, *found.per_skill.values()):
        assert value == pytest.approx(share, abs=1e-9)
    assert recovery(scores(baseline), scores(baseline), scores(teacher), "").mean == 0
    assert recovery(scores(teacher), scores(baseline), scores(teacher), "").mean == 1


def test_no_gap_at_all_is_no_number():
    for teacher in (0.5, 0.4):
        found = recovery(scores(0.6), scores(0.5), scores(teacher), "label budget")
        assert math.isnan(found.mean)
        assert math.isnan(found.all_skills)
        assert set(found.per_skill.values()) == {None}
    assert math.isfinite(recovery(scores(0.0), scores(0.0), scores(0.5), "").mean)
    found = recovery(scores(0.5), scores(0.0), scores(0.0), "")
    assert math.isnan(found.mean), "a teacher that knows nothing is no measure"
    assert not math.isfinite(found.ratio)


def test_a_gap_of_a_twentieth_counts():
    for low in (0.0, 0.3, 0.5, 0.85):
        found = recovery(scores(low), scores(low), scores(low + 0.05), "")
        assert set(found.per_skill.values()) == {0.0}, low
        assert recovery(scores(low), scores(low), scores(low + 0.049), "").per_skill["add"] is None


def test_core_leaves_out_what_stands_beside():
    assert set(CORE) | set(BESIDE) == set(SKILLS)
    assert not set(CORE) & set(BESIDE)
    assert mean(scores(0.0, two_hop=1.0, chain=1.0)) == 0
    assert mean(scores(1.0)) == 1
    assert mean(scores(0.0, add=1.0), SKILLS) == pytest.approx(1 / len(SKILLS))


@pytest.mark.parametrize(
    ("references", "missing"), [({}, "teacher"), ({"teacher": 1.0}, "label budget"), ({"label budget": 0.2}, "teacher")]
)
def test_recovery_is_refused_without_its_baseline(references, missing: str):
    record = Record(story(references=references))
    with pytest.raises(LabError, match=missing):
        record.recovery()


def test_each_baseline_has_its_own_recovery():
    record = Record(story(student=0.5, references={"teacher": 1.0, "label budget": 0.0, "same questions": 0.25}))
    assert record.recovery().mean == 0.5
    assert record.recovery().baseline == "label budget"
    assert record.recovery("same questions").mean == pytest.approx(1 / 3)
    with pytest.raises(LabError, match="nonsense"):
        record.recovery("nonsense")


def test_waterfall_order():
    record = Record(story(student=0.5, references={"teacher": 1.0, "same questions": 0.25, "label budget": 0.125}))
    assert list(record.waterfall().items()) == [("gold labels", 0.125), ("hard answers", 0.25), ("soft labels", 0.5), ("teacher", 1.0)]
    assert list(Record(story()[:3]).waterfall()) == ["gold labels", "hard answers", "soft labels", "teacher"]
    assert set(Record(story()[:3]).waterfall().values()) == {None}


def test_table():
    import pandas

    record = Record(story(student=0.5, references={"teacher": 1.0, "same questions": 0.25, "label budget": 0.0}))
    table = record.table()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["label budget", "same questions", "student", "working right", "teacher", "recovery"]
    assert list(table.index) == [*SKILLS, "mean (core)", "mean (all)"]
    assert (table["recovery"] == 0.5).all()
    assert list(Record(story()).table().columns) == ["student", "working right"], "no baseline, no recovery"


def test_the_table_and_the_recovery_say_the_same():
    record = Record(story(student=0.52, references={"teacher": 0.54, "label budget": 0.5}))  # a small gap in every skill
    found, table = record.recovery(), record.table()["recovery"]
    for row, value in (("mean (core)", found.mean), ("mean (all)", found.all_skills)):
        assert table[row] == pytest.approx(value, nan_ok=True)
    assert table[list(SKILLS)].isna().all()


# ---- the store ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own, for shipped records."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "atlas").symlink_to(data_dir() / "atlas")
    monkeypatch.setenv("LABKIT_DATA", str(tmp_path / "data"))
    return tmp_path / "data" / "records"


def ship(folder: Path, *runs: Record) -> None:
    """Into shards and a table, as `labkit build records` does: the first run by itself, the others together."""
    ships = {run.experiment.key: PACKING["Ships"](run.experiment, ["first"] if run is runs[0] else [], "arm") for run in runs}
    PACKING["pack"](folder, ships, {run.experiment.key: "".join(ev.dumps(e) + "\n" for e in run.events).encode() for run in runs})


def test_store_finds_its_own_before_the_shipped(shipped: Path):
    assert Store().find(EXP) is None
    assert Store().judged(EXP) is None
    ship(shipped, Record(story(student=0.25)), Record(story(EXP.but(seed=2))))
    assert Store().find(EXP).skills == Store().judged(EXP).skills == scores(0.25)
    assert Store().find(EXP).events == load_again(Record(story(student=0.25))).events
    path = Store().add(Record(story(student=0.75)))
    assert path.parent != shipped
    assert Store().find(EXP).skills == scores(0.75)
    assert Store().find(EXP.but(seed=1)) is None
    assert Store().find(EXP.but(speed="slow")).skills == scores(0.75), "speed changes no outcome"


def test_a_record_from_before_a_default_changed_is_not_found(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    """Neither one that ships nor one of this machine, in full or by its row; one that names the field is."""
    told = EXP.but(mix=0.25)
    ship(shipped, Record(story()), Record(story(told)))
    assert Store().find(EXP) and Store().judged(EXP)
    monkeypatch.setitem(KNOBS, "mix", KNOBS["mix"]._replace(default=0.5))
    now = EXP.but(mix=0.5)
    assert now.key == EXP.key, "as it was worked out before"
    assert Store().find(now) is Store().judged(now) is None
    assert Store().find(told.but(mix=0.25)) and Store().judged(told.but(mix=0.25))
    Store().add(Record(story(student=0.75)))
    assert Store().find(now) is Store().judged(now) is None


def test_a_record_of_one_s_own_that_is_another_run_s_hides_no_shipped_one(shipped: Path):
    ship(shipped, Record(story(student=0.25)))
    path = Store().add(Record(story(EXP.but(seed=9), student=0.75)))
    path.rename(path.with_name(f"{EXP.key}.jsonl.gz"))
    assert Store().find(EXP).skills == Store().judged(EXP).skills == scores(0.25)


def test_the_same_runs_are_packed_into_the_same_bytes(shipped: Path):
    runs = [Record(story(EXP.but(seed=seed), student=seed / 8)) for seed in range(4)]
    ship(shipped, *runs)
    files = [*shipped.iterdir(), shipped.parent / "results.csv"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    ship(shipped, runs[0], *runs[:0:-1])
    assert {path: path.read_bytes() for path in files} == {path: raw for path, (raw, _) in before.items()}
    ship(shipped, *runs[:-1], Record(story(EXP.but(seed=3), student=1.0)))
    changed = {path.name for path in files if path.read_bytes() != before[path][0]}
    assert changed == {"other.jsonl.xz", "manifest.json", "results.csv"}, "the other shard stays"
    assert (shipped / "first.jsonl.xz").stat().st_mtime_ns == before[shipped / "first.jsonl.xz"][1]


def test_a_build_that_is_cut_off_leaves_all_as_it_was(shipped: Path):
    ship(shipped, Record(story()), Record(story(EXP.but(seed=1))))
    files = {path: path.read_bytes() for path in [*shipped.iterdir(), shipped.parent / "results.csv", shipped.parent / "manifest.json"]}
    with pytest.raises(AssertionError, match="has no log"):
        ship(shipped, Record(story(student=0.75)), Record(story(EXP.but(seed=2))[:4]))
    assert files == {path: path.read_bytes() for path in files}


def test_a_damaged_shard_is_named_with_what_mends_it(shipped: Path):
    ship(shipped, Record(story()), Record(story(EXP.but(seed=2))))
    path = shipped / "first.jsonl.xz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"first\.jsonl\.xz is damaged.*python -m labkit build records`.*git checkout -- data"):
        Store().find(EXP)
    assert Store().find(EXP.but(seed=2)), "the other shard is whole"
    assert Store().judged(EXP).skills == scores(0.5), "the table still says what it came to"
    assert [key for key, _ in PACKING["_logs"](shipped)] == [EXP.but(seed=2).key], "what is left of it is packed anew"
    path.unlink()
    with pytest.raises(DataError, match=r"first\.jsonl\.xz is missing"):
        Store().judged(EXP).events  # noqa: B018


def test_a_damaged_or_missing_table_is_named_with_what_mends_it(shipped: Path):
    ship(shipped, Record(story()))
    table = shipped.parent / "results.csv"
    for damage in (lambda: table.write_text(table.read_text().replace("0.5", "0.6")), table.unlink):
        damage()
        with pytest.raises(DataError, match=r"results\.csv is (damaged|missing).*labkit build records`.*git checkout -- data"):
            Store().judged(EXP)


def test_a_table_that_names_a_run_its_shard_has_not(shipped: Path):
    ship(shipped, Record(story()))
    path = shipped / "first.jsonl.xz"
    path.write_bytes(PACKING["packed"]([]))
    manifest.seal(shipped, "labkit build records", {path.name: {}})
    with pytest.raises(DataError, match=f"holds no run {EXP.key}"):
        Store().find(EXP)


def test_a_shipped_run_is_judged_by_what_was_measured_here_since(shipped: Path):
    ship(shipped, Record(story(references={"teacher": 1.0})))
    assert set(Store().judged(EXP).scores) == {"student", "teacher"}
    Store().add(Record(story(EXP.baseline().but(seed=3), student=0.25)))
    assert Store().judged(EXP).scores["label budget"] == scores(0.25)
    Store().add(Record(story(EXP.baseline(), student=0.125)))
    assert Store().judged(EXP).scores["label budget"] == scores(0.125)


def test_what_was_made_with_other_data_is_not_found(shipped: Path, monkeypatch: pytest.MonkeyPatch):
    Store().add(Record(story()))
    assert Store().find(EXP)
    other = shipped.parent / "teachers" / "atlas-3m"
    other.mkdir(parents=True)
    (other / "manifest.json").write_text('{"model.safetensors": {"sha256": "00"}, "note": {"skills": {}}}')
    paths._version.cache_clear()
    assert Store().find(EXP) is None
    paths._version.cache_clear()


def test_a_home_that_cannot_be_written_is_read_and_told_once_something_is_written(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "file" / "home"))
    assert Store().find(EXP) is None and predictions.calibration()["n"] == 0
    with pytest.raises(LabError, match="LABKIT_HOME"):
        predictions.predict("00", 0.1, 0.2, 0.8)
    with pytest.raises(DataError, match=r"cannot be created: .* Set LABKIT_HOME to a folder"):
        paths.prepare_home()


def test_reading_makes_no_folder(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path / "new" / "home"))
    assert Store().judged(EXP) is None
    assert predictions.calibration()["n"] == 0
    assert not (tmp_path / "new").exists()
    predictions.predict("00", 0.1, 0.2, 0.8)
    assert predictions.ledger().exists()


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch):
    def nobody():
        raise RuntimeError("Could not determine home directory.")

    for name in ("LABKIT_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(DataError, match="LABKIT_HOME must be set"):
        paths.home_dir()


@pytest.mark.parametrize("name", ["~", "~nobody-of-this-name/mine"])
def test_a_path_in_a_home_that_nobody_knows_is_told(name: str, monkeypatch: pytest.MonkeyPatch):
    from labkit.models.fetch import fetch
    from labkit.records.model_folders import folder_of
    from labkit.tasks.custom.content_hash import with_hashes
    from labkit.tasks.custom.rows import read_rows
    from labkit.tasks.metrics import metric

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 4_000_000)  # a user without an entry, as in some containers
    for call in (
        lambda: read_rows(f"{name}/a.jsonl"),
        lambda: with_hashes(Experiment(data=f"{name}/a.jsonl")),
        lambda: with_hashes(Experiment(data="faq", score=f"{name}/a.py:f")),
        lambda: folder_of(f"{name}/model"),
        lambda: metric(f"python:{name}/a.py:f"),
        lambda: metric(f"schema:{name}/a.json"),
        lambda: fetch("smollm2", f"{name}/model", say=str),
    ):
        with pytest.raises(
            LabError, match=r"^'~.*' begins with ~\S*, and this machine knows no such home folder: give the path in full\.$"
        ):
            call()


def test_what_killed_writers_left_is_swept_when_it_is_a_day_old(home: Path):
    old, version = time.time() - paths.A_DAY - 60, paths.made_here("x").parent.name
    swept = [
        f"{version}/records/.a.jsonl.gz.x1y2z3_4",
        f"{version}/runs/k/.checkpoint.safetensors.abcdefgh",
        "signals/s/.0.safetensors.abcdefgh",
    ]
    kept = [
        f"{version}/records/a.jsonl.gz",
        f"{version}/sequences/n.part/0.jsonl",
        "models/.smollm2.lock",
        "mine/.file.abcdefgh",
        "models/mine/.gitattributes.metadata",
        "models/mine/.old.projects/w",
        "models/.old.projects/w",
        ".bash.profile_",
    ]
    for name in [*swept, *kept, "models/m/.part/model.safetensors", "models/.m.abcdefgh/model/x", f"{version}/records/.b.gz.abcdefgh"]:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text("x")
        os.utime(home / name, (old, old))
    for folder in ("models/m/.part", "models/.m.abcdefgh/model", "models/.m.abcdefgh"):
        os.utime(home / folder, (old, old))
    os.utime(home / f"{version}/records/.b.gz.abcdefgh")  # is being written now
    paths._sweep.cache_clear()
    paths.prepare_home()
    left = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file()}
    assert left == {*kept, f"{version}/records/.b.gz.abcdefgh"}


def test_a_run_that_was_meddled_with_is_kept_but_not_found(shipped: Path):
    turned = Record(story())
    turned.add(ev.KnobTurned(2, 0.5, "temperature", 2.0, 4.0))
    stopped = Record(story(end=ev.Finished(2, 1.0, "stopped")))
    paths = {Store().add(turned), Store().add(stopped), Store().add(Record(story(end=ev.Failed(2, "nan", "mend"))))}
    assert len(paths) == 3
    assert all(p.exists() for p in paths)
    assert Store().find(EXP) is None
    assert load(Store().add(turned)).events == load_again(turned).events


def test_references_are_of_the_same_seed_or_the_mean_over_others(shipped: Path):
    budget, same = EXP.baseline(), EXP.baseline("same questions")
    assert list(Store().references(EXP)) == []
    for seed, value in ((1, 0.25), (2, 0.75)):
        Store().add(Record(story(budget.but(seed=seed), student=value)))
    (mean_of_two,) = Store().references(EXP)
    assert (mean_of_two.name, mean_of_two.seeds) == ("label budget", 2)
    assert mean_of_two.skills == pytest.approx(scores(0.5))
    Store().add(Record(story(budget, student=0.125)))
    Store().add(Record(story(same, student=0.375)))
    own, hard = Store().references(EXP)
    assert (own.name, own.seeds, own.skills, own.recipe) == ("label budget", 1, scores(0.125), budget.recipe)
    assert (hard.name, hard.skills) == ("same questions", scores(0.375))
    assert own.curve == ((1, 6.25), (4, 0.25))


def test_a_baseline_is_not_its_own_yardstick(shipped: Path):
    budget = EXP.baseline()
    Store().add(Record(story(budget)))
    assert "label budget" not in {r.name for r in Store().references(budget)}


def test_names_of_baselines():
    assert [EXP.baseline(name).method for name in BASELINES] == ["gold", "answers"]  # type: ignore[arg-type]


# ---- the package -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["load", "run", "record"])
def test_labkit_record_is_the_function_whatever_was_used_first(first: str):
    """No module may be called `record`: importing it, as the engine would, puts it in the function's place."""
    code = f"import labkit; labkit.{first}; import labkit.records.record as _; assert callable(labkit.record), labkit.record"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
