"""What `make bench` compares gives the same numbers whichever way it is worked out."""

from __future__ import annotations

import pytest
from bench import large

from labkit.training import step


@pytest.mark.parametrize("way", ["ours", "liger"])
def test_a_large_vocabulary_is_learnt_from_in_pieces_as_it_is_at_once(way, monkeypatch):
    monkeypatch.setattr(step, "CHUNK", 7 * 97)  # pieces that do not divide an answer
    shape = {"rows": 3, "length": 20, "size": 97, "width": 64, "repeats": 1}
    naive, found = large("naive", **shape), large(way, **shape)
    assert found["value"] == pytest.approx(naive["value"], rel=1e-5)
    assert found["norms"] == pytest.approx(naive["norms"], rel=1e-4, abs=1e-7)
