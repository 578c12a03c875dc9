#!/usr/bin/env bash
# A mask of four dimensions takes a Mistral's sliding window off; the same mask in two dimensions keeps it.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: with sliding_window=4, a text of 12 tokens and an all-ones mask (1, 12),
# the last token reads 4 keys a layer. With the causal mask written out as (1, 1, 12, 12), the logits are those of a model without a
# window: the mask is taken as it is, and no layer cuts it to the window it is configured with. Nothing is said.
#
# Expected output:
#   transformers 5.23.0
#   mask (1, 12): as without a mask: True; as without a window: False
#   mask (1, 1, 12, 12): as without a mask: False; as without a window: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - <<'PY'
import torch
import transformers

print(f"transformers {transformers.__version__}")
torch.manual_seed(0)
sizes = dict(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
model, plain = (transformers.MistralForCausalLM(transformers.MistralConfig(**sizes, sliding_window=n)).eval() for n in (4, None))
plain.load_state_dict(model.state_dict())
ids = torch.randint(0, 50, (1, 12))
with torch.no_grad():
    own, without = model(ids).logits, plain(ids).logits
    for mask in (torch.ones(1, 12, dtype=torch.bool), torch.ones(1, 1, 12, 12, dtype=torch.bool).tril()):
        logits = model(ids, attention_mask=mask).logits
        same = [torch.allclose(logits, other, atol=1e-5) for other in (own, without)]
        print(f"mask {tuple(mask.shape)}: as without a mask: {same[0]}; as without a window: {same[1]}")
PY
)
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "mask (1, 12): as without a mask: True; as without a window: False" <<<"$seen"
grep -qx "mask (1, 1, 12, 12): as without a mask: False; as without a window: True" <<<"$seen"
