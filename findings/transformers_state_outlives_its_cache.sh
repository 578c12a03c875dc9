#!/usr/bin/env bash
# A RecurrentGemma keeps its recurrent state in the model, not in the cache: greedy text from one start token hangs on the text written before.
#
# Guess before the test: a cache is all that is kept of a text. A new cache starts a new text, two caches are two texts, and greedy decoding of one
# prompt writes the same text each time.
#
# Seen with transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: DynamicCache makes layers for the recurrent states, but the model's blocks
# hold these states as attributes of their own and leave the layers empty. A prompt of several tokens clears them; a prompt of one token (text
# from the start token alone) goes on from the convolution's state of the text before. Two texts that are decoded in turn, each with its own
# cache, read each other's state. Nothing is said.
#
# Expected output:
#   transformers 5.23.0
#   prompt of 1 token: same greedy text after another text: False
#   prompt of 2 tokens: same greedy text after another text: True
#   one text, one token a pass, its own cache: as one pass: True
#   two texts in turn, one token a pass, each its own cache: as one pass: False
#   a Llama: same greedy text after another text: True, two texts in turn: as one pass: True
#   layers of the cache that hold a recurrent state: 0 of 2
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 transformers==5.23.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - 2>noise <<'PY'
import torch
import transformers
from transformers import DynamicCache

print(f"transformers {transformers.__version__}")
torch.set_grad_enabled(False)
sizes = dict(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1)
blocks = dict(lru_width=32, block_types=["recurrent", "recurrent", "attention"])


def build(kind, **own):
    """A model with random weights, large enough for one token to change the text."""
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **sizes, **own)).eval()
    torch.manual_seed(0)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model


def again(model, tokens):
    """Whether a prompt of so many tokens gives the same greedy text before and after another text is written."""
    options = dict(do_sample=False, max_new_tokens=8, eos_token_id=None, pad_token_id=0)
    before, _, after = (model.generate(ids, **options) for ids in (one[:, :tokens], other, one[:, :tokens]))
    return torch.equal(before, after)


def decode(model, *texts):
    """Whether the texts, decoded in turn and each with its own cache, have the logits of one pass over each; and the last cache."""
    wanted = [model(ids, use_cache=False).logits for ids in texts]  # a pass without a cache clears the state
    caches = [DynamicCache(config=model.config) for _ in texts]
    got = [[model(ids[:, i : i + 1], past_key_values=cache).logits for ids, cache in zip(texts, caches)] for i in range(12)]
    joined = [torch.cat(parts, 1) for parts in zip(*got)]
    return all(torch.allclose(a, b, atol=1e-3) for a, b in zip(joined, wanted)), caches[-1]


one, other = torch.randint(3, 50, (2, 1, 12), generator=torch.Generator().manual_seed(0))
model, llama = build("recurrent_gemma", **blocks), build("llama")
print(f"prompt of 1 token: same greedy text after another text: {again(model, 1)}")
print(f"prompt of 2 tokens: same greedy text after another text: {again(model, 2)}")
print(f"one text, one token a pass, its own cache: as one pass: {decode(model, one)[0]}")
right, cache = decode(model, one, other)
print(f"two texts in turn, one token a pass, each its own cache: as one pass: {right}")
print(f"a Llama: same greedy text after another text: {again(llama, 1)}, two texts in turn: as one pass: {decode(llama, one, other)[0]}")
held = [layer.recurrent_states[0] is not None for layer in cache.layers if hasattr(layer, "recurrent_states")]
print(f"layers of the cache that hold a recurrent state: {sum(held)} of {len(held)}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "prompt of 1 token: same greedy text after another text: False" <<<"$seen"
grep -qx "prompt of 2 tokens: same greedy text after another text: True" <<<"$seen"
grep -qx "one text, one token a pass, its own cache: as one pass: True" <<<"$seen"
grep -qx "two texts in turn, one token a pass, each its own cache: as one pass: False" <<<"$seen"
grep -qx "a Llama: same greedy text after another text: True, two texts in turn: as one pass: True" <<<"$seen"
grep -qx "layers of the cache that hold a recurrent state: 0 of 2" <<<"$seen"
