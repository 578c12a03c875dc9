"""The exam of heads on a target: how often they guess what the target says, by how far ahead, on questions held out.

    exam = HeadsExam(questions, teacher, ahead=4)
    exam.grade(heads).skills                 # {"1 ahead": 0.81, "2 ahead": 0.64, ...}

Everything is read along the target's own greedy answers: a guess is right if it is the token that the target says there. For EAGLE,
deeper guesses go on from its own states and the target's tokens, as they would where all before them were accepted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from labkit.models import Written, answer_states, pad, tokenizer_of, write
from labkit.models.architectures import LanguageModel
from labkit.models.heads.base import Heads, TargetStates, places
from labkit.models.heads.medusa import Medusa2
from labkit.models.score_answers import of_like_length
from labkit.tasks.atlas.exam import Graded, Grades
from labkit.tasks.calibration import calibration_error
from labkit.tasks.types import Asked

ROWS = 32  # answered or read at a time


def ahead_skills(ahead: int) -> tuple[str, ...]:
    return tuple(f"{d} ahead" for d in range(1, ahead + 1))


class Guessed(NamedTuple):
    """What heads guess along some rows: at each depth and place whether it is the target's token, and what stands there 1 ahead.

    right: `(N,)` for each depth, at the token it is made from; False where the answer is over. own, target: log-probabilities 1 ahead
    over all of the target's tokens; -inf for those that heads cannot say.
    """

    right: list[Tensor]
    own_M_V: Tensor
    target_M_V: Tensor


class HeadsExam:
    """Questions that the target has answered greedily. Raises `LabError` from the target's own reading if one is too long."""

    def __init__(self, questions: Sequence[Asked], teacher: LanguageModel, ahead: int) -> None:
        self.questions, self.ahead, self._teacher = questions, ahead, teacher
        own = tokenizer_of(teacher)
        self._prompts = own.prompts([q.text for q in questions])
        written: dict[int, Written] = {}
        for part in of_like_length(self._prompts, ROWS):
            written |= zip(part, write(teacher, [self._prompts[i] for i in part]), strict=True)
        self._answers = [written[i].ids for i in range(len(questions))]
        self.teacher_answers = [Graded(own.text(written[i].ids), math.exp(sum(written[i].logprobs)), True) for i in range(len(questions))]
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
        """Examine `heads`, which are left as they were found.

        skills: share of guesses that are the target's token, by depth. fidelity, 1 ahead: kl (nats, target to heads, over the tokens that
        heads can say), agreement (their first choice is the target's), acceptance (mean of sum min(p, q), the share a verifier accepts of
        sampled guesses at temperature 1); and tokens_per_round, 1 and the mean number of guesses in a row that are right from wherever the
        target stands. An answer counts as right if all of its guesses 1 ahead are.
        """
        training = heads.training
        heads.eval()
        totals, count = torch.zeros(3, dtype=torch.float64), 0
        right: list[list[Tensor]] = [[] for _ in range(self.ahead)]
        answers: dict[int, Graded] = {}
        for rows, told, seen in self._seen(heads):
            p, q = seen.target_M_V, seen.own_M_V
            within = heads.ids_V.to(p.device)
            p_in = p[:, within].log_softmax(-1)
            totals += (
                torch.stack(
                    [
                        (p_in.exp() * (p_in - q[:, within])).sum(),
                        (p.argmax(-1) == q.argmax(-1)).sum(),
                        torch.minimum(p.exp(), q.exp()).sum(),
                    ]
                )
                .double()
                .cpu()
            )
            count += len(p)
            for depth, found in zip(right, seen.right, strict=True):
                depth.append(found)
            answers |= zip(rows, self._graded(told, q), strict=True)
        heads.train(training)
        hits = [torch.cat(depth) for depth in right]
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
        """Nothing: there are no other questions."""
        return {}

    def sample(self, answers: Sequence[Graded], n: int = 12) -> list[dict[str, str]]:
        """The first `n` rows to look at: the target's answer, and what the heads would have said, each token guessed 1 ahead."""
        return [
            {
                "question": self.questions[i].text,
                "skill": "1 ahead",
                "student": answers[i].text,
                "teacher": self.teacher_answers[i].text,
                "truth": self.questions[i].gold,
                "verdict": "right" if answers[i].right else "wrong",
            }
            for i in range(min(n, len(answers)))
        ]

    @torch.no_grad()
    def probe(self, heads: Any, most: int = 8) -> tuple[str, list[str], list[float], list[float]]:
        """The longest answer: what target and heads find likeliest as its second token, the first being known, and how likely."""
        i = max(range(len(self._answers)), key=lambda i: (len(self._answers[i]), -i))
        training = heads.training
        seen = self._look(heads.eval(), heads.read_target([self._prompts[i]], [self._answers[i]]))
        heads.train(training)
        own = tokenizer_of(self._teacher)
        target, guess = seen.target_M_V.exp().cpu(), seen.own_M_V.exp().cpu()
        if not len(target):
            return self.questions[i].text, [], [], []
        top = torch.maximum(target[0], guess[0]).topk(most).indices.tolist()
        return self.questions[i].text, [own.token(t).strip() for t in top], target[0, top].tolist(), guess[0, top].tolist()

    # ---- parts -------------------------------------------------------------------------------------------------------

    def _passes(self) -> list[list[int]]:
        return list(of_like_length([[*p, *a] for p, a in zip(self._prompts, self._answers, strict=True)], ROWS))

    @torch.no_grad()
    def _seen(self, heads: Heads) -> Iterator[tuple[list[int], TargetStates, Guessed]]:
        for rows in self._passes():
            told = heads.read_target([self._prompts[i] for i in rows], [self._answers[i] for i in rows])
            yield rows, told, self._look(heads, told)

    def _look(self, heads: Heads, told: TargetStates) -> Guessed:
        depths = range(1, self.ahead + 1)
        flat_N = torch.tensor([t for answer in told.answers for t in answer], device=heads.device)
        right = []
        guesses = heads.guesses(told, depths)
        for d, guess in zip(depths, guesses, strict=True):
            base_M = places(told.lengths, d).to(heads.device)
            hits_N = torch.zeros(len(flat_N), dtype=torch.bool, device=heads.device)
            hits_N[base_M] = heads.ids_V[guess.logits_M_V.argmax(-1)] == flat_N[base_M + d]
            right.append(hits_N.cpu())
        first = guesses[0].logits_M_V.float().log_softmax(-1)
        aim_M = places(told.lengths, 1).to(heads.device) + 1
        target = self._teacher.lm_head(told.states_N_D[aim_M].to(self._teacher.lm_head.weight.dtype)).float().log_softmax(-1)
        whole = torch.full_like(target, -torch.inf)
        whole[:, heads.ids_V] = first
        return Guessed(right, whole, target)

    def _graded(self, told: TargetStates, own_M_V: Tensor) -> list[Graded]:
        """What the heads say of each answer, token by token 1 ahead; its probability under them; whether it is the target's."""
        found = []
        for answer, rows in zip(told.answers, own_M_V.split([n - 1 for n in told.lengths]), strict=True):
            logprobs, ids = rows.max(-1)
            said = [answer[0], *ids.tolist()]
            found.append(Graded(tokenizer_of(self._teacher).text(said), math.exp(float(logprobs.sum())), said == list(answer)))
        return found

    def _all(self, d: int) -> Tensor:
        """`(N,)`, in the order of the passes: the tokens of the answers that have another so far behind them."""
        lengths = [len(self._answers[i]) for rows in self._passes() for i in rows]
        there = torch.zeros(sum(lengths), dtype=torch.bool)
        there[places(lengths, d)] = True
        return there

    def _rounds(self, right: Sequence[Tensor]) -> float:
        """Tokens of a round: the target's own and the guesses behind it that are right without a gap, over all places that have a next."""
        in_a_row = torch.stack(list(right)).int().cumprod(0).sum(0)
        return 1 + float(in_a_row[self._all(1)].float().mean()) if bool(self._all(1).any()) else 1.0

    @torch.no_grad()
    def _kept(self, heads: Medusa2) -> float:
        """Share of tokens at which a target that was trained with its heads still says what it said before."""
        same = total = 0
        for rows in self._passes():
            answers = [self._answers[i] for i in rows]
            said = heads.trunk.lm_head(answer_states(heads.trunk, pad([self._prompts[i] for i in rows], answers))).argmax(-1).cpu()
            same, total = same + int((said == torch.tensor([t for a in answers for t in a])).sum()), total + len(said)
        return same / total
