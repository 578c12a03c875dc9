"""Train the Atlas tokenizer, `data/tokenizers/atlas.json`: `labkit build tokenizer`."""

from __future__ import annotations

from pathlib import Path

from labkit.base.manifest import seal


def build(folder: Path) -> None:
    """Train 1,024 byte-level BPE tokens, with single digits, on 40,000 questions of the whole world and their answers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from labkit.tasks.atlas.facts import Atlas

    tokenizer = Tokenizer(models.BPE())
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=1024,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{q.text} {q.gold}" for q in Atlas().questions(40_000, seed=1)), trainer)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "atlas.json"
    tokenizer.save(str(path))
    entry = {"source": "trained by data/recipes/tokenizer.py", "licence": "Apache-2.0"}
    seal(folder, "labkit build tokenizer", {path.name: entry})


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "tokenizers")
