#!/usr/bin/env bash
# Columns that teacher and student both hold at -inf are worth 0 to a KL; in PyTorch and TRL they make the loss NaN, and at beta=0 only the loss.
#
# Seen with torch 2.13.0 and trl 1.16.0 on Python 3.11, Linux: two columns at -inf on both sides (the padding rows of a vocabulary, masked)
# turn TRL's generalized_jsd_loss into NaN. At beta=0 its gradient is still that of the loss without them, so that training goes on and learns
# while the log says NaN; at 0.5 and 1 the gradient is NaN too. If only the teacher is at -inf, F.kl_div gives the right number with
# log_target=False and NaN with log_target=True. The same columns at -1e9 change nothing.
#
# Expected output:
#   torch 2.13.0, trl 1.16.0
#   beta 0: loss NaN: True, gradient right: True; at -1e9 loss right: True
#   beta 0.5: loss NaN: True, gradient right: False; at -1e9 loss right: True
#   beta 1: loss NaN: True, gradient right: False; at -1e9 loss right: True
#   kl_div, only the teacher at -inf: log_target=False right: True, log_target=True NaN: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install -q --disable-pip-version-check \
  torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 trl==1.16.0
cd "$folder"
seen=$(OMP_NUM_THREADS=1 TRL_EXPERIMENTAL_SILENCE=1 env/bin/python - 2>noise <<'PY'
import torch
import torch.nn.functional as F
import trl
from trl.experimental.gkd import GKDTrainer

print(f"torch {torch.__version__.split('+')[0]}, trl {trl.__version__}")
torch.manual_seed(0)
student, teacher = torch.randn(2, 1, 4, 6)


def measure(beta, padding=None):
    """The loss and its gradient over the true columns, with two columns of this padding on both sides."""
    true = student.clone().requires_grad_()
    sides = (true, teacher) if padding is None else (F.pad(side, (0, 2), value=padding) for side in (true, teacher))
    loss = GKDTrainer.generalized_jsd_loss(*sides, beta=beta)
    return loss, torch.autograd.grad(loss, true)[0]


for beta in (0, 0.5, 1):
    (loss, gradient), (at_inf, slope), (at_large, _) = (measure(beta, padding) for padding in (None, float("-inf"), -1e9))
    right = torch.allclose(gradient, slope, atol=1e-5), torch.allclose(loss, at_large, atol=1e-5)
    print(f"beta {beta}: loss NaN: {bool(at_inf.isnan())}, gradient right: {right[0]}; at -1e9 loss right: {right[1]}")
given, wanted = F.pad(student, (0, 2)).log_softmax(-1), F.pad(teacher, (0, 2), value=float("-inf")).log_softmax(-1)
exact = (wanted.exp() * (wanted - given))[..., :6].sum()
plain, logs = (F.kl_div(given, w, reduction="sum", log_target=log) for w, log in ((wanted.exp(), False), (wanted, True)))
right = torch.allclose(plain, exact, atol=1e-5)
print(f"kl_div, only the teacher at -inf: log_target=False right: {right}, log_target=True NaN: {bool(logs.isnan())}")
PY
) || { cat noise; exit 1; }
echo "$seen"
grep -qx "torch 2.13.0, trl 1.16.0" <<<"$seen"
grep -qx "beta 0: loss NaN: True, gradient right: True; at -1e9 loss right: True" <<<"$seen"
grep -qx "beta 0.5: loss NaN: True, gradient right: False; at -1e9 loss right: True" <<<"$seen"
grep -qx "beta 1: loss NaN: True, gradient right: False; at -1e9 loss right: True" <<<"$seen"
grep -qx "kl_div, only the teacher at -inf: log_target=False right: True, log_target=True NaN: True" <<<"$seen"
