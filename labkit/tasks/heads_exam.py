"""The exam of draft heads: how often they predict the target's tokens, by depth, on held-out questions.

    exam = HeadsExam(questions, teacher, ahead=4)
    exam.grade(heads).skills                 # {"1 ahead": 0.81, "2 ahead": 0.64, ...}

All predictions are made along the target's greedy answers. A prediction is right if it is the target's token at that place. EAGLE's
deeper predictions continue from its own states and the target's tokens, as if all predictions before them were accepted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.models import Written, answer_states, logits_of, pad, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads, TargetStates, places
from labkit.models.heads.medusa import Medusa2
from labkit.models.score_answers import of_like_length
from labkit.tasks.atlas.contested import contested
from labkit.tasks.atlas.exam import Graded, Grades
from labkit.tasks.atlas.questions import Question
from labkit.tasks.calibration import calibration_error
from labkit.tasks.types import Asked

ROWS = 32  # rows answered or read at a time


def ahead_skills(ahead: int) -> tuple[str, ...]:
    """Names of the skills, one for each depth: `("1 ahead", "2 ahead", ...)`."""
    return tuple(f"{d} ahead" for d in range(1, ahead + 1))


class Guessed(NamedTuple):
    """Predictions of heads along some rows of N answer tokens, M of which have a next token."""

    right: list[Tensor]  # for each depth `(N,)`: whether the prediction made at this token is right; False where the answer has ended
    heads_M_V: Tensor  # log-probabilities of the heads 1 ahead, over the target's vocabulary; -inf for tokens that heads do not have
    target_M_V: Tensor  # log-probabilities of the target for the same tokens


class HeadsExam:
    """Held-out questions with the target's greedy answers.

    teacher: the target.
    ahead: number of depths to grade.

    Raises `LabError` if a question is too long for the target.
    """

    def __init__(self, questions: Sequence[Asked], teacher: LanguageModel, ahead: int) -> None:
        self.questions, self.ahead, self._teacher = questions, ahead, teacher
        tokens = tokenizer_of(teacher)
        self._prompts = tokens.prompts([q.text for q in questions])
        written: dict[int, Written] = {}
        for part in of_like_length(self._prompts, ROWS):
            written |= zip(part, write(teacher, [self._prompts[i] for i in part]), strict=True)
        self._answers = [written[i].ids for i in range(len(questions))]
        self.teacher_answers = [Graded(tokens.text(w.ids), math.exp(sum(w.logprobs)), True) for _, w in sorted(written.items())]
        skills = dict.fromkeys(ahead_skills(ahead), 1.0)
        fidelity = {
            "kl": 0.0,
            "agreement": 1.0,
            "acceptance": 1.0,
            "tokens_per_round": self._rounds([self._all(d) for d in range(1, ahead + 1)]),
        }
        truth = {"right": 1.0, "inherited": 0.0, "wrong": 0.0}
        self.teacher_grades = Grades(skills, fidelity, {}, truth, 0.0, self.teacher_answers, {})

    def grade(self, heads: Any) -> Grades:
        """Grade `heads`, which are left unchanged. Their `Grades` differ from a model's:

        - skills: share of right predictions, by depth.
        - fidelity at depth 1: kl (KL(target || heads) in nats, over the tokens that heads have), agreement (share of equal top-1 tokens),
          acceptance (mean of sum min(p, q), the share of sampled tokens that the target accepts at temperature 1).
        - fidelity over all depths: tokens_per_round, 1 plus the mean number of right predictions in a row after each token.
        - an answer is right if all its predictions at depth 1 are right.
        """
        training = heads.training
        heads.eval()
        totals, count = torch.zeros(3, dtype=torch.float64), 0
        right: list[list[Tensor]] = [[] for _ in range(self.ahead)]
        answers: dict[int, Graded] = {}
        for rows, states, guessed in self._batches(heads):
            p, q = guessed.target_M_V, guessed.heads_M_V
            known = heads.ids_V.to(p.device)
            p_known = p[:, known].log_softmax(-1)
            totals += (
                torch.stack(
                    [
                        (p_known.exp() * (p_known - q[:, known])).sum(),
                        (p.argmax(-1) == q.argmax(-1)).sum(),
                        torch.minimum(p.exp(), q.exp()).sum(),
                    ]
                )
                .double()
                .cpu()
            )
            count += len(p)
            for parts, part in zip(right, guessed.right, strict=True):
                parts.append(part)
            answers |= zip(rows, self._graded(states, q), strict=True)
        heads.train(training)
        hits = [torch.cat(parts) for parts in right]
        possible = [int(self._all(d).sum()) for d in range(1, self.ahead + 1)]
        skills = {name: int(h.sum()) / max(1, n) for name, h, n in zip(ahead_skills(self.ahead), hits, possible, strict=True)}
        fidelity = dict(zip(("kl", "agreement", "acceptance"), (totals / max(1, count)).tolist(), strict=True))
        fidelity["tokens_per_round"] = self._rounds(hits)
        graded = [answers[i] for i in range(len(self.questions))]
        share = sum(a.right for a in graded) / len(graded)
        habits = {"confidence": sum(a.probability for a in graded) / len(graded)}
        if isinstance(heads, Medusa2):
            habits["kept"] = self._kept(heads)
        truth = {"right": share, "inherited": 0.0, "wrong": 1 - share}
        return Grades(skills, fidelity, {}, truth, calibration_error(graded), graded, habits)

    def beside(self, heads: Any, answers: Sequence[Graded]) -> dict[str, float]:
        """Empty: this exam has no other questions."""
        return {}

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """The first `n` answers to look at: the target's, and the heads' predictions of its tokens at depth 1. None is contested."""
        shown = [i for i, q in enumerate(self.questions) if not (isinstance(q, Question) and contested(q))]
        return [
            {
                "question": self.questions[i].text,
                "skill": "1 ahead",
                "student": answers[i].text,
                "teacher": self.teacher_answers[i].text,
                "truth": self.questions[i].gold,
                "verdict": "right" if answers[i].right else "wrong",
            }
            for i in shown[:n]
        ]

    @torch.no_grad()
    def probe(self, heads: Any, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """Returns the question with the longest answer, its likeliest second tokens, and their probabilities under target and heads."""
        i = max(range(len(self._answers)), key=lambda i: (len(self._answers[i]), -i))
        training = heads.training
        guessed = self._guess(heads.eval(), heads.read_target([self._prompts[i]], [self._answers[i]]))
        heads.train(training)
        tokens = tokenizer_of(self._teacher)
        target, predicted = guessed.target_M_V.exp().cpu(), guessed.heads_M_V.exp().cpu()
        if not len(target):
            return self.questions[i].text, [], [], []
        top = torch.maximum(target[0], predicted[0]).topk(most).indices.tolist()
        return self.questions[i].text, [tokens.token(t).strip() for t in top], target[0, top].tolist(), predicted[0, top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _passes(self) -> list[list[int]]:
        """Numbers of the questions that go through the models together."""
        return list(of_like_length([[*p, *a] for p, a in zip(self._prompts, self._answers, strict=True)], ROWS))

    @torch.no_grad()
    def _batches(self, heads: Heads) -> Iterator[tuple[list[int], TargetStates, Guessed]]:
        for rows in self._passes():
            states = heads.read_target([self._prompts[i] for i in rows], [self._answers[i] for i in rows])
            yield rows, states, self._guess(heads, states)

    def _guess(self, heads: Heads, states: TargetStates) -> Guessed:
        depths = range(1, self.ahead + 1)
        flat_N = torch.tensor([t for answer in states.answers for t in answer], device=heads.device)
        right = []
        guesses = heads.guesses(states, depths)
        for d, guess in zip(depths, guesses, strict=True):
            base_M = places(states.lengths, d).to(heads.device)
            hits_N = torch.zeros(len(flat_N), dtype=torch.bool, device=heads.device)
            hits_N[base_M] = heads.ids_V[guess.logits_M_V.argmax(-1)] == flat_N[base_M + d]
            right.append(hits_N.cpu())
        first = guesses[0].logits_M_V.float().log_softmax(-1)
        next_M = places(states.lengths, 1).to(heads.device) + 1
        target = logits_of(self._teacher, states.states_N_D[next_M].to(self._teacher.dtype)).float().log_softmax(-1)
        whole = torch.full_like(target, -torch.inf)
        whole[:, heads.ids_V] = first
        return Guessed(right, whole, target)

    def _graded(self, states: TargetStates, heads_M_V: Tensor) -> list[Graded]:
        """The answers as the heads predict them at depth 1, with their probabilities under the heads. Right if equal to the target's."""
        result = []
        for answer, rows in zip(states.answers, heads_M_V.split([n - 1 for n in states.lengths]), strict=True):
            logprobs, ids = rows.max(-1)
            tokens = [answer[0], *ids.tolist()]
            result.append(Graded(tokenizer_of(self._teacher).text(tokens), math.exp(float(logprobs.sum())), tokens == list(answer)))
        return result

    def _all(self, d: int) -> Tensor:
        """`(N,)` in the order of `_passes`: True for answer tokens that have another answer token `d` places later."""
        lengths = [len(self._answers[i]) for rows in self._passes() for i in rows]
        there = torch.zeros(sum(lengths), dtype=torch.bool)
        there[places(lengths, d)] = True
        return there

    def _rounds(self, right: Sequence[Tensor]) -> float:
        """Tokens per round: the target's token plus the right predictions in a row after it; mean over tokens that have a next one."""
        in_a_row = torch.stack(list(right)).int().cumprod(0).sum(0)
        return 1 + float(in_a_row[self._all(1)].float().mean()) if bool(self._all(1).any()) else 1.0

    @torch.no_grad()
    def _kept(self, heads: Medusa2) -> float:
        """Share of tokens that a target still predicts as before, after it was trained together with its heads."""
        same = total = 0
        for rows in self._passes():
            answers = [self._answers[i] for i in rows]
            ids = logits_of(heads.trunk, answer_states(heads.trunk, pad([self._prompts[i] for i in rows], answers))).argmax(-1).cpu()
            same, total = same + int((ids == torch.tensor([t for a in answers for t in a])).sum()), total + len(ids)
        return same / total
