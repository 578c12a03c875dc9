"""Write `docs/scale.md`, a plan for a distillation on many machines, from `labkit.studies.planning`: `labkit build scale` (seconds)."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

from labkit.studies.planning import Machine, Plan
from labkit.teachers.topk_store import TopKStore

ANSWERS, LONG, SHORT = 64, (100, 400), (8, 120)  # answers written to measure a store, and their lengths
LAPTOP = Plan(vocabulary=49_152, width=576, layers=30, teacher=134.5e6, gpus=1)

HEAD = """# More than one machine

Made by `labkit build scale` from the formulas in `labkit/studies/planning.py`; a test compares. Change a number: `Plan(prompts=52_000).hours(Machine())`.

## What was tried, and what was not

| | |
| --- | --- |
| tried here, and tested | training on 2 processes of one machine (gloo, fp32): 20 steps with the losses and weights of one process to 1e-5; a sweep on a local Ray cluster, killed and resumed; the top-k store: bytes, damage, kills, two writers |
| tested only to be read as meant | `data/configs/fsdp2.yaml`, by accelerate |
| not tried | any GPU, more than one machine, a Ray cluster of several nodes, `labkit distill` on several processes, a 70B or 7B model, vLLM, SGLang, DeepSpeed, NeMo. Every hour and price below is worked out, not measured |

## How

- **Training**: `accelerate launch --multi_gpu --num_processes 2 -m labkit run student=200k` (or `torchrun --nproc_per_node 2 -m labkit run ...`).
  Every process holds the whole student and reads its share of the batch; gradients are summed once a step, and every mean is divided by
  the counts of the whole batch. So the number of processes changes rounding and nothing else. Processes share the folder `LABKIT_HOME`.
  accelerate calls any launch of several processes on one machine "multi_gpu", with GPUs or not; its `--cpu` would start one.
- **A student that does not fit into one GPU**: `labkit export trl` writes the recipe as a TRL script, for
  `accelerate launch --config_file data/configs/fsdp2.yaml train.py`. `labkit run` refuses such a launch.
- **Sweeps**: `labkit sweep grid.toml --jobs 2`, or `--backend ray` (`pip install ray`) for the cluster at `$RAY_ADDRESS`, else one
  started here for the time. Runs on record are not run again, and one that was cut off goes on from its checkpoint. Usage statistics and
  the dashboard are off. Ray listens on all network interfaces, so a cluster started here gets a random password; for one of your own see
  Ray's page on token authentication.
- **The teacher's signal on disk**: `labkit.teachers.topk_store.TopKStore`, below.

"""

STORE = """## The top-k store

A folder of `00000.safetensors`, `00001.safetensors`, ... and an `index.json`, for any program that reads safetensors:

| in the index | |
| --- | --- |
| `who`, `vocabulary`, `k` | what the rows depend on (teacher, tokenizer, prompts, sampling), tokens in the vocabulary, tokens kept |
| `shards` | for each: `file`, `sha256`, `bytes`, `tokens`, and `rows`: single ones, or ranges with both ends, as in `[3, [7, 9]]` |
| `seal` | a hash of the rest; an index without one, as other programs write it, is taken as it is |

| in a shard | shape | |
| --- | --- | --- |
| `rows`, `lengths` | (R) | row numbers, and the answer tokens of each, in the order in which they follow each other below |
| `ids` | (N, k) | the teacher's likeliest tokens, likeliest first: 16 bits unsigned up to 65,536 tokens, else 32 |
| `logprobs` | (N, k) | their log-probabilities over the whole vocabulary at temperature 1, 16-bit floats |
| `places` | (N) | where the answer's own token stands among the k; k itself if it does not |
| `outside` | (M, 2) | for those: number of the token in the shard, id |

At k = 32, {small:.0f} bytes a token (ids in 16 bits) or {big:.0f} (in 32). With row numbers, headers and index, a store of {answers} answers
of {long[0]} to {long[1]} tokens takes {long_small:.1f} or {long_big:.1f}, and one of {short[0]} to {short[1]} tokens {short_small:.1f} or {short_big:.1f} (written when this page was made).
Each token of an answer outside the k adds 8 bytes. Temperature 1 is exact but for rounding, with the rest of the mass as one bucket; at other
temperatures the bucket's mass is not known (`labkit.teachers.topk_store.dense` says which way it errs).

