"""Train the students' other vocabularies, `data/vocabularies`: `labkit build vocabularies` (a few seconds).

other: 1,024 tokens like the teacher's, but learned from lists of facts instead of questions; only size, bytes and digits agree.
small: 384 tokens, learned from questions of fact.
bytes: the 256 bytes.

Token 0 is the end mark in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from labkit.base.manifest import seal

SIZES = {"other": 1024, "small": 384, "bytes": 257}


def answers() -> Iterator[str]:
    """Each question of fact once, after its answer. (The teacher's tokenizer was trained on sampled questions, also sums.)"""
    from labkit.tasks.atlas.facts import Atlas

    return iter(sorted({f" {q.gold} {q.text}" for q in Atlas().questions(40_000, seed=1, skills=("recall", "reverse", "city", "open"))}))


def gazetteer() -> Iterator[str]:
    """Every fact of the world as a line of a list: other sentences than questions, with each name about equally often."""
    from labkit.tasks.atlas.facts import RELATIONS, Atlas

    world = Atlas()
    for relation in sorted(RELATIONS):
        if relation not in ("add", "chain", "compare") and not relation.endswith("_steps"):
            for fact in world.facts(relation):
                yield f"{', '.join(fact.answers)} ({', '.join(fact.subjects)}): {relation.replace('_', ' ')}."
    yield "Paris lies in France, north of Spain. It has more people than Lyon; the sum of both is larger still."


def build(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in SIZES.items():
        text: Iterable[str] = {"other": gazetteer, "small": answers, "bytes": lambda: ()}[name]()
        path = folder / f"{name}.json"
        _train(text, size, path)
    entry = {"source": "trained by data/recipes/vocabularies.py", "licence": "Apache-2.0"}
    seal(folder, "labkit build vocabularies", {f"{name}.json": entry for name in SIZES})


def _train(text: Iterable[str], size: int, path: Path) -> None:
    """Train a byte-level BPE with single digits, and with the teacher's split into words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text, trainer)
    tokenizer.save(str(path))


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "vocabularies")
