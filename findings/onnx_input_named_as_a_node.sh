#!/usr/bin/env bash
# torch.onnx.export writes a broken file, and says nothing, if a name in input_names is also that of a step inside the graph.
#
# Seen with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2 and onnxruntime 1.32.0 on Python 3.11, Linux: a module that calls torch.where, exported
# with input_names=["x", "where"], has an input and a result of one name, and onnxruntime refuses to load it. If the parameter of forward() is
# itself called `where`, the inner name gives way ("where_1") and the file is good. The older exporter (dynamo=False) is right in both cases.
#
# Expected output:
#   torch 2.13.0, onnxruntime 1.32.0
#   dynamo=True, parameter w, named where: Duplicate definition of name (where)
#   dynamo=True, parameter where: loads
#   dynamo=False, parameter w, named where: loads
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - 2>noise <<'PY'
import re

import onnxruntime
import torch


class Named(torch.nn.Module):
    def forward(self, x, w):
        return torch.where(x > 0, x, w)


class Same(torch.nn.Module):
    def forward(self, x, where):
        return torch.where(x > 0, x, where)


print(f"torch {torch.__version__.split('+')[0]}, onnxruntime {onnxruntime.__version__}")
given = (torch.randn(4), torch.zeros(4))
for text, module, dynamo in (
    ("dynamo=True, parameter w, named where", Named(), True),
    ("dynamo=True, parameter where", Same(), True),
    ("dynamo=False, parameter w, named where", Named(), False),
):
    torch.onnx.export(module.eval(), given, "model.onnx", input_names=["x", "where"], dynamo=dynamo, verbose=False)
    try:
        onnxruntime.InferenceSession("model.onnx")
        print(f"{text}: loads")
    except Exception as error:
        print(f"{text}: {re.search('Duplicate definition of name .[a-z_]+.', str(error))[0]}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "torch 2.13.0, onnxruntime 1.32.0" <<<"$seen"
grep -qx "dynamo=True, parameter w, named where: Duplicate definition of name (where)" <<<"$seen"
grep -qx "dynamo=True, parameter where: loads" <<<"$seen"
grep -qx "dynamo=False, parameter w, named where: loads" <<<"$seen"