"""


def page() -> str:
    plan, machine = Plan(), Machine()
    sizes, stored = plan.bytes_a_token(), plan.storage()
    small = LAPTOP.bytes_a_token()
    load = plan.loading_gigabytes_a_second(machine, 8, 0.4)
    month = 0.02  # a gigabyte, as in labkit.records.cost.Prices

    def row(*cells: str) -> str:
        return "| " + " | ".join(cells) + " |\n"

    stores = {
        f"{length}_{width}": of_a_store(vocabulary, *ends)
        for length, ends in (("long", LONG), ("short", SHORT))
        for width, vocabulary in (("small", LAPTOP.vocabulary), ("big", plan.vocabulary))
    }
    text = HEAD + STORE.format(small=small["top 32"], big=sizes["top 32"], answers=ANSWERS, long=LONG, short=SHORT, **stores)
    text += f"""## On paper: 70B to 7B, {plan.prompts:,} prompts

{plan.prompt_tokens} tokens a prompt and {plan.answer_tokens} an answer, {plan.passes} passes; a teacher of the shape of Llama 3.1 70B
(V = {plan.vocabulary:,}, width {plan.width:,}, {plan.layers} layers, 8 heads of keys and values of 128 each, from its `config.json`), and a
student of 7B with its tokenizer. That is {plan.answers / 1e6:,.0f} million answer tokens.

### Storage

The last column is what the disk must deliver so that a student on 8 GPUs at 40% of their best does not wait.

"""
    text += row("kept of the teacher", "bytes a token", "in all", f"a month at ${month:.2f} a GB", "GB/s in training") + row(*["---"] * 5)
    for name, size in sizes.items():
        text += row(name, f"{size:,.0f}", _bytes(stored[name]), f"${stored[name] / 1e9 * month:,.2f}", f"{load[name]:.2g}")
    ratio = sizes["full logits"] / sizes["top 32"]
    text += f"""
Full logits are {ratio:,.0f} times the top 32. Hidden states give back the full
logits (the lab keeps them for its small teachers, where they are {2 * 192} bytes a token), but at width {plan.width:,} they are {sizes["hidden states"] / sizes["top 32"]:.0f} times
the top 32: at this size keep a top k, or text alone, or ask a live teacher.

### Hours and money

Floors: {machine.flops / 1e12:.0f} teraflop/s and {machine.bandwidth / 1e12:.2f} TB/s a GPU (the data sheet of an H100 SXM, bf16, dense), 2 operations a
parameter and token forward and 6 in training (Kaplan et al. 2020, arXiv 2001.08361), attention left out. Writing takes the dearer of
arithmetic and memory traffic at {plan.together} answers at a time on {plan.gpus} GPUs ({plan.gigabytes_a_gpu():.0f} GB on each). No engine reaches a floor; the shares
of it in the columns are assumptions, and ${machine.hour:.2f} a GPU-hour is a round price. Measure the share with a hundred prompts first.

"""
    shares = (1.0, 0.4, 0.2)
    text += row("GPU-hours", "the floor", *(f"at {share:.0%} of it" for share in shares[1:]), "money at 40%") + row(*["---"] * 5)
    by_share = [plan.hours(machine, share) for share in shares]
    for name in by_share[0]:
        text += row(name, *(f"{hours[name]:,.0f}" for hours in by_share), f"${by_share[1][name] * machine.hour:,.0f}")
    ways = {
        "text alone (sequence-level)": ("the teacher writes", "the student trains"),
        "top k kept while writing": ("the teacher writes", "the student trains"),
        "top k for text that is there already": ("the teacher reads once", "the student trains"),
    }
    text += "\n" + row("way", "the floor", "at 40%", "at 20%", "money at 40%") + row(*["---"] * 5)
    for way, parts in ways.items():
        sums = [sum(hours[part] for part in parts) for hours in by_share]
        text += row(way, *(f"{hours:,.0f}" for hours in sums), f"${sums[1] * machine.hour:,.0f}")
    live = [hours["the teacher reads once"] * plan.passes + hours["the student trains"] for hours in by_share]
    text += row("given text, live teacher in every pass", *(f"{hours:,.0f}" for hours in live), f"${live[1] * machine.hour:,.0f}")
    on_policy = [
        plan.passes * (hours["the teacher reads once"] + small_writes(plan, machine, share)) for hours, share in zip(by_share, shares)
    ]
    on_policy = [a + hours["the student trains"] for a, hours in zip(on_policy, by_share)]
    text += row(
        "on-policy: the student writes, the teacher reads", *(f"{h:,.0f}" for h in on_policy), f"${on_policy[1] * machine.hour:,.0f}"
    )
    text += """
