"""The exercises of lesson 10: the token that replaces a rejected one, and how many tokens to propose."""

from __future__ import annotations

from typing import Any

from labkit.lessons.exercises.verdict import ExerciseVerdict, NotYet, call, close, exercise, kind_of, must_be_function, numpy, run_on_arrays

RESIDUAL_ASKS = (
    "Write residual(p, q): p holds the target's probabilities of the next token, q the draft's. A token x is drawn from q and accepted "
    "with probability min(1, p[x] / q[x]). If it is rejected, another token is drawn in its place. Return the distribution of that token "
    "for which the output has exactly the distribution p. If q equals p, nothing is rejected; return p."
)
RESIDUAL_MISTAKES = {
    "the target": "this is p. A token that is likely under both would come up too often: accepted, and again as a replacement.",
    "the draft": "this is q: the rejected token would be drawn again, and the target would have no effect.",
    "not divided": "the proportions are right, but the sum is not 1: divide by the sum.",
    "absolute": "|p - q| also gives weight to tokens that the draft proposes too often, and these are the rejected ones.",
    "upside down": "this is what the draft proposes too often: reverse the difference.",
    "overlap": "this is the common part, min(p, q), which is already accepted.",
    "softmax": "a softmax gives every token some probability; where q is above p, the residual is exactly 0.",
}


@exercise("10.residual", RESIDUAL_ASKS)
def residual(answer: Any) -> ExerciseVerdict:
    np = numpy()
    must_be_function(answer, "residual(p, q)")
    p, q = (np.random.default_rng(seed).dirichlet(np.full(5, 0.8)) for seed in (10, 11))
    returned = run_on_arrays(answer, p, q)
    if returned.shape != p.shape:
        raise NotYet(f"it returns shape {returned.shape} and should return a probability for each of the {len(p)} tokens.", "shape")
    over, both, diff = np.maximum(p - q, 0), np.minimum(p, q), p - q
    # A token is written if the draft proposes it and it is accepted, or if another one is rejected and it is drawn instead.
    written = both + (1 - both.sum()) * returned
    if close(returned, over / over.sum()):
        same = run_on_arrays(answer, p, p)
        if not np.isfinite(same).all() or not close(same, p):
            raise NotYet("right, but for q = p it divides by 0: nothing is rejected there. Return p.", "q is p")
        return ExerciseVerdict(True, "accepted and replaced together are min(p, q) + max(p - q, 0) = p for each token, with any draft.")
    wrong = {
        "the target": p,
        "the draft": q,
        "not divided": over,
        "absolute": abs(diff) / abs(diff).sum(),
        "upside down": np.maximum(-diff, 0) / np.maximum(-diff, 0).sum(),
        "overlap": both / both.sum(),
        "softmax": np.exp(diff) / np.exp(diff).sum(),
    }
    for name, value in wrong.items():
        if close(returned, value):
            raise NotYet(RESIDUAL_MISTAKES[name], name)
    worst = int(abs(written - p).argmax())
    raise NotYet(f"with it, token {worst} is written with probability {written[worst]:.3f}, but the target gives it {p[worst]:.3f}.")


GAMMA_ASKS = (
    "Write best(alpha, cost): a proposed token is accepted with probability alpha, and drafting one costs `cost` passes of the target. "
    "Return how many to propose in a round for the most tokens a second: a whole number from 0 (no draft) to 16."
)
GAMMA_MISTAKES = {
    "more is better": "this always proposes the most. A token counts only if ALL before it are accepted, but it always costs the same.",
    "tokens a round": "this ignores the cost: tokens a round always grow with gamma. Divide by the cost of a round, 1 + gamma x cost.",
    "never none": "where alpha is at most the cost, no draft pays: the answer is 0.",
    "expected run": "this is the mean number accepted in a row, alpha / (1 - alpha), rounded; the cost is missing.",
    "independent": "a round yields (1 - alpha^(gamma + 1)) / (1 - alpha) tokens, not 1 + gamma x alpha: a rejection loses the rest.",
}
POINTS = ((0.9, 0.05), (0.8, 0.1), (0.75, 0.3), (0.5, 0.2), (0.3, 0.4), (0.6, 0.02), (0.95, 0.5))


@exercise("10.gamma", GAMMA_ASKS)
def gamma(answer: Any) -> ExerciseVerdict:
    must_be_function(answer, "best(alpha, cost)")
    chosen = []
    for alpha, cost in POINTS:
        value = call(answer, alpha, cost)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise NotYet(f"best({alpha:g}, {cost:g}) returned {kind_of(value)}, and should return a whole number.", "wrong type")
        chosen.append(int(value))

    def most(score: Any, low: int = 0) -> list[int]:
        return [max(range(low, 17), key=lambda g: score(a, g, c)) for a, c in POINTS]

    def tokens(a: float, g: int) -> float:
        return (1 - a ** (g + 1)) / (1 - a)

    right = most(lambda a, g, c: tokens(a, g) / (1 + g * c))
    if chosen == right:
        return ExerciseVerdict(
            True, "more tokens a round are not always more tokens a second: above the best gamma, proposals cost more than they gain."
        )
    wrong = {
        "more is better": [16] * len(POINTS),
        "tokens a round": most(lambda a, g, c: tokens(a, g) - 1e-12 * (16 - g)),
        "never none": most(lambda a, g, c: tokens(a, g) / (1 + g * c), low=1),
        "expected run": [min(16, round(a / (1 - a))) for a, _ in POINTS],
        "independent": most(lambda a, g, c: (1 + g * a) / (1 + g * c)),
    }
    for name, value in wrong.items():
        if chosen == value:
            raise NotYet(GAMMA_MISTAKES[name], name)
    (a, c), got, best = next((at, f, r) for at, f, r in zip(POINTS, chosen, right, strict=True) if f != r)
    raise NotYet(f"best({a:g}, {c:g}) is {best}, but yours gives {got}: compare tokens a round / (1 + gamma x cost) for each gamma.")
