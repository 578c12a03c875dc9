#!/usr/bin/env bash
# Whether rows packed into one sequence see one another hangs on use_cache in transformers, in a forward pass that reads no cache.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: without a mask, a Llama finds packed rows by their positions (0 1 2 3
# 0 1 2 3), but only if it has no cache. use_cache=True, which a config starts with, makes an empty cache before the mask is made: the second
# row then reads the first, in eval and in train mode, and nothing is said. The same test turns a gap in the positions of one text (0 1 2 3 10
# 11 12 13) into a cut, so that this text is read in two halves, again only with use_cache=False.
#
# Expected output (the differences are of logits):
#   transformers 5.23.0
#   packed, use_cache=default: differs from the row alone: True
#   packed, use_cache=False: differs from the row alone: False
#   a gap, use_cache=default: the end reads the beginning: True
#   a gap, use_cache=False: the end reads the beginning: False
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
model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes)).eval()
first, second, other = torch.randint(0, 50, (3, 1, 4))
packed, gap = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]]), torch.tensor([[0, 1, 2, 3, 10, 11, 12, 13]])


def end(ids, positions, **given):
    """The logits of the last four tokens."""
    with torch.no_grad():
        return model(ids, position_ids=positions, **given).logits[:, -4:]


def differ(a, b):
    return bool((a - b).abs().max() > 1e-3)


text, changed = torch.cat([first, second], 1), torch.cat([other, second], 1)
ways = {"default": {}, "False": {"use_cache": False}}
for name, given in ways.items():
    print(f"packed, use_cache={name}: differs from the row alone: {differ(end(text, packed, **given), model(second).logits)}")
for name, given in ways.items():
    print(f"a gap, use_cache={name}: the end reads the beginning: {differ(end(text, gap, **given), end(changed, gap, **given))}")
PY
)
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "packed, use_cache=default: differs from the row alone: True" <<<"$seen"
grep -qx "packed, use_cache=False: differs from the row alone: False" <<<"$seen"
grep -qx "a gap, use_cache=default: the end reads the beginning: True" <<<"$seen"
grep -qx "a gap, use_cache=False: the end reads the beginning: False" <<<"$seen"
