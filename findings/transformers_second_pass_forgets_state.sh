#!/usr/bin/env bash
# A Mamba or Jamba that reads a text in two passes, the second of several tokens, forgets the first: its cache is not read, and nothing is said.
#
# Guess before the test: with a cache, the logits are those of one pass over the whole text, however it is cut into passes.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux (CPU, without extra kernels): mamba, falcon_mamba and jamba take the recurrent
# state from the cache only in a pass of one token; a longer pass starts from zero, and all that it keeps of the text before are the last tokens,
# through the convolution. mamba2 and qwen3_next are right. A jamba's generate() is wrong in the same way with prefill_chunk_size, and in a second
# turn of a chat that goes on from the cache of the first.
#
# Expected output:
#   transformers 5.23.0
#   mamba: as one pass: one token a pass: True, two passes: False
#   falcon_mamba: as one pass: one token a pass: True, two passes: False
#   jamba: as one pass: one token a pass: True, two passes: False
#   mamba2: as one pass: one token a pass: True, two passes: True
#   qwen3_next: as one pass: one token a pass: True, two passes: True
#   one layer of mamba, two passes: the end reads the beginning: False; one token a pass: True
#   jamba, generate(): as one pass: with prefill_chunk_size: False, in a second turn: False
#   qwen3_next, generate(): as one pass: with prefill_chunk_size: True, in a second turn: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - 2>noise <<'PY'
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

print(f"transformers {transformers.__version__}")
torch.set_grad_enabled(False)
SIZES = dict(vocab_size=50, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2)
EXPERTS = dict(num_experts=2, num_experts_per_tok=1, moe_intermediate_size=16, shared_expert_intermediate_size=16)
LINEAR = dict(linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8, head_dim=8)
KINDS = {
    "mamba": dict(state_size=8, num_hidden_layers=2),
    "falcon_mamba": dict(state_size=8, num_hidden_layers=2),
    "jamba": dict(num_hidden_layers=2, mamba_d_state=8, mamba_dt_rank=4, attn_layer_period=2, attn_layer_offset=1, num_experts=2),
    "mamba2": dict(state_size=8, num_heads=8, head_dim=8, n_groups=1, num_hidden_layers=2),
    "qwen3_next": dict(num_hidden_layers=4, **EXPERTS, **LINEAR),
}


def build(kind, **own):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SIZES | KINDS[kind] | own))).eval()


def logits(model, ids, tokens):
    """The logits of a text that is read in passes of so many tokens, with one cache."""
    name = "cache_params" if "mamba" in model.config.model_type else "past_key_values"
    given = {"use_cache": True, name: DynamicCache(config=model.config)}
    return torch.cat([model(part, **given).logits for part in ids.split(tokens, 1)], 1)


def same(a, b):
    return torch.allclose(a, b, atol=1e-3)


ids = torch.randint(3, 50, (1, 16), generator=torch.Generator().manual_seed(0))
for kind in KINDS:
    model = build(kind)
    one, two = (same(logits(model, ids, tokens), model(ids, use_cache=False).logits) for tokens in (1, 8))
    print(f"{kind}: as one pass: one token a pass: {one}, two passes: {two}")

model, other = build("mamba", num_hidden_layers=1), ids.clone()
other[0, 0] = (ids[0, 0] + 1) % 50
read = [not torch.equal(*(logits(model, text, tokens)[:, 8:] for text in (ids, other))) for tokens in (8, 1)]
print(f"one layer of mamba, two passes: the end reads the beginning: {read[0]}; one token a pass: {read[1]}")



def first(model, ids, **given):
    """The text that generate() writes, and the logits of its first token."""
    options = dict(do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0)
    made = model.generate(ids, return_dict_in_generate=True, output_logits=True, **options, **given)
    return made.sequences, made.logits[0]


for kind in ("jamba", "qwen3_next"):
    model = build(kind)
    chunked = same(first(model, ids)[1], first(model, ids, prefill_chunk_size=8)[1])
    cache = DynamicCache(config=model.config)
    talk = torch.cat([first(model, ids, past_key_values=cache)[0], ids], 1)
    second = same(first(model, talk)[1], first(model, talk, past_key_values=cache)[1])
    print(f"{kind}, generate(): as one pass: with prefill_chunk_size: {chunked}, in a second turn: {second}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
for kind in mamba falcon_mamba jamba; do
  grep -qx "$kind: as one pass: one token a pass: True, two passes: False" <<<"$seen"
done
for kind in mamba2 qwen3_next; do
  grep -qx "$kind: as one pass: one token a pass: True, two passes: True" <<<"$seen"
done
grep -qx "one layer of mamba, two passes: the end reads the beginning: False; one token a pass: True" <<<"$seen"
grep -qx "jamba, generate(): as one pass: with prefill_chunk_size: False, in a second turn: False" <<<"$seen"
grep -qx "qwen3_next, generate(): as one pass: with prefill_chunk_size: True, in a second turn: True" <<<"$seen"
