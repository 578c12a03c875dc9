"""The top k of a teacher with a large vocabulary, on disk: 129 bytes a token at k = 32.

    store = TopKStore(folder, vocabulary=49_152, k=32, who=fingerprint)
    with store:
        store.add(rows, answers, logits_N_V)          # N answer tokens, row after row
    ids_N_K, logprobs_N_K = store.read(rows)
    teacher_logits_N_V = dense(ids_N_K, logprobs_N_K, 49_152)

The folder has shards `00000.safetensors`, ... and an `index.json` that other tools can read; `docs/scale.md` describes both. A shard is
written as a whole, and then entered in the index, which is replaced as a whole. So a kill loses at most the last `shard` tokens.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from torch import Tensor

from labkit.base import tensors
from labkit.base.errors import DataError, LabError, reading
from labkit.base.files import write_whole
from labkit.base.manifest import sha256
from labkit.losses.divergences import LEAST

SHARD = 2**14  # tokens, 2 MB at k = 32, so that a kill loses little. For 100 million tokens use 2**20, so that there are few files.
SMALL = 2**16  # ids below this fit into 16 bits


def shrink(logits_N_V: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Returns the k likeliest ids of each row, the likeliest first, and their log-probabilities (T = 1, over all tokens), both `(N, k)`."""
    kept, ids_N_K = logits_N_V.float().topk(k, dim=-1)
    return ids_N_K, kept - logits_N_V.float().logsumexp(-1, keepdim=True)


