"""Feature matching: unreduced losses on hidden states, one number per answer token, and the projectors between widths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Projectors(nn.Module):
    """One linear map per pair of layers, from the student's width to the teacher's; the identity if the widths agree."""

    def __init__(self, pairs: int, student_width: int, teacher_width: int, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            same = student_width == teacher_width
            self.maps = nn.ModuleList(nn.Identity() if same else nn.Linear(student_width, teacher_width, bias=False) for _ in range(pairs))

    def forward(self, hidden_N_L_D: Tensor) -> Tensor:
        return torch.stack([move(hidden_N_L_D[:, i]) for i, move in enumerate(self.maps)], 1)


def hidden_loss(student_N_L_E: Tensor, teacher_N_L_E: Tensor) -> Tensor:
    """`(N,)` squared distance of the projected states, divided by the teacher's squared norm, mean over the pairs.

    The plain mean square of TinyBERT would give wide and deep layers more weight, since their states are larger.

    Source: TinyBERT, arXiv 1909.10351, eq. 8, with the division added.
    """
    return ((student_N_L_E - teacher_N_L_E).square().sum(-1) / teacher_N_L_E.square().sum(-1)).mean(-1)


def similarity_loss(student_N_L_D: Tensor, teacher_N_L_E: Tensor) -> Tensor:
    """`(N,)` mean square difference between the models' cosine similarities of a token to the batch's tokens, mean over the pairs.

    It needs no projector. Source: Tung & Mori 2019, arXiv 1907.09682, with cosines for scale.
    """
    student, teacher = (F.normalize(x, dim=-1).transpose(0, 1) for x in (student_N_L_D, teacher_N_L_E))
    return (student @ student.transpose(-1, -2) - teacher @ teacher.transpose(-1, -2)).square().mean((0, 2))


def relation_loss(student_N_R_T: Tensor, teacher_N_R_T: Tensor) -> Tensor:
    """`(N,)` KL from the teacher's relations to the student's, in nats, mean over relations. Source: MiniLMv2, eq. 8."""
    return (torch.special.xlogy(teacher_N_R_T, teacher_N_R_T) - teacher_N_R_T * student_N_R_T.clamp(min=1e-30).log()).sum(-1).mean(-1)


def next_state_loss(student_N_D: Tensor, teacher_N_D: Tensor) -> Tensor:
    """`(N,)` smooth L1 distance of states, mean over the width. Source: EAGLE, Li et al. 2024, arXiv 2401.15077, section 3.2."""
    return F.smooth_l1_loss(student_N_D, teacher_N_D, reduction="none").mean(-1)
