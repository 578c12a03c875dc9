"""What `make bench` compares gives the same numbers whichever way it is worked out, and its rows say all that a reader has to know."""

from __future__ import annotations

import json

import bench
import pytest
from rows import row
from vocabulary import large


@pytest.mark.parametrize("way", ["ours", "liger"])
def test_a_large_vocabulary_is_learnt_from_in_pieces_as_it_is_at_once(way, settings):
    settings(logits=7 * 97)  # pieces that do not divide an answer
    shape = {"rows": 3, "length": 20, "size": 97, "width": 64, "repeats": 1}
    naive, found = large("naive", **shape), large(way, **shape)
    assert found["value"] == pytest.approx(naive["value"], rel=1e-5)
    assert found["norms"] == pytest.approx(naive["norms"], rel=1e-4, abs=1e-7)


def test_a_row_keeps_the_median_of_repeats_and_their_spread():
    found = row("Work", "s", [1.0, 4.0, 2.0], 8, [0.1, 0.5, 0.25], against="another", packages=("numpy",))
    assert (found["ours"], found["peer"], found["ratio"], found["spread"]) == (2.0, 8, 0.25, [0.1, 0.5])
    assert set(found["versions"]) == {"torch", "numpy"}
    assert row("Work", "s", 0.123456)["ours"] == 0.1235
    assert row("Work", "s", 0.123456)["spread"] is None
    assert row("Work", "s, share", curve=[(1, 0.5)])["ours"] == [[1, 0.5]]


def test_every_row_on_record_is_complete():
    rows = bench.read()
    assert {tuple(found) for found in rows} == {("bench", *row("Work", "s"))}
    assert {found["bench"] for found in rows} <= set(bench.BENCHES)
    assert len({found["work"] for found in rows}) == len(rows)
    assert all((found["ours"], found["peer"], found["ratio"]) != (None, None, None) for found in rows)


def test_a_partial_run_replaces_only_its_own_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(bench, "BENCHES", {"one": lambda: [row("A", "s", 1.0)], "two": lambda: [row("B", "s", 2.0)]})
    bench.main([])
    monkeypatch.setitem(bench.BENCHES, "one", lambda: [row("C", "s", 3.0), row("D", "s", 4.0)])
    bench.main(["one"])
    assert [(found["work"], found["ours"]) for found in json.loads((tmp_path / "results.json").read_text())] == [
        ("C", 3),
        ("D", 4),
        ("B", 2),
    ]
    with pytest.raises(SystemExit, match="three: there are one, two"):
        bench.main(["three"])
