#!/usr/bin/env bash
# AutoTokenizer reads a tokenizer beside a qwen2 or qwen3_5 model with other rules than those saved there, and adds a token of its own.
#
# Guess before the test: a tokenizer that is saved and loaded again splits a text as before, whatever model lies in the same folder; the class in
# tokenizer_config.json ("TokenizersBackend", as saved) is the class that is loaded.
#
# Seen with transformers 5.23.0 and tokenizers 0.23.3 on Python 3.11, Linux: a byte-level BPE tokenizer that writes all text in lower case, saved
# beside the config of a small student. With a qwen3 or llama config it comes back as it was. With a qwen2 config it comes back as Qwen2Tokenizer:
# the vocabulary is the saved one, but normalizer and pre-tokenizer are Qwen2's, so that the same text has other tokens, and "<|endoftext|>" is
# added behind the last token, where the model has no embedding. A qwen3_5 config does the same with its own class. Nothing is said.
#
# Expected output:
#   transformers 5.23.0
#   saved: TokenizersBackend
#   beside a llama: TokenizersBackend, same tokens: True, tokens without an embedding: []
#   beside a qwen3: TokenizersBackend, same tokens: True, tokens without an embedding: []
#   beside a qwen2: Qwen2Tokenizer, same tokens: False, tokens without an embedding: ['<|endoftext|>']
#   beside a qwen3_5: Qwen3_5Tokenizer, same tokens: False, tokens without an embedding: ['<|endoftext|>']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 tokenizers==0.23.3
cd "$folder"
seen=$(env/bin/python - 2>noise <<'PY'
import json

import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

print(f"transformers {transformers.__version__}")
plain = Tokenizer(models.BPE())
plain.normalizer, plain.decoder = normalizers.Lowercase(), decoders.ByteLevel()
plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<pad>", "<eos>"], show_progress=False)
plain.train_from_iterator(["hello world, these are some words"] * 3, trainer)
saved = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>")
for kind in ("llama", "qwen3", "qwen2", "qwen3_5"):
    saved.save_pretrained(kind)
    transformers.AutoConfig.for_model(kind, vocab_size=len(saved)).save_pretrained(kind)
    if kind == "llama":
        print(f"saved: {json.load(open('llama/tokenizer_config.json'))['tokenizer_class']}")
    loaded = transformers.AutoTokenizer.from_pretrained(kind)
    same = loaded("Hello World").input_ids == saved("Hello World").input_ids
    beyond = [token for token, i in loaded.get_vocab().items() if i >= len(saved)]
    print(f"beside a {kind}: {type(loaded).__name__}, same tokens: {same}, tokens without an embedding: {beyond}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "transformers 5.23.0" <<<"$seen"
grep -qx "saved: TokenizersBackend" <<<"$seen"
grep -qx "beside a llama: TokenizersBackend, same tokens: True, tokens without an embedding: \[\]" <<<"$seen"
grep -qx "beside a qwen3: TokenizersBackend, same tokens: True, tokens without an embedding: \[\]" <<<"$seen"
grep -qx "beside a qwen2: Qwen2Tokenizer, same tokens: False, tokens without an embedding: \['<|endoftext|>'\]" <<<"$seen"
grep -qx "beside a qwen3_5: Qwen3_5Tokenizer, same tokens: False, tokens without an embedding: \['<|endoftext|>'\]" <<<"$seen"
