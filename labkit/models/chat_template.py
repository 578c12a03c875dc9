"""A chat template: the texts of prompts and turns as it writes them, and what it reads, leaves out and refuses.

template = ChatTemplate(tokenizer, "smollm2", {"enable_thinking": False})
template.prompt("What is 2 + 2?")     # ready for the answer
template.turn("Four")                 # with an assistant's turn
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from jinja2 import TemplateError, nodes
from jinja2.meta import find_undeclared_variables
from jinja2.sandbox import ImmutableSandboxedEnvironment

from labkit.base.chat import Chat, messages_of, prompt_of
from labkit.base.errors import LabError

# Questions and answers for looking at a template: two of each, which begin and end differently.
PROBES, REPLIES = ("What is 2 + 2?", "Name a city."), ("Four", "No.")
# Templates that ask for today's date always get this one, so that a recipe gives the same prompts on every day.
DAY = datetime.datetime(2026, 1, 1)
_CODES = {f"-{code}": str(int(DAY.strftime(f"%{code}"))) for code in "dmyHIMSj"}
_CODES |= {code: DAY.strftime(f"%{code}") for code in "aAbBcCdDefFgGhHIjmMpRSTuUVwWxXyYzZ"} | {"%": "%"}
_REPLACED = "".join(f"|replace('%{code}', '{text}')" for code, text in _CODES.items())
FROZEN = "{%- macro strftime_now(format) -%}{{ format" + _REPLACED + " }}{%- endmacro %}{{ '' }}"
RESERVED = (  # arguments of `apply_chat_template`, which are no switches
    *("conversation", "messages", "tools", "documents", "chat_template", "add_generation_prompt", "continue_final_message", "tokenize"),
    *("padding", "truncation", "max_length", "return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"),
)
FUNCTIONS = ("raise_exception", "strftime_now")  # that `transformers` gives to a template
PLAIN = "{{ bos_token or '' }}{% for m in messages %}{{ m['content'] + ('\n' if m['role'] == 'user' else '') }}{% endfor %}"


class Around(NamedTuple):
    """What a template writes around a text, in characters."""

    start: int = 0
    tail: int = 0

    @classmethod
    def of(cls, one: str, other: str) -> Around:
        """What two renderings have in common before and after."""
        both = ((one, other), (one[::-1], other[::-1]))
        return cls(*(next((i for i, (a, b) in enumerate(zip(x, y, strict=False)) if a != b), len(x)) for x, y in both))


class ChatTemplate:
    """The chat template of a tokenizer of `transformers`; plain text if it has none.

    options: its switches by name, as in {"enable_thinking": False}. Those that it does not read are in `unread`.

    Raises `LabError` for a template that cannot be used.
    """

    def __init__(self, inner: Any, name: str, options: Mapping[str, Any]) -> None:
        self.inner, self.name = inner, name
        self.text, self._known = self._read(), dict[tuple[str, ...], set[str]]()
        self.switches = self._read_switches()
        self.options = {key: value for key, value in options.items() if key in self.switches}
        self.unread = sorted(options.keys() - self.options.keys())
        self._refuse_without_question()
        self.around_prompt = Around.of(*map(self.prompt, PROBES))
        self.around_answer = Around.of(*map(self.turn, REPLIES))

    @property
    def dated(self) -> bool:
        """Whether it asks for the date, and so gets that of `DAY`."""
        return "strftime_now" in (self.own or "")

    def _read(self) -> str:
        try:
            self.own = self.inner.get_chat_template() if self.inner.chat_template else None
        except ValueError as error:  # several templates, and none is the default
            raise LabError(f"the tokenizer of {self.name} has no default chat template: {error}") from None
        if self.own is None:
            return PLAIN
        return (FROZEN if "strftime_now" in self.own else "") + self.own

    def _read_switches(self) -> frozenset[str]:
        """The names that the template reads and nobody sets: its options."""
        page = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"])
        plain = re.sub(r"{%[-+]?\s*(?:end)?generation\s*[-+]?%}", "", self.own or "")  # a tag of `transformers` alone
        try:
            tree = page.parse(plain)
        except TemplateError:  # `_refuse_without_question` will say so
            return frozenset()
        own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
        asked: list[Any] = [test.node for test in tree.find_all(nodes.Test) if test.name in ("defined", "undefined", "none")]
        asked += [chain.node for chain in tree.find_all(nodes.Filter) if chain.name in ("default", "d")]
        own -= {node.name for node in asked if isinstance(node, nodes.Name)}  # set by the template only if nobody else did
        return frozenset(
            find_undeclared_variables(tree) - {*page.globals, *own, *RESERVED, *FUNCTIONS, *self.inner.SPECIAL_TOKENS_ATTRIBUTES}
        )

    def _render(self, messages: list[dict[str, str]], ask: bool = False) -> str:
        return self.inner.apply_chat_template(messages, chat_template=self.text, tokenize=False, add_generation_prompt=ask, **self.options)

    def prompt(self, text: str) -> str:
        """A prompt as the template writes it, ready for the answer. Raises `LabError` for one that it does not take as a whole."""
        try:
            if isinstance(text, Chat) and self.own and (lost := self._left_out(tuple(role for role, _ in text.turns))):
                raise ValueError(f"it leaves out what the {' and the '.join(sorted(lost))} said")
            return self._render(messages_of(text if self.own else str.__str__(text)), ask=True)
        except Exception as error:  # a template is a program, and may raise any error
            if isinstance(text, Chat) and (plain := _without_system(text)) is not None:
                return self.prompt(plain)
            what = "a chat with these turns" if isinstance(text, Chat) else "a single question from a user"
            raise LabError(
                f"the chat template of {self.name} does not take {what}: {error}. Correct chat_template in its tokenizer_config.json, or "
                "remove it to ask in plain text."
            ) from None

    def _left_out(self, roles: tuple[str, ...]) -> set[str]:
        """Those of the roles of which the template drops a turn, in a chat of this form."""
        if roles not in self._known:
            said = [(role, f"{PROBES[0]} {number}") for number, role in enumerate(roles)]
            whole = self._render(messages_of(Chat(said)), ask=True)
            others = [[*said[:at], (role, PROBES[1]), *said[at + 1 :]] for at, role in enumerate(roles)]
            self._known[roles] = {role for role, other in zip(roles, others) if self._render(messages_of(Chat(other)), ask=True) == whole}
        return self._known[roles]

    def _refuse_without_question(self) -> None:
        """Raises `LabError` for a template that leaves out the question."""
        one, other = (self.prompt(probe) for probe in PROBES)
        if one == other:
            raise LabError(f"the chat template of {self.name} leaves out the question: correct chat_template in tokenizer_config.json.")

    def turn(self, text: str) -> str:
        """The first probe's prompt with this answer; the answer alone if the template takes no turn of the assistant."""
        try:
            return self._render([{"role": "user", "content": PROBES[0]}, {"role": "assistant", "content": text}])
        except Exception:  # a template is a program, and may raise any error
            return text


def _without_system(chat: Chat) -> str | None:
    """The chat with its system texts before the first question, for templates without a system message; None if it has none."""
    opening = [text for role, text in chat.turns if role == "system"]
    rest = [turn for turn in chat.turns if turn[0] != "system"]
    if not opening or not rest:
        return None
    return prompt_of([(rest[0][0], "\n\n".join([*opening, rest[0][1]])), *rest[1:]])
