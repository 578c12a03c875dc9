#!/usr/bin/env bash
# apply_chat_template writes the name of a type ("<date>", "<ndarray>") in place of a message's content, and says nothing.
#
# Guess before the test: Jinja writes str() of what it is given and calls a function it is given, so that a date is written as a date, an array of
# parts is read as a list of parts is, and a later patch release writes the text that the one before it wrote.
#
# Seen with transformers 5.22.1 and 5.23.0 on Python 3.11, Linux: since 5.22.2, all that a template sees is first made into plain JSON types. What is
# not one of them becomes the name of its type in angle brackets. pandas reads the lists of a parquet file as arrays: a message of several parts
# is then the one word "<ndarray>", and a student learns from that. A function given to the template is such a word too, and calling it fails.
#
# Expected output:
#   transformers 5.22.1
#   content as a list of parts: hello; as an array of parts: hello; a date: 2026-01-02; a function: HELLO
#   transformers 5.23.0
#   content as a list of parts: hello; as an array of parts: <ndarray>; a date: <date>; a function: 'str' object is not callable
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check transformers==5.23.0 numpy==2.4.6 jinja2==3.1.6
"$folder/env/bin/pip" install -q --disable-pip-version-check --no-deps --target "$folder/before" transformers==5.22.1
cd "$folder"
cat >write.py <<'PY'
import datetime

import numpy
import tokenizers
import transformers

words = tokenizers.models.WordLevel({"<unk>": 0}, unk_token="<unk>")
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words))
PARTS = "{% if messages[0].content is string %}{{ messages[0].content }}{% else %}{{ messages[0].content[0].text }}{% endif %}"


def write(template, content="hello", **given):
    try:
        chat = [{"role": "user", "content": content}]
        return tokenizer.apply_chat_template(chat, chat_template=template, tokenize=False, **given)
    except TypeError as error:
        return error


print(f"transformers {transformers.__version__}")
parts = [{"type": "text", "text": "hello"}]
print(
    f"content as a list of parts: {write(PARTS, parts)}; as an array of parts: {write(PARTS, numpy.array(parts))}; "
    f"a date: {write('{{ today }}', today=datetime.date(2026, 1, 2))}; a function: {write('{{ upper(messages[0].content) }}', upper=str.upper)}"
)
PY
seen=$(PYTHONPATH=before env/bin/python write.py 2>noise && env/bin/python write.py 2>>noise) || { cat noise; exit 1; }
echo "$seen"
test "$seen" = "transformers 5.22.1
content as a list of parts: hello; as an array of parts: hello; a date: 2026-01-02; a function: HELLO
transformers 5.23.0
content as a list of parts: hello; as an array of parts: <ndarray>; a date: <date>; a function: 'str' object is not callable"
