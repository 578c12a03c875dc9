#!/usr/bin/env bash
# TRL's GKDTrainer divides the loss on text the student wrote by the number of tokens of the data's answers, which the step never reads.
#
# Seen with trl 1.16.0, transformers 5.23.0 and torch 2.13.0 on Python 3.11, Linux: with lmbda=1 the student writes every answer itself. Two data
# sets of one prompt, with answers of 1 and of 20 words, give the same step: same text written, same rows, same sum of losses. Its loss and its
# gradient differ 20 times, since the count is taken from the batch before the written answers replace the data's. With lmbda between 0 and 1,
# steps on written text so weigh more or less than those on given text by how long the given answers are.
#
# Expected output:
#   trl 1.16.0
#   answers of 1 word: tokens written 16, loss x 4 = 3.850
#   answers of 20 words: tokens written 16, loss x 80 = 3.850
# (the check asks only that both lines have the same count and the same product)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 trl==1.16.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 TRL_EXPERIMENTAL_SILENCE=1 env/bin/python - 2>noise <<'PY'
import datasets
import tokenizers
import torch
import transformers
import trl
from trl.experimental.gkd import GKDConfig, GKDTrainer


class Seen(GKDTrainer):
    def compute_loss(self, model, inputs, *given, **named):
        self.written, self.count = int((inputs["labels"] != -100).sum()), int(named["num_items_in_batch"])
        return super().compute_loss(model, inputs, *given, **named)


def model(seed):
    transformers.set_seed(seed)
    sizes = dict(vocab_size=6, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2)
    made = transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, initializer_range=0.5))
    made.generation_config.eos_token_id = None
    return made


print(f"trl {trl.__version__}")
words = tokenizers.models.WordLevel({word: i for i, word in enumerate(["<pad>", "<eos>", "<unk>", "q", "a", "b"])}, unk_token="<unk>")
plain = tokenizers.Tokenizer(words)
plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")
tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
for n in (1, 20):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": " ".join(["a"] * n)}]
    data = datasets.Dataset.from_list([{"messages": chat}] * 4)
    args = GKDConfig("out", per_device_train_batch_size=4, max_steps=1, lmbda=1.0, max_new_tokens=6, use_cpu=True, report_to=[],
                     save_strategy="no", logging_strategy="no", disable_tqdm=True)
    trainer = Seen(model=model(0), teacher_model=model(1), args=args, processing_class=tokenizer, train_dataset=data)
    loss = trainer.train().training_loss
    many = "word" if n == 1 else "words"
    print(f"answers of {n} {many}: tokens written {trainer.written}, loss x {trainer.count} = {loss * trainer.count:.3f}")
PY
) || { cat noise; exit 1; }
seen=$(grep -v "^{" <<<"$seen")
echo "$seen"
grep -qx "trl 1.16.0" <<<"$seen"
short=$(sed -nE 's/^answers of 1 word: (tokens written [0-9]+), loss x 4 (= [0-9.]+)$/\1 \2/p' <<<"$seen")
long=$(sed -nE 's/^answers of 20 words: (tokens written [0-9]+), loss x 80 (= [0-9.]+)$/\1 \2/p' <<<"$seen")
test -n "$short" && test "$short" = "$long"
