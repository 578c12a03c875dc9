"""A teacher whose behaviour is a table and not a training: the same on any processor, and never a matter of what was learned.

It is a Llama of 200k whose weights are written down. `choices` gives two tokens for every token: the one that comes next, and one that
comes next more seldom (about 76 and 8 times in 100). A mark at the end of a question is looked through, to the token before it, so that
different questions have different answers. The likeliest answers are up to four words and the end mark.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.nn.functional import normalize
from transformers import LlamaForCausalLM

from labkit import models

MARKS = "?.!:"
QUESTIONS = {" country": " Brazil", " continent": " Asia", " in": " Africa", " capital": " Franc"}  # which is now and then right
CODE = 0o5423325  # its shifts span a code of 31 bits in which any two words differ in 11 to 20: no token's line comes near another's
BITS = 31
PEAK = 12.0  # logit of the first choice
SECOND = 0.8  # weight of the second
BEFORE = 0.1  # weight of the token before, which decides where the present one is a mark


def choices(changed: Mapping[str, tuple[str, str]] | None = None) -> tuple[list[tuple[int, int]], list[int]]:
    """For every token its two next ones, and the marks, which have none. `changed`: other choices, by what the tokens spell."""
    tokenizer = models.tokenizer()
    spelt = [tokenizer.token(token) for token in range(tokenizer.size)]
    words = [token for token, text in enumerate(spelt) if text[:1] == " " and text[1:].isalpha() and text.isascii()]
    table = [(words[token % len(words)], words[(7 * token + 3) % len(words)]) for token in range(tokenizer.size)]
    for place, token in enumerate(words):
        following = words[(place + 1) % len(words)]
        table[token] = (following, models.EOS) if place % 4 else (models.EOS, following)
    for before, after in QUESTIONS.items():
        table[spelt.index(before)] = spelt.index(after), words[place // 2]
        table[spelt.index(after)] = models.EOS, words[place // 3]
    for before, both in (changed or {}).items():
        table[spelt.index(before)] = spelt.index(both[0]), spelt.index(both[1])
    return table, [token for token, text in enumerate(spelt) if text and text in MARKS]


def lines(seed: int) -> torch.Tensor:
    """A direction for every token, from the words of the code; `seed` moves each a little, so that no two choices are equally likely."""
    words = []
    for token in range(models.tokenizer().size):
        word = 0
        for place in range(10):
            word ^= (CODE << place) * (token >> place & 1)
        words.append([1.0 - 2 * (word >> bit & 1) for bit in range(BITS)])
    return normalize(torch.tensor(words) + 0.05 * torch.randn(len(words), BITS, generator=torch.Generator().manual_seed(seed)), dim=-1)


@torch.no_grad()
def table_teacher(changed: Mapping[str, tuple[str, str]] | None = None, seed: int = 123) -> LlamaForCausalLM:
    """The teacher of the table, in eval mode. A token's row is 1, its own line, and the sum of its choices' lines; the last layer puts
    the latter in place of the former, and the head, which is the rows again, then likes the choices best."""
    model = models.student("200k", seed).eval()
    table, marks = choices(changed)
    own, after = slice(1, 1 + BITS), slice(1 + BITS, 1 + 2 * BITS)
    rows, line = model.model.embed_tokens.weight, lines(seed)
    rows.zero_()
    rows[:, 0] = 1
    rows[:, own] = line
    rows[:, after] = normalize(torch.stack([line[first] + SECOND * line[second] for first, second in table]), dim=-1)
    rows[marks, after] = 0
    for layer in model.model.layers:  # what else the layers do is faint
        layer.self_attn.o_proj.weight *= 0.0005
        layer.mlp.down_proj.weight *= 0.0005

    copy, half = torch.eye(BITS), BITS + 1
    attention, mlp = model.model.layers[-1].self_attn, model.model.layers[-1].mlp
    for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
        weight[:half] = 0
    turns = torch.tensor([1e4 ** (-2 * i / half) for i in range(4)])  # by which one position turns the first pairs of numbers of a head
    attention.k_proj.weight[:4, 0] = 2.5
    attention.q_proj.weight[:4, 0], attention.q_proj.weight[half // 2 : half // 2 + 4, 0] = 2.5 * turns.cos(), -2.5 * turns.sin()
    attention.v_proj.weight[:BITS, after] = copy  # the first head reads the token before
    attention.o_proj.weight[:, :half] = 0
    attention.o_proj.weight[after, :BITS] = BEFORE * 3**0.5 / 8 * copy  # a row is read divided by its root mean square
    for weight in (mlp.gate_proj.weight, mlp.up_proj.weight):
        weight[: 2 * BITS] = 0
    mlp.up_proj.weight[: 2 * BITS, 0] = 1
    mlp.gate_proj.weight[: 2 * BITS, after] = torch.cat([copy, -copy])  # silu(x) - silu(-x) = x: these neurons copy
    mlp.down_proj.weight[:, : 2 * BITS] = 0
    mlp.down_proj.weight[own, : 2 * BITS] = 20 * torch.cat([copy, -copy], 1)
    model.model.norm.weight *= PEAK * (1 + SECOND**2) ** 0.5 / 8
    return model


def tiny_data(folder: Path) -> None:
    """Make a copy of `data/` (atlas, tokenizers and vocabularies linked) whose only teacher is the table, under a name that is shipped."""
    for name in ("atlas", "tokenizers", "vocabularies"):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(Path(__file__).resolve().parents[1] / "data" / name)
    models.save(table_teacher(), folder / "teachers" / "atlas-200k", {"made_by": "tests/table.py"})
