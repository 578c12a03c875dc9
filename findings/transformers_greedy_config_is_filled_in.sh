#!/usr/bin/env bash
# A new GenerationConfig(do_sample=False) given to generate() is not greedy if the model's own config has beams, penalties or other rules.
#
# Guess before the test: a config that is given replaces the model's own, as the documentation of generate() says (what it leaves out has the
# default values of GenerationConfig), so that the text is the argmax of the logits at each token.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: each value that is None in the given config is filled from the model's own,
# and in a new config nearly all are None. One field set in the model's generation_config, as in many generation_config.json, is enough to change
# the "greedy" text, and nothing is said. A neutral value that is written out is kept; the end-of-sequence token cannot be taken away with None.
#
# Expected output:
#   transformers 5.23.0
#   nothing set in the model: argmax: True
#   num_beams=4 in the model: argmax: False; with num_beams=1 written out: True
#   repetition_penalty=3.0 in the model: argmax: False; with repetition_penalty=1.0 written out: True
#   no_repeat_ngram_size=2 in the model: argmax: False; with no_repeat_ngram_size=0 written out: True
#   suppress_tokens=[8] in the model: argmax: False; with suppress_tokens=[] written out: True
#   eos_token_id=6 in the model: argmax: False; with eos_token_id=None written out: False
# (the check leaves open which tokens the argmax takes)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - <<'PY'
import torch
import transformers
from transformers import GenerationConfig

print(f"transformers {transformers.__version__}")
torch.manual_seed(0)
sizes = dict(vocab_size=12, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
config = transformers.LlamaConfig(**sizes, bos_token_id=None, eos_token_id=None, initializer_range=0.3)
model = transformers.LlamaForCausalLM(config).eval()
prompt = text = torch.tensor([[1, 2, 3]])
with torch.no_grad():
    for _ in range(16):
        text = torch.cat([text, model(text).logits[:, -1:].argmax(-1)], 1)
written = text[0, 3:].tolist()


def argmax(**given):
    """Whether the text under a new config with greedy decoding is the argmax of the logits at each token."""
    return torch.equal(model.generate(prompt, generation_config=GenerationConfig(max_new_tokens=16, do_sample=False, **given)), text)


model.generation_config = GenerationConfig()
print(f"nothing set in the model: argmax: {argmax()}")
for name, own, neutral in (
    ("num_beams", 4, 1),
    ("repetition_penalty", 3.0, 1.0),
    ("no_repeat_ngram_size", 2, 0),
    ("suppress_tokens", written[:1], []),
    ("eos_token_id", written[2], None),
):
    model.generation_config = GenerationConfig(**{name: own})
    print(f"{name}={own} in the model: argmax: {argmax()}; with {name}={neutral} written out: {argmax(**{name: neutral})}")
PY
)
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "nothing set in the model: argmax: True" <<<"$seen"
grep -qx "num_beams=4 in the model: argmax: False; with num_beams=1 written out: True" <<<"$seen"
grep -qx "repetition_penalty=3.0 in the model: argmax: False; with repetition_penalty=1.0 written out: True" <<<"$seen"
grep -qx "no_repeat_ngram_size=2 in the model: argmax: False; with no_repeat_ngram_size=0 written out: True" <<<"$seen"
grep -qx "suppress_tokens=\[[0-9]*\] in the model: argmax: False; with suppress_tokens=\[\] written out: True" <<<"$seen"
grep -qx "eos_token_id=[0-9]* in the model: argmax: False; with eos_token_id=None written out: False" <<<"$seen"
