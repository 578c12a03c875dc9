"""What a record says of its machine, in the words of any version, and what was measured for two of them."""

from __future__ import annotations

import types

import pytest
import torch

from labkit.records import machines
from labkit.records.experiment import Experiment
from labkit.records.machines import LIMITS, Machine, tolerance
from labkit.records.measurements import rows
from labkit.records.store import Store

CPU = torch.device("cpu")
OLD = "x86_64, 1 threads, torch 2.13.0+cpu"


@pytest.mark.parametrize(
    ("text", "machine"),
    [
        (OLD, ("x86_64", "", 1, "2.13.0+cpu")),
        ("x86_64, AVX512 kernels, 2 threads, torch 2.13.0", ("x86_64", "AVX512", 2, "2.13.0")),
        ("x86_64, AVX2 (MKL_CBWR=AVX2,STRICT) kernels, 2 threads, torch 2", ("x86_64", "AVX2 (MKL_CBWR=AVX2,STRICT)", 2, "2")),
        ("x86_64, GPU NVIDIA L4 kernels, 2 threads, torch 2.13.0+cu130", ("x86_64", "GPU NVIDIA L4", 2, "2.13.0+cu130")),
    ],
)
def test_a_machine_is_read_from_a_record_and_written_as_it_was(text: str, machine: tuple):
    assert Machine.of(text) == machine
    assert str(Machine.of(text)) == text


def test_other_words_are_kept_as_they_are():
    assert Machine.of("a laptop") == ("a laptop", "", 0, "")
    assert str(Machine.of("a laptop")) == "a laptop"


def test_this_machine_is_named_with_its_kernels_and_what_limits_them(monkeypatch: pytest.MonkeyPatch):
    for name in LIMITS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": False}, raising=False)
    here = Machine.here(2, CPU)
    assert (here.kernels, here.threads, here.torch) == ("AVX512", 2, torch.__version__)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_tile": True})
    assert Machine.here(2, CPU).kernels == "AVX512+AMX"
    monkeypatch.delattr(torch.cpu, "get_capabilities")  # as in older versions
    monkeypatch.setenv("MKL_CBWR", "AVX2,STRICT")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    limited = Machine.here(2, CPU)
    assert limited.kernels == "AVX512 (MKL_CBWR=AVX2,STRICT ONEDNN_MAX_CPU_ISA=AVX2)"
    assert limited.instructions == "AVX512"
    assert Machine.of(str(limited)) == limited
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA L4")
    assert Machine.here(2, types.SimpleNamespace(type="cuda")).kernels == "GPU NVIDIA L4"


def test_shipped_records_are_of_older_versions_and_are_shown_as_they_are():
    recorded = Store().find(Experiment.from_recipe("labkit learning_rate=0.02 student=57k questions=2000 steps=400"))
    if recorded is None or recorded.started is None:
        pytest.skip("this recipe does not ship any more")
    assert str(Machine.of(recorded.started.machine)) == recorded.started.machine


# ---- what was measured -------------------------------------------------------------------------------------------------------------


def machine(kernels: str, threads: int = 1, **more: str) -> Machine:
    return Machine("x86_64", kernels, threads, "2.13.0")._replace(**more)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch):
    """Three pairs, each over two numbers of steps."""
    pairs = (("DEFAULT", 1, "AVX512", 1, 7), ("AVX2", 1, "AVX512", 1, 5), ("AVX512", 1, "AVX512", 2, 3))
    table = [
        {"method": "output", "architecture": "x86_64", "a": a, "a_threads": at, "b": b, "b_threads": bt, "recipe": "labkit"}
        | {"steps": steps, "loss_millionths": millionths * steps, "score": 0.01 if steps == 60 else None}
        for a, at, b, bt, millionths in pairs
        for steps in (20, 60)
    ]
    monkeypatch.setattr(machines, "rows", lambda name: table)


@pytest.mark.parametrize(
    ("then", "now", "steps", "found"),
    [
        (machine("AVX2"), machine("AVX512"), 20, (20, 100e-6, None)),
        (machine("AVX512"), machine("AVX2"), 60, (60, 300e-6, 0.01)),  # either may be the one on record
        (machine("AVX512"), machine("AVX2"), 400, (60, 300e-6, 0.01)),
        (machine("AVX512"), machine("AVX2"), 59, (20, 100e-6, None)),
        (machine("AVX512"), machine("AVX2"), 5, (20, 100e-6, None)),
        (machine("AVX512"), machine("AVX2 (ATEN_CPU_CAPABILITY=avx2)"), 20, (20, 100e-6, None)),
        (machine("AVX512"), machine("AVX512", 2), 20, (20, 60e-6, None)),
        (machine(""), machine("AVX512"), 20, (20, 140e-6, None)),  # an older record may be of any: the largest
        (machine(""), machine("AVX2"), 20, (20, 100e-6, None)),
        (machine("", 2), machine("AVX512"), 20, (20, 60e-6, None)),
    ],
)
def test_a_tolerance_is_that_of_the_pair_and_the_steps(measured, then: Machine, now: Machine, steps: int, found: tuple):
    told = tolerance(then, now, Experiment(), steps)
    assert told is not None
    assert (told.steps, pytest.approx(told.loss), told.score) == found
    assert told.largest == pytest.approx(7e-6 * told.steps)


@pytest.mark.parametrize(
    ("then", "now", "changes"),
    [
        (machine("AVX512+AMX"), machine("AVX512"), {}),
        (machine("AVX2"), machine("AVX512", 2), {}),
        (machine("AVX512"), machine("AVX512 (MKL_CBWR=AVX2)"), {}),
        (machine("DEFAULT"), machine("AVX2"), {}),
        (machine("AVX2", torch="2.12.0"), machine("AVX512"), {}),
        (machine("AVX2", processor="aarch64"), machine("AVX512"), {}),
        (machine("", 2), machine("AVX2"), {}),
        (machine("AVX2"), machine("AVX512"), {"method": "hidden"}),
        (machine("AVX2"), machine("AVX512"), {"precision": "bf16"}),
        (machine("AVX2"), machine("AVX512"), {"student": "smollm2-half", "teacher": "smollm2"}),
    ],
)
def test_what_was_not_measured_has_none(measured, then: Machine, now: Machine, changes: dict):
    assert tolerance(then, now, Experiment().but(**changes), 60) is None


def test_the_shipped_measurement_names_every_pair_once_and_what_was_not_offered():
    table = rows("kernels")
    keys = [(row["method"], row["steps"], frozenset([(row["a"], row["a_threads"]), (row["b"], row["b_threads"])])) for row in table]
    assert len(set(keys)) == len(keys)
    assert all(row["loss_millionths"] > 0 and row["processor"] and row["torch"] and "not_offered" in row for row in table)
    assert {row["method"] for row in table} >= {"output", "hidden"}
    for row in table:
        pair = [Machine("x86_64", row[end], row[f"{end}_threads"], "2") for end in "ab"]
        told = tolerance(*pair, Experiment.from_recipe(row["recipe"]), row["steps"])
        assert told is not None and told.loss == pytest.approx(row["loss_millionths"] / 1e6)
