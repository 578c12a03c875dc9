#!/usr/bin/env bash
# LoRA on gate_proj, up_proj and down_proj adapts only the experts of one mixture of experts, and all but the experts of another.
#
# Guess before the test: target_modules names the last part of a layer's name. Every linear layer of such a name gets an adapter, in dense layers,
# shared experts and experts alike, of the rank that is asked for; a warning that a setting was ignored is true.
#
# Seen with peft 0.21.2, transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: transformers holds all experts of a layer in two tensors. For
# qwen3_moe and deepseek_v3, peft takes the three names to mean these tensors alone: the dense layers and the shared experts, which still have
# linear layers of these names, stay frozen. For qwen2_moe it is the other way round. Nothing says so; what is said, that a rank pattern was
# ignored, is not so: the tensor of gate and up has twice the rank, on purpose.
#
# Expected output:
#   peft 0.21.2, transformers 5.23.0
#   llama: linear layers with an adapter 6 of 6
#   qwen3_moe: linear layers with an adapter 0 of 3, tensors of experts 2 of 2
#   deepseek_v3: linear layers with an adapter 0 of 6, tensors of experts 2 of 2
#   qwen2_moe: linear layers with an adapter 6 of 6, tensors of experts 0 of 4
#   qwen3_moe, rank 4 asked for: ranks 4 and 8, warned that a rank was ignored: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 peft==0.21.2
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - 2>noise <<'PY'
import warnings

import peft
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

print(f"peft {peft.__version__}, transformers {transformers.__version__}")
NAMES = ["gate_proj", "up_proj", "down_proj"]
SIZES = dict(vocab_size=50, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2)
HEADS = dict(num_attention_heads=4, num_key_value_heads=4, num_experts_per_tok=2)
LATENT = dict(q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, n_group=1, topk_group=1)
KINDS = {
    "llama": {},
    "qwen3_moe": dict(num_experts=4, mlp_only_layers=[0]),  # the first layer is dense
    "deepseek_v3": dict(n_routed_experts=4, first_k_dense_replace=1, **LATENT),  # so it is here, and the second has shared experts
    "qwen2_moe": dict(num_experts=4, shared_expert_intermediate_size=16),
}


def adapt(kind):
    """How many linear layers of the names, and how many tensors of experts, there are and have an adapter; the adapters' ranks; the warnings."""
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SIZES, **HEADS, **KINDS[kind]))
    linear = [name for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear) and name.endswith(tuple(NAMES))]
    experts = sum(".experts." in name for name, _ in model.named_parameters())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=NAMES))
    first = {name: weights for name, weights in model.named_parameters() if "lora_A" in name}
    inside = [weights for name, weights in first.items() if ".experts." in name]
    adapted = sum(any(f".{name}.lora_A" in given for given in first) for name in linear)
    ranks = sorted(len(weights) // 4 for weights in inside)  # the rows of four experts
    return (adapted, len(linear)), (len(inside), experts), ranks, any("rank_pattern" in str(one.message) for one in said)


for kind in KINDS:
    (adapted, linear), (inside, experts), ranks, warned = adapt(kind)
    print(f"{kind}: linear layers with an adapter {adapted} of {linear}" + (f", tensors of experts {inside} of {experts}" if experts else ""))
    if kind == "qwen3_moe":
        last = f"qwen3_moe, rank 4 asked for: ranks {ranks[0]} and {ranks[1]}, warned that a rank was ignored: {warned}"
print(last)
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "peft 0.21.2, transformers 5.23.0" <<<"$seen"
grep -qx "llama: linear layers with an adapter 6 of 6" <<<"$seen"
grep -qx "qwen3_moe: linear layers with an adapter 0 of 3, tensors of experts 2 of 2" <<<"$seen"
grep -qx "deepseek_v3: linear layers with an adapter 0 of 6, tensors of experts 2 of 2" <<<"$seen"
grep -qx "qwen2_moe: linear layers with an adapter 6 of 6, tensors of experts 0 of 4" <<<"$seen"
grep -qx "qwen3_moe, rank 4 asked for: ranks 4 and 8, warned that a rank was ignored: True" <<<"$seen"
