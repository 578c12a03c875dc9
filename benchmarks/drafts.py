"""Speculative decoding against transformers, and against the target alone."""

from __future__ import annotations

import time

from rows import row


def speculation() -> list[dict]:
    """Decoding with a draft: this loop against transformers' assisted generation, same models, prompts and tokens, alternating; and, if
    SmolLM2 is fetched, the shipped EAGLE against plain decoding, from the prompt on and after it."""
    import torch

    from labkit import models
    from labkit.models import pretrained
    from labkit.models.heads import io as heads_io
    from labkit.speculative.decode import plain, speculate
    from labkit.speculative.measure import pooled
    from labkit.tasks.atlas.facts import Atlas

    def against(target, draft, prompts: list[str], limit: int) -> list[float]:
        own, ratios = models.tokenizer_of(target), []
        pad = {"eos_token_id": own.end, "pad_token_id": own.end}
        how = {"do_sample": False, "num_assistant_tokens": 4, "max_new_tokens": limit, **pad}
        draft.generation_config.num_assistant_tokens = 4
        draft.generation_config.num_assistant_tokens_schedule = "constant"
        draft.generation_config.assistant_confidence_threshold = 0.0
        for prompt in prompts:
            ids = torch.tensor(own.prompts([prompt]))
            began = time.perf_counter()
            with torch.inference_mode():
                target.generate(ids, attention_mask=torch.ones_like(ids), assistant_model=draft, **how)
            theirs = time.perf_counter() - began
            ratios.append(theirs / speculate(target, draft, prompt, 4, limit=limit).seconds)
        return ratios

    asked = [q.text for q in Atlas("half").exam(4)]
    teacher, small = models.teacher("atlas-3m"), models.teacher("atlas-200k")
    alone, drafted = ([f(q).seconds for q in asked] for f in (lambda q: plain(teacher, q), lambda q: speculate(teacher, small, q, 4)))
    found = [
        assisted("atlas-3m with atlas-200k as a draft", against(teacher, small, asked, 28)),
        row("atlas-3m with atlas-200k as a draft: speed over atlas-3m alone", "tokens/s", ratio=sum(alone) / sum(drafted),
            against="plain decoding", seeds=()),
    ]  # fmt: skip
    try:
        target, cut = pretrained.load("smollm2"), pretrained.load("smollm2-half")
    except ValueError as absent:
        print(absent)
        return found
    asked = [q.text for q in Atlas("whole").exam(2)]
    found.append(assisted("SmolLM2 with half of it as a draft", against(target, cut, asked[:8], 32)))
    eagle = heads_io.shipped("smollm2-eagle", target)
    pairs = [(plain(target, q), speculate(target, eagle, q, 4, candidates=6)) for q in asked]
    name, seconds = "SmolLM2 with the shipped EAGLE", [sum(one.seconds for one in ways) for ways in zip(*pairs, strict=True)]
    rounds = pooled([speculated for _, speculated in pairs]).tokens_per_round
    speed = row(f"{name}: speed over SmolLM2 alone", "tokens/s", ratio=seconds[0] / seconds[1], against="plain decoding", seeds=())
    return [*found, speed, row(f"{name}: tokens a round", "tokens", rounds, seeds=())]


def assisted(models: str, ratios: list[float]) -> dict:
    """How much faster `speculate` is, from the times of both on each prompt."""
    work = f"Speculative decoding, {models}: speed over transformers' assisted generation"
    return row(work, "tokens/s", ratio=ratios, against="transformers' assisted generation", packages=("transformers",), seeds=())