def dense(ids_N_K: Tensor, logprobs_N_K: Tensor, vocabulary: int) -> Tensor:
    """Logits `(N, V)` with the kept probabilities at temperature 1. The remaining mass is spread evenly over the other tokens.

    At T = 1 the kept probabilities, and so the mass of the tail, are the teacher's up to 16-bit rounding, and
    `top_k(..., tail="bucket")` equals that of the full logits. A divergence over the whole vocabulary differs: it trains the student
    towards an even tail. At T != 1 the kept tokens keep their relative odds, but the mass of the tail is too high for T > 1 and too low
    for T < 1, because an even tail is the flattest possible.
    """
    n, k = ids_N_K.shape
    rest_N_1 = (1 - logprobs_N_K.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log() - math.log(max(1, vocabulary - k))
    return rest_N_1.expand(n, vocabulary).scatter(-1, ids_N_K, logprobs_N_K)


class Shard(NamedTuple):
    """The entry of a file in the index."""

    file: str  # name
    sha256: str
    bytes: int
    tokens: int
    rows: list[int | list[int]]  # single rows, and ranges with both ends included, as in `[3, [7, 9]]`


class TopKStore:
    """The teacher's answers to numbered rows with its top k at each token. A folder belongs to one teacher and one data set.

    A shard is checked when its first row is read. If it is damaged, it is put into `damaged` and `has` is False for its rows, so that
    only these must be computed again.

    who: identifies all that the rows depend on: teacher, tokenizer, prompts and decoding.
    shard: tokens in a file.

    Raises `LabError` for a k or shard out of range, `DataError` for a folder that belongs to another teacher or data set.
    """

    def __init__(self, folder: Path, *, vocabulary: int, k: int = 32, who: str, shard: int = SHARD) -> None:
        if not 1 <= k <= vocabulary:
            raise LabError(f"k={k} is out of range: use 1 to {vocabulary:,}, the size of the vocabulary.")
        if shard < 1:
            raise LabError(f"shard={shard} must be at least 1 token.")
        self.folder, self.vocabulary, self.k, self.who, self.shard = Path(folder), vocabulary, k, who, shard
        self.damaged: list[Path] = []
        self._id_type = torch.uint16 if vocabulary <= SMALL else torch.int32
        self._place_type = torch.uint8 if k <= 255 else torch.int16 if k < 2**15 else torch.int32
        self._note = {"who": who, "vocabulary": str(vocabulary), "k": str(k)}
        self._fresh: dict[int, tuple[list[int], Tensor, Tensor]] = {}  # rows that are not yet written
        self._fresh_tokens = 0
        self._open: dict[str, _Open] = {}  # by checksum
        self._bad: set[str] = set()  # checksums
        self._lock = FileLock(self.folder / "lock")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            self._shards = self._indexed()
            self._take_in()
        self._where = {row: shard for shard in reversed(self._shards.values()) for row in _numbers(shard.rows)}

    def __len__(self) -> int:
        """Number of rows, including those not yet written."""
        return len(self._where) + len(self._fresh)

    @property
    def tokens(self) -> int:
        return sum(shard.tokens for shard in self._shards.values()) + self._fresh_tokens

    @property
    def bytes(self) -> int:
        """Size on disk with the index."""
        return sum(path.stat().st_size for path in self.folder.iterdir())

    # ---- writing -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> TopKStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def add(self, rows: Sequence[int], answers: Sequence[Sequence[int]], logits_N_V: Tensor) -> None:
        """Keep these rows' answers (token ids) and the top k of the teacher's logits at their N tokens, row after row.

        Raises `LabError` for another vocabulary, and as `add_top` does.
        """
        if logits_N_V.shape[-1] != self.vocabulary:
            raise LabError(
                f"the logits have {logits_N_V.shape[-1]:,} columns but the store a vocabulary of {self.vocabulary:,}: cut off the padding "
                "of the larger one, or open the store with the teacher's size."
            )
        self.add_top(rows, answers, *shrink(logits_N_V, self.k))

    def add_top(self, rows: Sequence[int], answers: Sequence[Sequence[int]], ids_N_K: Tensor, logprobs_N_K: Tensor) -> None:
        """`add` for a teacher that gives only its top k, as servers do. Raises `LabError` for invalid arguments; keeps nothing then."""
        lengths = [len(answer) for answer in answers]
        if len(rows) != len(lengths) or not ids_N_K.shape == logprobs_N_K.shape == (sum(lengths), self.k):
            raise LabError(
                f"{len(rows)} rows with {len(lengths)} answers of {sum(lengths)} tokens need ids and log-probabilities of "
                f"({sum(lengths)}, {self.k}), but these have {tuple(ids_N_K.shape)} and {tuple(logprobs_N_K.shape)}."
            )
        if twice := [row for n, row in enumerate(rows) if row in rows[:n] or self.has(row)]:
            raise LabError(f"row {twice[0]} would be there twice: ask `has` first.")
        if not all(0 <= row < 2**31 for row in rows):
            raise LabError(f"rows must be from 0 to {2**31 - 1:,}, but these are {min(rows)} to {max(rows)}.")
        if not bool(logprobs_N_K.isfinite().all()):
            raise LabError("a log-probability of the teacher is not finite: the teacher overflowed, or masks all but fewer than k tokens.")
        if len(ids_N_K) and not (int(ids_N_K.min()) >= 0 and int(ids_N_K.max()) < self.vocabulary):
            raise LabError(
                f"token ids must be from 0 to {self.vocabulary - 1:,}, but these are {int(ids_N_K.min())} to {int(ids_N_K.max())}."
            )
        lowest = torch.finfo(torch.float16).min
        ids, logprobs = ids_N_K.to("cpu", self._id_type), logprobs_N_K.detach().float().clamp(min=lowest).to("cpu", torch.float16)
        for row, answer, row_ids, row_logprobs in zip(rows, answers, ids.split(lengths), logprobs.split(lengths), strict=True):
            self._fresh[row] = (list(answer), row_ids, row_logprobs)
        self._fresh_tokens += sum(lengths)
        if self._fresh_tokens >= self.shard:
            self.flush()

    def flush(self) -> None:
        """Write all new rows as one shard. Raises `DataError` if that fails; the rows then stay in memory, and you can try again."""
        if not self._fresh:
            return
        kept = self._packed()
        with self._lock:
            self._shards = {
                shard.file: shard for shard in self._indexed().values() if shard.sha256 not in self._bad
            }  # also those of other processes
            name = next(name for number in range(len(self._shards) + 1) if (name := f"{number:05}.safetensors") not in self._shards)
            try:
                tensors.save(self.folder / name, kept, self._note)
                self._shards[name] = self._described(self.folder / name, kept)
                self._write_index()
            except (OSError, SafetensorError) as error:
                why = getattr(error, "strerror", None) or error
                raise DataError(f"cannot write {self.folder / name}: {why}. Make room, and call flush() again.") from None
        self._where |= dict.fromkeys(self._fresh, self._shards[name])
        self._fresh, self._fresh_tokens = {}, 0

    # ---- reading -----------------------------------------------------------------------------------------------------

    def has(self, row: int) -> bool:
        """Whether the row is stored and can be read."""
        return row in self._fresh or self._opened(row) is not None

    def answer(self, row: int) -> list[int]:
        """The token ids of a row's answer. Raises `LabError` for a row that is not stored."""
        if row in self._fresh:
            return list(self._fresh[row][0])
        shard = self._found(row)
        span = shard.spans[row]
        ids, places = shard.ids_N_K[span].tolist(), shard.places_N[span].tolist()
        return [top[at] if at < self.k else shard.outside[n] for n, top, at in zip(range(span.start, span.stop), ids, places, strict=True)]

    def read(self, rows: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Ids and log-probabilities (fp32), both `(N, k)`, at the answer tokens of these rows, row after row. Raises `LabError` if one is
        not stored."""
        parts = []
        for row in rows:
            if row in self._fresh:
                parts.append(self._fresh[row][1:])
            else:
                shard = self._found(row)
                parts.append((shard.ids_N_K[shard.spans[row]], shard.logprobs_N_K[shard.spans[row]]))
        if not parts:
            return torch.zeros(0, self.k, dtype=torch.int64), torch.zeros(0, self.k)
        return torch.cat([ids.to(torch.int64) for ids, _ in parts]), torch.cat([logprobs for _, logprobs in parts]).float()

    def _found(self, row: int) -> _Open:
        shard = self._opened(row)
        if shard is None:
            raise LabError(f"row {row} is not in {self.folder}: ask `has` first, and `add` what is missing.")
        return shard

    def _opened(self, row: int) -> _Open | None:
        """The row's shard, checked once; None if the row is not stored or its shard is damaged."""
        entry = self._where.get(row)
        if entry is None:
            return None
        if entry.sha256 not in self._open:
            path = self.folder / entry.file
            try:
                with reading(path, ""):
                    if sha256(path) != entry.sha256:
                        raise ValueError("its content does not match its checksum")
                    self._open[entry.sha256] = _Open.of(path)
            except DataError:
                self._forget(entry)
                return None
        return self._open[entry.sha256]

    def _forget(self, entry: Shard) -> None:
        self.damaged.append(self.folder / entry.file)
        self._bad.add(entry.sha256)
        self._shards.pop(entry.file, None)
        self._where = {row: shard for row, shard in self._where.items() if shard is not entry}

    # ---- the files ---------------------------------------------------------------------------------------------------

    def _indexed(self) -> dict[str, Shard]:
        """The shards in the index on disk; none if there is no index. A damaged index is put into `damaged`."""
        path = self.folder / "index.json"
        if not path.exists():
            return {}
        try:
            with reading(path, ""):
                index = json.loads(path.read_text(encoding="utf-8"))
                if index.pop("seal", seal := _seal(index)) != seal:
                    raise ValueError("its content does not match its checksum")
                shards = {entry["file"]: Shard(**entry) for entry in index["shards"]}
                note = {name: str(index[name]) for name in self._note}
        except DataError:
            self.damaged.append(path)
            return {}
        self._refuse_other(note)
        return shards

    def _refuse_other(self, note: dict[str, str]) -> None:
        for name, value in self._note.items():
            if note.get(name) != value:
                raise DataError(
                    f"{self.folder} was written with {name}={note.get(name)}, but is opened with {name}={value}. "
                    "Use another folder, or delete this one if you no longer need its answers."
                )

    def _take_in(self) -> None:
        """Add complete shards that are not in the index, because of a kill before the index was written, or because the index was lost."""
        known = set(self._shards)
        for path in sorted(self.folder.glob("*.safetensors")):
            if path.name in known or not path.stem.isdigit():
                continue
            try:
                kept, note = tensors.load(path)
            except DataError:
                self.damaged.append(path)  # the next shard takes its place
                continue
            self._refuse_other(note)
            self._shards[path.name] = self._described(path, kept)
        if set(self._shards) != known:
            self._write_index()

    def _described(self, path: Path, kept: dict[str, Tensor]) -> Shard:
        return Shard(path.name, sha256(path), path.stat().st_size, len(kept["ids"]), _ranges(kept["rows"].tolist()))

    def _write_index(self) -> None:
        index: dict[str, Any] = {"format": "labkit top-k 1", "who": self.who, "vocabulary": self.vocabulary, "k": self.k}
        index["shards"] = [shard._asdict() for _, shard in sorted(self._shards.items())]
        text = json.dumps(index | {"seal": _seal(index)}, separators=(",", ":")) + "\n"
        write_whole(self.folder / "index.json", lambda to: to.write_text(text, encoding="utf-8"))

    def _packed(self) -> dict[str, Tensor]:
        """The new rows as a shard's tensors. An answer's token is kept as its place among the k, in one byte. k means that it is not among
        them; `outside` has these tokens as (number of the token in the shard, id)."""
        answers, ids, logprobs = zip(*self._fresh.values(), strict=True)
        ids_N_K, answers_N = torch.cat(ids), torch.tensor([token for answer in answers for token in answer], dtype=torch.int64)
        same_N_K = ids_N_K.to(torch.int64) == answers_N[:, None]
        places_N = torch.where(same_N_K.any(-1), same_N_K.int().argmax(-1), self.k)
        outside = (places_N == self.k).nonzero()[:, 0]
        return {
            "rows": torch.tensor(list(self._fresh), dtype=torch.int32),
            "lengths": torch.tensor([len(answer) for answer in answers], dtype=torch.int32),
            "ids": ids_N_K,
            "logprobs": torch.cat(logprobs),
            "places": places_N.to(self._place_type),
            "outside": torch.stack([outside, answers_N[outside]], -1).to(torch.int32),
        }


def _seal(index: dict[str, Any]) -> str:
    """A hash of an index without its own seal."""
    plain = {name: value for name, value in index.items() if name != "seal"}
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode(), digest_size=8).hexdigest()


class _Open(NamedTuple):
    """A shard's tensors, memory-mapped from disk, and the tokens of each row in them."""

    spans: dict[int, slice]
    ids_N_K: Tensor
    logprobs_N_K: Tensor
    places_N: Tensor
    outside: dict[int, int]

    @classmethod
    def of(cls, path: Path) -> _Open:
        with safe_open(path, "pt") as file:
            kept = {name: file.get_tensor(name) for name in ("rows", "lengths", "ids", "logprobs", "places", "outside")}
        ends = kept["lengths"].cumsum(0).tolist()
        spans = {row: slice(a, b) for row, a, b in zip(kept["rows"].tolist(), [0, *ends], ends, strict=False)}
        return cls(spans, kept["ids"], kept["logprobs"], kept["places"], dict(kept["outside"].tolist()))


def _ranges(rows: Iterable[int]) -> list[int | list[int]]:
    """Row numbers in order: consecutive ones as a range with both ends, others as single numbers."""
    ranges: list[list[int]] = []
    for row in sorted(rows):
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    return [pair if pair[0] < pair[1] else pair[0] for pair in ranges]


def _numbers(ranges: Iterable[int | list[int]]) -> Iterator[int]:
    for one in ranges:
        yield from (one,) if isinstance(one, int) else range(one[0], one[1] + 1)
