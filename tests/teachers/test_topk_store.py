"""A top k on disk: what comes back is what went in, at 130 bytes a token, whatever was killed or damaged in between."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from labkit.base.errors import DataError, LabError
from labkit.losses.divergences import DIVERGENCES, divergence, top_k
from labkit.teachers.topk_store import TopKStore, dense, shrink

V, K = 1_000, 8
ON_DISTRIBUTIONS = [name for name, entry in DIVERGENCES.items() if entry.on_distributions]


def logits(rows: int, seed: int = 0, vocabulary: int = V, sharpness: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * sharpness


def opened(folder, **changes) -> TopKStore:
    return TopKStore(folder, **({"vocabulary": V, "k": K, "who": "a teacher"} | changes))


def answers_of(lengths, seed: int = 1) -> list[list[int]]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(V, (n,), generator=draw).tolist() for n in lengths]


def filled(folder, rows=(5, 6, 7, 40), shard: int = 10) -> tuple[TopKStore, dict[int, tuple[list[int], torch.Tensor]]]:
    """A store of several shards, and what was put into it."""
    answers = answers_of([3 + row % 4 for row in rows])
    wanted = {row: (answer, logits(len(answer), row)) for row, answer in zip(rows, answers, strict=True)}
    with opened(folder, shard=shard) as store:
        for row, (answer, own) in wanted.items():
            store.add([row], [answer], own)
    return store, wanted


def test_what_comes_back_is_what_went_in(tmp_path):
    _, wanted = filled(tmp_path)
    store = opened(tmp_path)
    assert len(store) == len(wanted)
    assert store.tokens == sum(len(answer) for answer, _ in wanted.values())
    for row, (answer, _) in wanted.items():
        assert store.has(row)
        assert store.answer(row) == answer
    rows = [40, 5, 40]  # in any order, and more than once
    ids_N_K, logprobs_N_K = store.read(rows)
    right_ids, right = shrink(torch.cat([wanted[row][1] for row in rows]), K)
    assert torch.equal(ids_N_K, right_ids)
    assert torch.equal(logprobs_N_K, right.half().float())
    assert not store.has(8)
    assert store.read([])[0].shape == (0, K)


def test_a_row_can_be_read_before_it_is_written(tmp_path):
    store = opened(tmp_path)
    store.add([3, 1], answers_of([2, 4]), logits(6))
    assert not list(tmp_path.glob("*.safetensors"))
    assert store.has(1) and store.answer(1) == answers_of([2, 4])[1] and len(store) == 2
    before = store.read([1, 3])
    store.flush()
    assert all(torch.equal(a, b) for a, b in zip(before, store.read([1, 3]), strict=True))


@pytest.mark.parametrize("vocabulary", [49_152, 151_936])
def test_at_most_130_bytes_a_token_or_194_where_ids_need_32_bits(tmp_path, vocabulary: int):
    """Files, index and all, with rows in the order of a shuffled training and answers of 8 to 120 tokens, of which 2% are
    outside the teacher's top 32."""
    k, draw = 32, torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 121, (640,), generator=draw).tolist()
    rows = torch.randperm(100_000, generator=draw)[: len(lengths)].tolist()
    with opened(tmp_path, vocabulary=vocabulary, k=k) as store:
        for row, n in zip(rows, lengths, strict=True):
            ids = torch.randint(vocabulary, (n, k), generator=draw)
            store.add_top([row], [(ids[:, 0] + (torch.rand(n, generator=draw) < 0.02)).tolist()], ids, torch.full((n, k), -4.0))
    on_disk = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert store.bytes == on_disk
    assert store.tokens == sum(lengths) > 30_000
    assert on_disk / store.tokens <= (130 if vocabulary <= 2**16 else 194)


def test_dense_logits_have_the_kept_probabilities_and_an_even_rest():
    ids, logprobs = shrink(logits(20), K)
    full = dense(ids, logprobs, V).softmax(-1)
    assert torch.allclose(full.gather(-1, ids), logprobs.exp(), atol=1e-6)
    others = full.scatter(-1, ids, -1.0)
    others = others[others >= 0].view(20, V - K)
    assert torch.allclose(others, (1 - logprobs.exp().sum(-1, keepdim=True)).expand_as(others) / (V - K), atol=1e-8)


@pytest.mark.parametrize("name", ON_DISTRIBUTIONS)
def test_the_bucket_is_exact_at_temperature_1(name: str):
    teacher, student = logits(20), logits(20, 1)
    kept = dense(*shrink(teacher, K), V)
    entry = divergence(name)
    assert torch.allclose(top_k(entry, kept, student, K), top_k(entry, teacher, student, K), atol=1e-5)
    assert torch.isfinite(entry(kept, student)).all()


def test_an_even_tail_is_too_heavy_when_softened_and_too_light_when_sharpened():
    teacher = logits(20)
    ids, logprobs = shrink(teacher, K)

    def tail(logits_N_V: torch.Tensor, temperature: float) -> torch.Tensor:
        return 1 - (logits_N_V / temperature).softmax(-1).gather(-1, ids).sum(-1)

    assert (tail(dense(ids, logprobs, V), 2.0) > tail(teacher, 2.0)).all()
    assert (tail(dense(ids, logprobs, V), 0.5) < tail(teacher, 0.5)).all()