Others' numbers to hold this against, cited and not checked here: Qwen3-8B on-policy in 1,800 GPU-hours (Qwen3 technical report, 2025,
arXiv 2505.09388, table 21); LLaMA-7B on Alpaca's 52,000 examples in 3 hours on 8 A100s, below $100, its text from a hosted teacher below $500 (Stanford Alpaca's README, 2023). The on-policy rows differ
most: real runs sample longer and several answers a prompt.

## Which engine does what

| part | engine | in the lab |
| --- | --- | --- |
| writing, with the top k of every token | vLLM or SGLang behind an OpenAI-compatible endpoint, as many of them as there are teachers | `labkit label --endpoint URL`; rows with log-probabilities go into `TopKStore.add_top` |
| reading given text | vLLM's `prompt_logprobs`, or transformers under accelerate | `TopKStore.add` from the logits |
| training, student fits into a GPU | the lab's loop under `accelerate launch`, or TRL | `labkit distill`, `labkit export trl` |
| training, student cut up | TRL or transformers' Trainer with FSDP2; DeepSpeed; NeMo or Model-Optimizer's Megatron plugin for tensor and pipeline parallelism | `data/configs/fsdp2.yaml`, then theirs |
| the loss at a vocabulary of 128,256 | in chunks: Liger-Kernel, TRL's DistillationTrainer (on-policy only; its GKDTrainer holds all logits); top-k gathered before the softmax (NeMo-RL pull request 3314: 16.2 to 4.6 GiB) | in chunks of tokens: `pieces` in `labkit.training.step`; `top_k` in `labkit.losses.divergences` |
| sweeps over recipes | Ray | `labkit sweep --backend ray` |

Hosted servers give at most a few log-probabilities a token (OpenAI's up to 20), and some none: then k is theirs, or text is all there is.
Tail rules for the mass outside the k differ between libraries (five are in `TAILS` of `labkit/losses/divergences.py`): `bucket` is the one to ask for.
"""
    return text


def of_a_store(vocabulary: int, shortest: int, longest: int) -> float:
    """Bytes a token of a real store of answers in which every token is the teacher's likeliest."""
    import torch

    lengths = random.Random(0)
    with tempfile.TemporaryDirectory() as folder, TopKStore(Path(folder), vocabulary=vocabulary, k=32, who="a teacher") as store:
        for row in range(ANSWERS):
            n = lengths.randint(shortest, longest)
            store.add_top([row], [[0] * n], torch.arange(32).expand(n, 32), torch.zeros(n, 32))
        store.flush()
        return store.bytes / store.tokens


def small_writes(plan: Plan, machine: Machine, reached: float) -> float:
    """GPU-hours in which a 7B student (32 layers, the same key and value heads) writes as many tokens on one GPU."""
    student = Plan(plan.prompts, plan.prompt_tokens, plan.answer_tokens, teacher=plan.student, layers=32, gpus=1, together=plan.together)
    return student.writing_hours(machine, reached)


def _bytes(size: float) -> str:
    unit, name = next((unit, name) for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")) if size >= unit or unit == 1e6)
    return f"{size / unit:,.1f} {name}"


def build(folder: Path) -> None:
    (folder / "scale.md").write_text(page(), encoding="utf-8")
