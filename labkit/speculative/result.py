"""The result of speculative decoding, round by round, also as an HTML page. Symbols and colours show which tokens were accepted."""

from __future__ import annotations

import html
from typing import NamedTuple

from labkit.base.palette import css

KINDS = {
    "taken": ("✓", "proposed and accepted"),
    "refused": ("✗", "proposed and rejected"),
    "unjudged": ("·", "proposed after a rejection or the answer's end: not judged"),
    "instead": ("↻", "the target's token in place of a rejected one (resampled)"),
    "bonus": ("+", "the target's token after all were accepted"),
    "alone": ("»", "the target's token, nothing proposed"),
    "first": ("»", "the target's first token, from reading the prompt"),
}
# Tokens of the target have the teacher's colour. Symbols say the same as colours.
STYLE = (
    css(".spec")
    + """
.spec { --unjudged: var(--dlab-muted); --line: var(--dlab-hair);
  --taken: var(--dlab-truth); --refused: var(--dlab-alarm); --instead: var(--dlab-teacher); --bonus: var(--dlab-teacher);
  --alone: currentColor; --first: currentColor;
  font: 14px/1.7 system-ui, sans-serif; color: inherit; max-width: 60em }
.spec ol { list-style: none; margin: .4em 0; padding: 0 }
.spec li { display: flex; flex-wrap: wrap; gap: .3em; align-items: baseline; border-top: 1px solid var(--line); padding: .25em 0 }
.spec li > b { min-width: 4.5em; font-weight: 500; color: var(--unjudged) }
.spec .token { font: 13px/1.5 ui-monospace, monospace; white-space: pre; border: 1px solid currentColor; border-radius: 4px;
  padding: 0 .35em;
  background: none }
.spec .token.refused { text-decoration: line-through } .spec .token.unjudged { border-style: dashed }
.spec i { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }
.spec p { margin: .3em 0 } .spec .key { font-size: 12.5px; display: flex; flex-wrap: wrap; gap: .2em 1.2em }
"""
    + "".join(f".spec .{kind} {{ color: var(--{kind}) }}" for kind in KINDS)
)


class Round(NamedTuple):
    """One proposal of the draft, and one pass of the target over it."""

    proposed: list[int]
    parents: list[int]  # the number of the proposed token that each one continues, -1 for the text
    path: list[int]  # numbers of the accepted tokens
    token: int | None  # the target's own token after them; None at the end of the answer
    bonus: bool  # whether no judged token was rejected, so that `token` came in addition

    @property
    def judged(self) -> int:
        """Number of judged places: those at which a proposed token was accepted, and the one at which none was."""
        return len(self.path) + (not self.bonus)


class Speculation(NamedTuple):
    """The result of one decoding."""

    prompt: str
    text: str
    ids: list[int]  # of the answer, with the end token if it was written; the first is from reading the prompt, the others from rounds
    rounds: list[Round]
    names: dict[int, str]  # the text of each token
    seconds: float  # including the reading of the prompt
    target_passes: int
    draft_passes: int  # 0 for draft heads, which read no text
    note: str = ""  # warnings

    @property
    def tokens(self) -> list[str]:
        """The answer as a list of tokens."""
        return [self.names[i] for i in self.ids]

    @property
    def proposed(self) -> int:
        return sum(len(r.proposed) for r in self.rounds)

    @property
    def accepted(self) -> int:
        return sum(len(r.path) for r in self.rounds)

    @property
    def acceptance(self) -> float:
        """Share of the judged places at which a proposed token was accepted; NaN if nothing was proposed. For a chain it estimates the
        `alpha` of the theory; for a tree the probability that one of several tokens is accepted."""
        judged = sum(r.judged for r in self.rounds if r.proposed)
        return self.accepted / judged if judged else float("nan")

    @property
    def tokens_per_round(self) -> float:
        """Tokens per pass of the target, without the first token, which is from reading the prompt."""
        return (len(self.ids) - 1) / len(self.rounds) if self.rounds else float("nan")

    def _repr_html_(self) -> str:
        return page(self)


def page(done: Speculation) -> str:
    """The decoding as HTML. All text of a model is escaped."""
    first = done.ids[0]
    rows = [_row("prompt", [("first", done.names[first], "")])] if done.ids else []
    rows += [_row(f"round {n}", _tokens(done, one)) for n, one in enumerate(done.rounds, 1)]
    used = {kind for kind in KINDS if any(f'"token {kind}"' in row for row in rows)}
    key = "".join(f'<span class="{kind}">{KINDS[kind][0]} {KINDS[kind][1]}</span>' for kind in KINDS if kind in used)
    taken = f"; a token accepted at {done.acceptance:.0%} of the judged places" if done.proposed else ""
    rounds = f"; {done.tokens_per_round:.2f} tokens a round" if done.rounds else ""
    summary = _counted(len(done.ids), "token") + f" in {_counted(done.target_passes, 'pass', 'passes')} of the target{taken}{rounds}."
    note = f"<p>{html.escape(done.note)}</p>" if done.note else ""
    return (
        f'<style>{STYLE}</style><div class="spec"><p><b>{html.escape(done.prompt)}</b> {html.escape(done.text)}</p><p>{summary}</p>{note}'
        f'<ol>{"".join(rows)}</ol><p class="key">{key}</p></div>'
    )


def _tokens(done: Speculation, one: Round) -> list[tuple[str, str, str]]:
    """Triples (kind, token, what it continues in a tree), in the order of reading."""
    end = one.path[-1] if one.path else -1
    result = []
    for i, (x, parent) in enumerate(zip(one.proposed, one.parents, strict=True)):
        ended = one.token is None and parent == end
        kind = "taken" if i in one.path else "refused" if not ended and parent in (-1, *one.path) else "unjudged"
        behind = "" if parent == i - 1 else "after " + (repr(done.names[one.proposed[parent]]) if parent >= 0 else "the text")
        result.append((kind, done.names[x], behind))
    if one.token is not None:
        kind = "alone" if not one.proposed else "bonus" if one.bonus else "instead"
        result.append((kind, done.names[one.token], ""))
    return result


def _row(label: str, tokens: list[tuple[str, str, str]]) -> str:
    cells = "".join(
        f'<span class="token {kind}" title="{html.escape(KINDS[kind][1] + (", " + behind if behind else ""))}" '
        f'><span aria-hidden="true">{KINDS[kind][0]} </span>{html.escape(text) or "␣"}<i>: {KINDS[kind][1]}</i></span>'
        for kind, text, behind in tokens
    )
    return f"<li><b>{label}</b>{cells}</li>"


def _counted(n: int, one: str, many: str = "") -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"
