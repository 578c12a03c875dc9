#!/usr/bin/env bash
# Zamba2 and Nemotron-H compute other numbers token by token, as generate() does, than in one pass over the text: a lower limit of the time step
# is applied only in the pass over several tokens.
#
# Guess before the test: with a cache, the logits of each token are those of one pass over the whole text, up to rounding.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux (CPU, without extra kernels), in double precision: where the time steps of the
# Mamba layers are far above time_step_min of the config (0.001), both ways agree to some 1e-5. Where they are below it (here by the layers' dt_bias),
# the pass over several tokens raises them to that limit and the update of one token does not, so log-probabilities differ by more than half a nat.
# mamba2, whose limit is another field (time_step_limit, by default none), agrees in both cases.
#
# Expected output:
#   transformers 5.23.0
#   zamba2: token by token as in one pass: long time steps True, short ones False
#   nemotron_h: token by token as in one pass: long time steps True, short ones False
#   mamba2: token by token as in one pass: long time steps True, short ones True
#   zamba2, generate(): its logits as in one pass over its text: long time steps True, short ones False
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
SIZES = dict(vocab_size=50, hidden_size=32, intermediate_size=64, num_attention_heads=4, num_key_value_heads=4, initializer_range=0.2)
KINDS = {
    "zamba2": dict(
        num_hidden_layers=3, layers_block_type=["mamba", "hybrid", "mamba"], mamba_d_state=8, mamba_ngroups=1, n_mamba_heads=8,
        mamba_headdim=8, num_mem_blocks=1,
    ),
    "nemotron_h": dict(
        layers_block_type=["mamba", "attention", "mamba"], ssm_state_size=8, mamba_num_heads=8, mamba_head_dim=8, n_groups=1, head_dim=8
    ),
    "mamba2": dict(state_size=8, num_heads=8, head_dim=8, n_groups=1, num_hidden_layers=2),
}
LONG, SHORT = 0.0, -9.0  # of dt_bias: softplus of it is 0.7 and 0.0001
ids = torch.randint(3, 50, (1, 24), generator=torch.Generator().manual_seed(0))


def build(kind, bias):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **(SIZES | KINDS[kind]))).eval().double()
    for name, weight in model.named_parameters():
        if name.endswith("dt_bias"):
            weight.fill_(bias)
    return model


def logprobs(model, text):
    return model(text, use_cache=False).logits.log_softmax(-1)


def agrees(kind, bias):
    model = build(kind, bias)
    given = {"use_cache": True, "cache_params" if kind == "mamba2" else "past_key_values": DynamicCache(config=model.config)}
    steps = torch.cat([model(ids[:, t : t + 1], **given).logits for t in range(ids.shape[1])], 1).log_softmax(-1)
    return bool((steps - logprobs(model, ids)).abs().max() < 1e-3)


def written(bias):
    model = build("zamba2", bias)
    given = dict(do_sample=False, max_new_tokens=40, eos_token_id=None, pad_token_id=0, output_logits=True, return_dict_in_generate=True)
    made = model.generate(ids, **given)
    once = logprobs(model, made.sequences)[:, ids.shape[1] - 1 : -1]
    return bool((torch.stack(made.logits, 1).log_softmax(-1) - once).abs().max() < 1e-3)


for kind in KINDS:
    print(f"{kind}: token by token as in one pass: long time steps {agrees(kind, LONG)}, short ones {agrees(kind, SHORT)}")
print(f"zamba2, generate(): its logits as in one pass over its text: long time steps {written(LONG)}, short ones {written(SHORT)}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "zamba2: token by token as in one pass: long time steps True, short ones False" <<<"$seen"
grep -qx "nemotron_h: token by token as in one pass: long time steps True, short ones False" <<<"$seen"
grep -qx "mamba2: token by token as in one pass: long time steps True, short ones True" <<<"$seen"
grep -qx "zamba2, generate(): its logits as in one pass over its text: long time steps True, short ones False" <<<"$seen"
