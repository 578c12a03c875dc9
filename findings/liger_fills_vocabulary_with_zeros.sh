#!/usr/bin/env bash
# Liger's distillation loss accepts a teacher with more rows than the student, and fills the student up with tokens of logit 0.
#
# Seen with liger-kernel 0.8.5 and torch 2.13.0 on Python 3.11, Linux: one tokenizer, a vocabulary of 6 for the student and 8 for the teacher,
# whose two rows of padding hold next to no probability. The student has the teacher's own logits, so that every divergence is 0; but logit 0 is
# a real share of the softmax, and the loss is not 0. The reverse direction (beta=1) grows with how sure the teacher is that padding never
# comes. Cutting the teacher to the student's rows gives 0.
#
# Expected output:
#   liger-kernel 0.8.5
#   beta 0: teacher cut 0.00, teacher wider 0.06
#   beta 0.5: teacher cut 0.00, teacher wider 0.02
#   beta 1: teacher cut 0.00, teacher wider 2.91
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check torch==2.13.0 numpy==2.4.6 packaging
"$folder/env/bin/pip" install -q --disable-pip-version-check --no-deps liger-kernel==0.8.5
cd "$folder"
seen=$(OMP_NUM_THREADS=1 env/bin/python - <<'PY'
from importlib.metadata import version

import torch
from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

print(f"liger-kernel {version('liger-kernel')}")
logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0, -2.0]])
wide = torch.cat([logits, torch.full((1, 2), -50.0)], 1)
label = torch.tensor([0])
for beta in (0, 0.5, 1):
    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=float(beta), compiled=False)
    # the heads are identities, so that the hidden states are the logits
    cut = loss(logits, torch.eye(6), wide, torch.eye(8)[:6], label)
    wider = loss(logits, torch.eye(6), wide, torch.eye(8), label)
    print(f"beta {beta}: teacher cut {abs(cut):.2f}, teacher wider {wider:.2f}")
PY
)
echo "$seen"
grep -qx "liger-kernel 0.8.5" <<<"$seen"
grep -qx "beta 0: teacher cut 0.00, teacher wider 0.06" <<<"$seen"
grep -qx "beta 0.5: teacher cut 0.00, teacher wider 0.02" <<<"$seen"
grep -qx "beta 1: teacher cut 0.00, teacher wider 2.91" <<<"$seen"
