"""Every kind of file that the lab reads (tests/soak/files.py), with a fixed list of damages. The soak draws others at random."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from soak.core import Wrong
from soak.damage import damaged, every_damage, outcome
from soak.files import AGAIN, FILES


@pytest.mark.parametrize("name", FILES)
def test_every_damage_ends_right(tiny_data: Path, settings, tmp_path: Path, name: str):
    settings(chunk=8)
    kind, whole = FILES[name], tmp_path / "whole"
    whole.mkdir()
    path = kind.make(whole)
    place, wanted, wrong = path.relative_to(whole), kind.read(path), []
    assert wanted is not AGAIN
    for number, case in enumerate(every_damage(kind, path.read_bytes())):
        copy = tmp_path / str(number)
        shutil.copytree(whole, copy, symlinks=True)
        data = damaged(path.read_bytes(), case)
        (copy / place).unlink() if data is None else (copy / place).write_bytes(data)
        try:
            outcome(kind, copy / place, case, wanted)
        except Wrong as error:
            wrong.append(f"{case}: {error.outcome}: {error}")
        shutil.rmtree(copy)
    assert not wrong
