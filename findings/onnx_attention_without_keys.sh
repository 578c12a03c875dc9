#!/usr/bin/env bash
# Attention of a token that may read nothing is 0 in PyTorch; exported to ONNX it is the mean of all values, or NaN, or 0.
#
# Seen with torch 2.13.0, onnx 1.23.2, onnxscript 0.7.2 and onnxruntime 1.32.0 on Python 3.11, Linux: scaled_dot_product_attention with a mask that
# leaves one row no key. Under opset 18 and the exporter's own choice (20), a boolean mask is written with the smallest float in place of -inf:
# the softmax of that row is even, the test for NaN that follows it never fires, and the masked values are read. A float mask of -inf has no such
# test and gives NaN. Opset 23 writes one Attention node, which agrees with PyTorch. Rows with a key agree under all of them.
#
# Expected output:
#   torch 2.13.0, onnxruntime 1.32.0
#   torch: bool 0, float 0
#   opset default: bool the mean of all values, float NaN
#   opset 18: bool the mean of all values, float NaN
#   opset 23: bool 0, float 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnxruntime==1.32.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - 2>noise <<'PY'
import numpy as np
import onnxruntime
import torch


class Attend(torch.nn.Module):
    def forward(self, x, mask):
        return torch.nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)


def name(row):
    """What the row without a key came to."""
    if np.isnan(row).all():
        return "NaN"
    return "0" if not row.any() else "the mean of all values" if np.allclose(row, x[0, 0].mean(0), atol=1e-5) else str(row)


def run(mask, opset):
    torch.onnx.export(Attend().eval(), (x, mask), "model.onnx", input_names=["x", "mask"], opset_version=opset, dynamo=True, verbose=False)
    out = onnxruntime.InferenceSession("model.onnx").run(None, {"x": x.numpy(), "mask": mask.numpy()})[0]
    assert np.allclose(out[0, 0, 1:], Attend()(x, mask)[0, 0, 1:], atol=1e-5)
    return name(out[0, 0, 0])


print(f"torch {torch.__version__.split('+')[0]}, onnxruntime {onnxruntime.__version__}")
torch.manual_seed(0)
x = torch.randn(1, 1, 3, 4)
allowed = torch.tensor([[False, False, False], [True, True, False], [True, True, True]])[None, None]
masks = {"bool": allowed, "float": torch.zeros(1, 1, 3, 3).masked_fill(~allowed, float("-inf"))}
print("torch: " + ", ".join(f"{kind} {name(Attend()(x, mask)[0, 0, 0].numpy())}" for kind, mask in masks.items()))
for opset in (None, 18, 23):
    print(f"opset {opset or 'default'}: " + ", ".join(f"{kind} {run(mask, opset)}" for kind, mask in masks.items()))
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "torch 2.13.0, onnxruntime 1.32.0" <<<"$seen"
grep -qx "torch: bool 0, float 0" <<<"$seen"
grep -qx "opset default: bool the mean of all values, float NaN" <<<"$seen"
grep -qx "opset 18: bool the mean of all values, float NaN" <<<"$seen"
grep -qx "opset 23: bool 0, float 0" <<<"$seen"
