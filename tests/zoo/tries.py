"""What the lab is tried on with a model of the zoo, and what it is compared with: forward passes of `transformers` alone, without a cache.

    outcomes(Specimen(kind, folder))       # {"load": "exact", "write": "WRONG: ...", "tree": "refused: ...", "prune": "bare: ..."}

exact: the same as the plain passes. refused: the lab said in a sentence that it does not take this model. WRONG: it gave something else.
bare: another error than the lab's own.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from scipy.stats import kstest
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from zoo.build import DEEP, END, QUESTIONS, STOP, STOPPED, encoded, make

from labkit import models
from labkit.base.errors import LabError
from labkit.models import pretrained
from labkit.models.prune import prune_folder
from labkit.records import events as ev
from labkit.speculative.decode import plain, speculate
from labkit.studies.distill import distill
from labkit.tasks.custom.rows import read_rows, split
from labkit.training.batches import Order

LIMIT = 12  # tokens of an answer
CLOSE = 2e-3  # largest difference of log-probabilities in single precision
TEXTS, SHORT = 20, 8  # sampled texts, and their tokens
UNLIKELY = 1e-6  # below this p-value samples are not the target's
ROWS, BATCH, ANSWER = 40, 32, 6  # rows of data, of which a fifth is held out; rows of the first step; tokens of an answer
ROUGH = 0.05  # relative difference of a KL: the teacher is in bf16, so a few near-ties go the other way in a batch
ROUGHER = 0.15  # the same over the few held-out rows, with the student rounded to bf16 as well


class Specimen:
    """A type's models in a folder, made if they are not there: read by `transformers`, and read by the lab."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind, self.folder = kind, folder
        if not (folder / "draft" / "config.json").exists():
            make(kind, folder)
        self.chat = AutoTokenizer.from_pretrained(folder / "target")
        self.prompts = [self.ids(question) for question in QUESTIONS]

    def ids(self, question: str) -> list[int]:
        """The token ids of a question in the chat template."""
        return encoded(self.chat, question)

    @functools.cached_property
    def raw(self) -> Any:
        """The target, without the lab."""
        return read(self.folder / "target")

    @functools.cached_property
    def target(self) -> Any:
        """The target as the lab loads it; so is the draft."""
        return pretrained.load(str(self.folder / "target"), torch.float32, LIMIT)

    @functools.cached_property
    def draft(self) -> Any:
        return pretrained.load(str(self.folder / "draft"), torch.float32, LIMIT)

    def logits(self, model: Any, rows: Sequence[Sequence[int]]) -> Tensor:
        """The logits of rows of equal length in one pass, without the rows of the vocabulary that the tokenizer does not have."""
        with torch.no_grad():
            return model(torch.tensor(rows), use_cache=False).logits[..., : len(self.chat)].float()

    def greedy(self, model: Any, prompts: Sequence[Sequence[int]], limit: int = LIMIT) -> list[list[int]]:
        """Greedy texts, one whole pass for each token. Rows of equal length share it, so there is no padding."""
        texts = [list(prompt) for prompt in prompts]
        going = dict.fromkeys(range(len(texts)))
        for _ in range(limit):
            for length in {len(texts[i]) for i in going}:
                rows = [i for i in going if len(texts[i]) == length]
                for i, row in zip(rows, self.logits(model, [texts[i] for i in rows]), strict=True):
                    texts[i].append(int(row[-1].argmax()))
            going = {i: None for i in going if texts[i][-1] not in (END, STOP)}
        return [text[len(prompt) :] for text, prompt in zip(texts, prompts, strict=True)]

    @functools.cached_property
    def texts(self) -> list[list[int]]:
        """The target's answers to the four questions."""
        return self.greedy(self.raw, self.prompts)

    def at_answer(self, model: Any, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
        """The log-probabilities from which each token of an answer is drawn."""
        return self.logits(model, [[*prompt, *answer]])[0, len(prompt) - 1 : -1].log_softmax(-1)


def read(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """A model, in eval mode, without the lab."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()


class Wrong(Exception):
    """The lab's result is not that of the plain passes."""


def same(what: str, expected: Sequence[int], found: Sequence[int]) -> None:
    """Raises `Wrong` where two texts differ."""
    if list(expected) != list(found):
        at = next((i for i, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found)))
        raise Wrong(f"{what} differs at token {at + 1} of {len(expected)}")


def close(what: str, expected: float, found: float, relative: float) -> None:
    """Raises `Wrong` where two numbers differ by more than this share."""
    if not abs(found - expected) <= relative * abs(expected):  # so that NaN is wrong
        raise Wrong(f"{what} is {found:.4g}, not {expected:.4g}")


# ---- loading and writing ---------------------------------------------------------------------------------------------------------------


def load(one: Specimen) -> None:
    for prompt, asked in zip(one.prompts, one.target.chat.prompts(QUESTIONS), strict=True):
        same("the prompt", prompt, asked)
    for prompt in one.prompts:
        error = float((one.logits(one.raw, [prompt]) - one.logits(one.target, [prompt])).abs().max())
        if not error <= CLOSE:
            raise Wrong(f"logits are off by {error:.2g}")


def _as_alone(one: Specimen, written: Iterable[models.Written]) -> None:
    for prompt, text, found in zip(one.prompts, one.texts, written, strict=True):
        same("the text", text, found.ids)
        alone = one.at_answer(one.raw, prompt, text).gather(1, torch.tensor(text)[:, None])[:, 0]
        if not (error := float((alone - torch.tensor(found.logprobs)).abs().max())) <= CLOSE:
            raise Wrong(f"log-probabilities are off by {error:.2g}")


def write(one: Specimen) -> None:
    _as_alone(one, [models.write(one.target, [prompt], limit=LIMIT, keep_hidden=True)[0] for prompt in one.prompts])


def padding(one: Specimen) -> None:
    _as_alone(one, models.write(one.target, one.prompts, limit=LIMIT, keep_hidden=True))


def ends(one: Specimen) -> None:
    prompt = one.ids(STOPPED)
    (text,) = one.greedy(one.raw, [prompt])
    same("the text", text, models.write(one.target, [prompt], limit=LIMIT)[0].ids)
    same("the text with a draft", text, speculate(one.target, one.draft, prompt, 3, limit=LIMIT).ids)


# ---- speculative decoding --------------------------------------------------------------------------------------------------------------


def chain(one: Specimen) -> None:
    for prompt, text in list(zip(one.prompts, one.texts, strict=True))[:3]:
        same("the text without a draft", text, plain(one.target, prompt, limit=LIMIT).ids)
        for gamma in (1, 3):
            same(f"the text at gamma={gamma}", text, speculate(one.target, one.draft, prompt, gamma, limit=LIMIT).ids)


def tree(one: Specimen) -> None:
    for prompt, text in list(zip(one.prompts, one.texts, strict=True))[:3]:
        same("the text", text, speculate(one.target, one.draft, prompt, 3, candidates=8, limit=LIMIT).ids)


def sampled(one: Specimen) -> None:
    """Each token is placed among all tokens in order of their probability under the target, which must be uniform: a randomised probability
    integral transform."""
    places, generator = list[float](), torch.Generator().manual_seed(0)
    for seed in range(TEXTS):
        prompt = one.prompts[seed % len(one.prompts)]
        text = speculate(one.target, one.draft, prompt, 3, temperature=1.0, seed=seed, limit=SHORT).ids
        for row, token in zip(one.at_answer(one.raw, prompt, text).exp().double(), text, strict=True):
            before = float(row[row > row[token]].sum())
            places.append(before + float(torch.rand(1, generator=generator)) * float(row[token]))
    if (p := kstest(places, "uniform").pvalue) < UNLIKELY:
        raise Wrong(f"samples are not the target's (p = {p:.0e}, {len(places)} tokens)")


# ---- distillation ----------------------------------------------------------------------------------------------------------------------


def distil(one: Specimen, adapter: int = 0) -> str:
    data, out = one.folder / "data.jsonl", one.folder / f"distilled-{adapter}"
    asked = [f"What is {i // 8} and {i % 8}?" + " Be brief." * (i % 2) for i in range(ROWS)]
    data.write_text("".join(json.dumps({"prompt": text, "response": str(i)}) + "\n" for i, text in enumerate(asked)), encoding="utf-8")
    start, teacher, losses = one.folder / "target", one.folder / "other", list[float]()

    def watch(name: str, event: ev.Event) -> None:
        if isinstance(event, ev.Step):
            losses.append(event.values["loss"])

    done = distill(
        str(teacher),
        str(start),
        data,
        out,
        baseline=False,
        watch=watch,
        say=lambda line: None,
        method="output",
        steps=3,
        batch=BATCH,
        longest=ANSWER,
        learning_rate=0.1,  # a thirtieth of it at the first step
        adapter=adapter,
    )
    if not losses or not all(map(math.isfinite, losses)):
        raise Wrong(f"losses are {losses}")
    raw = read(teacher)
    learnt, held = split(read_rows(data))
    rows = [learnt[i] for i in Order(len(learnt), done.experiment.seed, growing=True).take(0, BATCH)]
    if not adapter:  # a new adapter changes nothing
        close("the first loss", _first_loss(one, teacher, rows), losses[0], ROUGH)
    saved, told = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
    _as_saved(one, saved.eval(), told, out)
    prompts = [one.ids(row.prompt) for row in held]
    exam = list(zip(prompts, one.greedy(raw, prompts, ANSWER), strict=True))
    close("the saved student's KL", done.grades["distilled"].fidelity["kl"], _kl(one, raw, saved, exam), ROUGHER)
    share = _changed(one.raw, saved)
    if not share:
        raise Wrong("no weight has changed")
    return f"exact: {share:.0%} of the linear weights" if adapter else "exact"


def adapter(one: Specimen) -> str:
    return distil(one, 4)


def _first_loss(one: Specimen, teacher: Path, rows: Sequence[Any]) -> float:
    """The loss of the first step. The lab reads its teacher in half precision, or in single precision if its code does not run there."""
    for dtype in (torch.bfloat16, torch.float32):
        model = read(teacher, dtype)
        with contextlib.suppress(RuntimeError):
            return _kl(one, model, one.raw, list(_signals(one, model, rows)))
    raise Wrong("the teacher cannot be read in any precision")


def _signals(one: Specimen, teacher: Any, rows: Sequence[Any]) -> Iterator[tuple[list[int], list[int]]]:
    """Prompts and the teacher's answers."""
    prompts = [one.ids(row.prompt) for row in rows]
    yield from zip(prompts, one.greedy(teacher, prompts, ANSWER), strict=True)


def _kl(one: Specimen, teacher: Any, student: Any, answered: Sequence[tuple[list[int], list[int]]]) -> float:
    """The mean of KL(teacher, student) over the tokens of the teacher's answers, in nats."""
    sums = list[Tensor]()
    for like in {(len(prompt), len(answer)) for prompt, answer in answered}:  # rows of equal length share a pass
        rows = [[*prompt, *answer] for prompt, answer in answered if (len(prompt), len(answer)) == like]
        p, q = (one.logits(model, rows)[:, like[0] - 1 : -1].double().log_softmax(-1) for model in (teacher, student))
        sums.append((p.exp() * (p - q)).sum(-1).flatten())
    return float(torch.cat(sums).mean())


def _as_saved(one: Specimen, saved: Any, told: dict[str, Any], out: Path) -> None:
    """Raises `Wrong` for a saved student that lacks weights, or is not otherwise as it began."""
    if told["missing_keys"]:
        raise Wrong(f"the saved student lacks {', '.join(sorted(told['missing_keys'])[:2])}")
    tied = [
        m.get_output_embeddings().weight is m.get_input_embeddings().weight
        for m in (one.raw, saved)
        if m.get_output_embeddings() is not None
    ]
    if len(set(tied)) > 1:
        raise Wrong(f"the head was {'' if tied[0] else 'not '}tied to the embedding, and is {'' if tied[1] else 'not '}now")
    name = "generation_config.json"
    if not (out / name).exists() or (out / name).read_bytes() != (one.folder / "target" / name).read_bytes():
        raise Wrong(f"{name} has changed")


def _changed(start: Any, saved: Any) -> float:
    """The share of the weights of linear maps, without embeddings and head, that are in a map which has changed."""
    tables = {id(m.weight) for m in start.modules() if isinstance(m, nn.Embedding | nn.Conv1d)}
    tables |= {id(head.weight) for head in [start.get_output_embeddings()] if head is not None}
    after, all_weights, changed = dict(saved.named_parameters()), 0, 0
    for name, before in start.named_parameters():
        if before.dim() >= 2 and id(before) not in tables and name in after:
            all_weights += before.numel()
            changed += before.numel() * (not torch.equal(before, after[name]))
    return changed / all_weights


# ---- pruning ---------------------------------------------------------------------------------------------------------------------------


def prune(one: Specimen) -> None:
    for number, layers in enumerate((2, [1, 2])):
        out = one.folder / f"pruned-{number}"
        cut = prune_folder(str(one.folder / "target"), out, layers, 1.0, None, "spread", ())
        expected, found = _without(one, cut.layers), one.logits(read(out), [one.prompts[2]])
        if not (error := float((expected - found).abs().max())) <= CLOSE:
            raise Wrong(f"with layers {', '.join(map(str, cut.layers))} logits are off by {error:.2g}")


def _without(one: Specimen, kept: Sequence[int]) -> Tensor:
    """The target's logits with the other layers made identities."""

    def identity(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        states = args[0] if args else kwargs["hidden_states"]
        return (states, *output[1:]) if isinstance(output, tuple) else states

    layers = next(m for m in one.raw.modules() if isinstance(m, nn.ModuleList) and len(m) == DEEP)
    hooks = [layer.register_forward_hook(identity, with_kwargs=True) for i, layer in enumerate(layers) if i not in kept]
    try:
        return one.logits(one.raw, [one.prompts[2]])
    finally:
        for hook in hooks:
            hook.remove()


# ---- all of them -----------------------------------------------------------------------------------------------------------------------

TRIES: dict[str, Callable[[Specimen], str | None]] = {
    try_.__name__: try_ for try_ in (load, write, padding, ends, chain, tree, sampled, distil, adapter, prune)
}


def outcome(try_: Callable[[Specimen], str | None], one: Specimen) -> str:
    """The result of one try, in words."""
    try:
        return try_(one) or "exact"
    except Wrong as error:
        return f"WRONG: {error}"
    except Exception as error:
        if isinstance(error, LabError) and "fault of the lab" not in str(error):
            return f"refused: {_general(str(error), one)}"
        return f"bare: {told(error.__cause__ if isinstance(error, LabError) and error.__cause__ else error)}".replace(str(one.folder), ".")


def _general(sentence: str, one: Specimen) -> str:
    """A sentence without the names of this model, so that models of which the same is said can be found."""
    sentence = re.sub(rf"{re.escape(str(one.folder))}/\w+(?:#\w+)?", "FOLDER", sentence)
    return sentence.replace(type(one.raw).__name__, "MODEL").replace(repr(one.raw.config.model_type), "TYPE")


def told(error: BaseException) -> str:
    """An error's class, first line, and file: the last one of the lab, if one is in the traceback."""
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    where = next((file for file in reversed(files) if "labkit" in file.parts), files[-1])
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:120]} ({where.name})"


def outcomes(one: Specimen, names: Iterable[str] = tuple(TRIES)) -> Iterator[tuple[str, str]]:
    """Each try's name and result, one after the other."""
    for name in names:
        yield name, outcome(TRIES[name], one)