def test_a_teacher_that_is_sure_or_a_k_of_everything():
    ids, logprobs = shrink(logits(4, sharpness=300.0), K)
    sure = dense(ids, logprobs.half().float(), V)
    for name in ON_DISTRIBUTIONS:
        assert torch.isfinite(divergence(name)(sure, logits(4, 1))).all()
    everything = dense(*shrink(logits(4), V), V)
    assert torch.allclose(everything.softmax(-1), logits(4).softmax(-1), atol=1e-6)


def test_only_the_rows_of_a_damaged_shard_are_asked_again(tmp_path):
    _, wanted = filled(tmp_path, shard=6)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) > 1
    broken = bytearray(files[0].read_bytes())
    broken[-1] ^= 1
    files[0].write_bytes(broken)
    store = opened(tmp_path)
    lost = [row for row in wanted if not store.has(row)]
    assert 0 < len(lost) < len(wanted)
    assert store.damaged == [files[0]]
    with pytest.raises(LabError, match="ask `has` first"):
        store.read(lost)
    with store:
        for row in lost:
            store.add([row], [wanted[row][0]], wanted[row][1])
    again = opened(tmp_path)
    assert all(again.answer(row) == answer for row, (answer, _) in wanted.items())
    assert not again.damaged


def test_a_kill_between_shard_and_index_loses_nothing(tmp_path):
    _, wanted = filled(tmp_path, shard=6)
    index = tmp_path / "index.json"
    told = json.loads(index.read_text())
    told["shards"].pop()
    index.write_text(json.dumps(told))
    assert all(opened(tmp_path).has(row) for row in wanted)
    index.write_text("{")  # damaged: told, and made again from the shards
    store = opened(tmp_path)
    assert store.damaged == [index]
    assert all(store.has(row) for row in wanted)
    (tmp_path / "99999.safetensors").write_bytes(b"half of it")
    assert all(opened(tmp_path).has(row) for row in wanted)


def test_two_writers_keep_each_others_rows(tmp_path):
    one, other = opened(tmp_path), opened(tmp_path)
    one.add([1], [[4]], logits(1))
    other.add([2], [[5]], logits(1, 2))
    one.flush()
    other.flush()
    assert [opened(tmp_path).answer(row) for row in (1, 2)] == [[4], [5]]


def test_others_can_read_it(tmp_path):
    """With safetensors and JSON alone, as the docs say."""
    import numpy
    from safetensors.numpy import load_file

    _, wanted = filled(tmp_path)
    index = json.loads((tmp_path / "index.json").read_text())
    assert (index["vocabulary"], index["k"], index["who"]) == (V, K, "a teacher")
    seen = {}
    for shard in index["shards"]:
        path = tmp_path / shard["file"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
        kept = load_file(path)
        assert kept["ids"].dtype == numpy.uint16 and kept["logprobs"].dtype == numpy.float16
        assert len(kept["ids"]) == shard["tokens"]
        starts = kept["lengths"].cumsum() - kept["lengths"]
        seen |= {int(row): kept["ids"][start, 0] for row, start in zip(kept["rows"], starts, strict=True)}
    assert seen == {row: int(own[0].argmax()) for row, (_, own) in wanted.items()}


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path, monkeypatch: pytest.MonkeyPatch):
    store = opened(tmp_path)
    store.add([1], [[4]], logits(1))
    with monkeypatch.context() as patch:
        patch.setattr("labkit.base.tensors.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(DataError, match=r"No space left.*flush\(\) again"):
            store.flush()
    store.flush()
    assert opened(tmp_path).answer(1) == [4]


def endless() -> torch.Tensor:
    return torch.full((1, V), float("-inf")).index_fill(1, torch.arange(3), 0.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: opened(folder, k=0), "k=0 is out of range"),
        (lambda folder: opened(folder, shard=0), "shard=0"),
        (lambda folder: opened(folder, who="another"), "who=a teacher, but is opened with who=another"),
        (lambda folder: opened(folder, k=4), "k=8, but is opened with k=4"),
        (lambda folder: opened(folder).add([9], [[1]], logits(1, vocabulary=V + 24)), "cut off the padding"),
        (lambda folder: opened(folder).add([9], [[1, 2]], logits(1)), "1 answers of 2 tokens"),
        (lambda folder: opened(folder).add([5], [[1]], logits(1)), "row 5 would be there twice"),
        (lambda folder: opened(folder).add([9, 9], [[1], [1]], logits(2)), "there twice"),
        (lambda folder: opened(folder).add([-1], [[1]], logits(1)), "rows must be from 0"),
        (lambda folder: opened(folder).add([9], [[1]], endless()), "not finite"),
        (lambda folder: opened(folder).add_top([9], [[1]], torch.full((1, K), V), torch.zeros(1, K)), "must be from 0 to 999"),
    ],
)
def test_bad_input_is_told(tmp_path, call, words: str):
    filled(tmp_path)
    with pytest.raises(LabError, match=words):
        call(tmp_path)
