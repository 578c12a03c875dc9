"""Shapes of rows: what a row asks, and its answer. docs/data.md has a table of them.

    read({"question": "2 + 2?", "choices": ["3", "4"], "answer": 1}).prompt       # "2 + 2?\\n\\nA. 3\\nB. 4"; the response is "4"

To accept another name for a column, add it to the tuple of its kind. A row that cannot be read with certainty is `Unusable`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import string
from collections.abc import Mapping
from typing import Any, NamedTuple

from labkit.base.chat import prompt_of
from labkit.base.errors import LabError, suggest
from labkit.base.thinking import OPENING, split_thinking
from labkit.tasks.custom.cells import absent, kind_of, parsed, repeated, text_of
from labkit.tasks.custom.sources import Unusable, named

PROMPTS = ("prompt", "question", "instruction", "query", "input", "text")  # the first one that a row has is used
RESPONSES = ("response", "completion", "answer", "output", "answers", "chosen", "label", "answerkey")
CHATS = ("messages", "conversations", "conversation")
JOINED = ("question", "instruction")  # prompts that are asked with the row's contexts and choices
CONTEXTS = ("context", "passage", "article")
CHOICES = ("choices", "options")
SYSTEMS = ("system", "system_prompt")
FREE = ("response", "completion", "output")  # answers that are no choice of a list
ROLES = {  # other names for user, assistant and system
    **dict.fromkeys(("human", "prompter"), "user"),
    **dict.fromkeys(("gpt", "chatgpt", "bing", "bard", "model", "ai", "bot"), "assistant"),
    "developer": "system",
}
TOOLS = ("tool", "function", "function_call", "tool_call", "observation", "tool_response", "ipython")  # roles in chats with tools
# Columns that may be part of a question: the summary warns if they are not asked.
MEANINGFUL = re.compile(
    r"input|history|tools|functions|images?|audio|documents?|paragraphs?|story|background|evidence|premise|hypothesis|sentence\d?"
    rf"|{'|'.join(CONTEXTS)}|contexts|passages|articles|{'|'.join((*CHOICES, *SYSTEMS))}|(choice|option|ending|sol|op)_?[\da-f]"
)
OFF = re.compile(r"-?0+(\.0*)?|false", re.IGNORECASE)  # a weight or mark of a turn that is not learned, also as a text
NOT_ASKED = "WARNING: {n} rows have the column %r, which may be part of the question but is not asked: put it into the prompt."
PREFERRED = "{n} rows are preferences: the chosen answer is used, the rejected one is not."
SEVERAL = "{n} rows have several right answers: the first one is used."
UNWANTED = "{n} answers are marked as not wanted (weight 0, label false): their rows have no answer."
CUT = "{n} thoughts were cut: raise --max-tokens."
SEVERAL_COLUMNS = "WARNING: {n} rows have several columns %r: the last one is used."
SEVERAL_FIELDS = "WARNING: {n} rows have several fields %r in an object of the column %r: the last one is used."
HALF = "{n} answers have the closing mark of a thought without its opening one: what stands before it was read as a thought."


class Shaped(NamedTuple):
    """A row as it is understood."""

    prompt: str
    response: str | None
    reasoning: str
    asked: tuple[str, ...]  # columns of the prompt
    answered: tuple[str, ...]  # columns of the answer
    remarks: tuple[str, ...]  # for the summary, with {n} in place of the number of rows


class _Turn(NamedTuple):
    """A message of a chat."""

    role: str
    text: str
    reasoning: str = ""
    wanted: bool = True


def read(cells: Any, prompt_column: str | None = None, response_column: str | None = None) -> Shaped:
    """Understand one row.

    cells: its cells by the names of their columns, in lower case.
    prompt_column, response_column: names of the columns, if they are not the usual ones.

    Raises `Unusable` with the reason if it cannot be used, and `LabError` if its choices count from 1: then other rows would be wrong.
    """
    if isinstance(cells, Unusable):
        raise cells
    if not isinstance(cells, dict):
        raise Unusable(f"a row must be an object with named fields, but this is {kind_of(cells)}")
    full = {name: value for name, value in cells.items() if not absent(value)}
    given = {name: value for name, value in cells.items() if value is not None}  # NaN too
    answer = _column(response_column, cells) or _first(RESPONSES, full) or _first(RESPONSES, given)
    after = cells[answer] if answer else None
    wanted = _prompt_column(full, prompt_column, answer) or _column(prompt_column, cells) or _first(PROMPTS, full)
    if wanted is None or wanted not in full:
        names = ", ".join(map(repr, cells)) or "none"
        raise Unusable(f"no prompt: its columns are {names}, but a prompt needs one of {', '.join((*PROMPTS, *CHATS))} that is not empty")

    remarks: list[str] = [PREFERRED] if answer == "chosen" else []
    turns, choices, asked = _asked(full, wanted, answer)
    if turns and turns[-1].role == "assistant":
        if response_column is not None:
            turns.pop()  # the answer is in the column that is named
        elif after is not None and wanted not in (*CHATS, "chosen"):
            raise Unusable(f"{wanted!r} ends with the assistant's turn, and {answer!r} is an answer too: leave out one of them")
        else:
            answer, after = (wanted if wanted == "chosen" else None), None
    elif isinstance(after, Mapping) and answer == "chosen":
        turns, after = turns + _turns([after]), None
    elif isinstance(after, list) and answer != "answers":
        if not all(isinstance(message, Mapping) for message in after):
            raise Unusable(f"{answer!r} must be a text, but is a list")
        turns, after = turns + _turns(after), None

    response, reasoning = None, full["reasoning"] if isinstance(full.get("reasoning"), str) else ""
    unwanted = answer == "completion" and full.get("label") is False  # as TRL's KTO trainer reads it
    if turns and turns[-1].role == "assistant":
        last = turns.pop()
        response, reasoning, unwanted = last.text, last.reasoning or reasoning, unwanted or not last.wanted
    elif after is not None:
        response = _answer(after, answer or "", choices, remarks)
    thought = split_thinking(response or "")
    half = bool(thought.reasoning) and not (response or "").lstrip().startswith(OPENING)
    remarks += [CUT] * thought.cut + [UNWANTED] * unwanted + [HALF] * half
    remarks += [SEVERAL_FIELDS % (field, name) for name, cell in full.items() for field in sorted(repeated(_objects(cell, name)))]
    none = thought.cut or unwanted
    used = {*asked, answer}
    remarks += [NOT_ASKED % name for name in full if MEANINGFUL.fullmatch(name) and name not in used and full[name] not in ("", [], {})]
    return Shaped(
        _prompt(turns),
        None if none else thought.answer.strip() or None,
        "" if none else _text(thought.reasoning or reasoning, "reasoning").strip(),
        tuple(asked),
        ("chosen", "rejected") if answer == "chosen" else (answer,) if answer else (),
        tuple(remarks),
    )


# ---- the prompt --------------------------------------------------------------------------------------------------------


def _first(names: tuple[str, ...], cells: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in cells), None)


def _objects(cell: Any, column: str) -> Any:
    """A cell with the list or object that its JSON text is read as."""
    if column in (*CHATS, *CHOICES, "answers") and isinstance(cell, str):
        with contextlib.suppress(Unusable):
            return parsed(cell, column)
    return cell


def _column(name: str | None, cells: Mapping[str, Any]) -> str | None:
    if name is None:
        return None
    if name.strip().lower() not in cells:
        raise Unusable(suggest("no column", name, cells))
    return name.strip().lower()


def _prompt_column(full: Mapping[str, Any], named: str | None, answer: str | None) -> str | None:
    """The column that holds a whole chat, if the row has one and asks by it."""
    chosen = full.get("chosen")
    if answer == "chosen" and isinstance(chosen, list) and any(turn.role == "user" for turn in _turns(chosen)):
        return "chosen"
    if named is not None or ("prompt" in full and answer not in (None, "chosen")):
        return None
    return next((name for name in CHATS if full.get(name) and isinstance(_messages(full[name], name), list)), None)


def _asked(full: Mapping[str, Any], wanted: str, answer: str | None) -> tuple[list[_Turn], dict[str, Any], list[str]]:
    """Returns the turns, the choices by their labels, and the columns that they are from."""
    value, choices, asked = full[wanted], dict[str, Any](), [wanted]
    value = _messages(value, wanted) if wanted in CHATS else value
    rest = {name: cell for name, cell in full.items() if name != answer}
    if isinstance(value, list):
        turns = _turns(value)
    else:
        text, choices, asked = _question(rest, _text(value, wanted), wanted)
        turns = [_Turn("user", text.strip())]
    system = _first(SYSTEMS, rest)
    if system and isinstance(rest[system], str) and all(turn.role != "system" for turn in turns):
        opening = _text(rest[system], system).strip()
        turns, asked = [*([_Turn("system", opening)] if opening else []), *turns], [*asked, system]
    return turns, choices, asked


def _question(rest: Mapping[str, Any], text: str, wanted: str) -> tuple[str, dict[str, Any], list[str]]:
    """A question with its contexts before it, or an instruction with them behind it, and then the choices, one a line."""
    if wanted not in JOINED:
        return text, {}, [wanted]
    extra = ["input"] if wanted == "instruction" and "input" in rest else []
    extra += [name for name in CONTEXTS if isinstance(rest.get(name), str)]
    if wanted == "question" and not text.strip():
        raise Unusable("the prompt is empty")
    beside = [_text(rest[name], name) for name in extra]
    texts = [*beside, text] if wanted == "question" else [text, *beside]
    choices, columns = _choices(rest)
    texts.append("\n".join(f"{label}. {_text(choice, 'choices').strip()}" for label, choice in choices.items()))
    return "\n\n".join(part for part in texts if part.strip()), choices, [wanted, *extra, *columns]


def _choices(rest: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The choices by their labels, and their columns; none if the row has none, or in an unknown form."""
    for name in CHOICES:
        value = parsed(rest.get(name), name)
        labels: Any = string.ascii_uppercase[: len(value)] if isinstance(value, list) else ""
        if isinstance(value, Mapping):
            labels, value = (value["label"], value["text"]) if value.keys() == {"label", "text"} else (list(value), list(value.values()))
        if isinstance(value, list) and isinstance(labels, str | list) and len(labels) == len(value):
            pairs = [(str(label), text) for label, text in zip(labels, value) if text is not None]
            if 1 < len(pairs) == len(dict(pairs)) and all(isinstance(text, str | int | float) for _, text in pairs):
                return dict(pairs), [name]
    letters = list(itertools.takewhile(rest.__contains__, "abcdefgh"))
    return ({letter.upper(): rest[letter] for letter in letters}, letters) if len(letters) > 1 else ({}, [])


def _prompt(turns: list[_Turn]) -> str:
    if not turns or turns[-1].role != "user":
        raise Unusable("the chat must have a user's turn last, or last before the answer")
    if not all(turn.text for turn in turns):
        raise Unusable("the prompt is empty" if len(turns) == 1 else "a turn of the chat is empty")
    return prompt_of([(turn.role, turn.text) for turn in turns])


# ---- chats -------------------------------------------------------------------------------------------------------------


def _messages(value: Any, column: str) -> Any:
    """The messages of a chat: a list, or an object with the list, or an object of columns, as Arrow makes it; each also as JSON text.
    Anything else stays as it is."""
    if isinstance(value, str) and value.lstrip()[:1] == "{":
        with contextlib.suppress(ValueError, RecursionError):  # else it is no chat
            value = json.loads(value, object_pairs_hook=named)
    value = parsed(value, column) if isinstance(value, str) and value.lstrip()[:1] == "[" else value
    if isinstance(value, Mapping) and (name := _first(CHATS, value)):
        value = value[name]
    if isinstance(value, Mapping) and {"content", "value"} & value.keys():
        columns = list(value.values())
        if all(isinstance(cells, list) and len(cells) == len(columns[0]) for cells in columns):
            return [dict(zip(value, cells)) for cells in zip(*columns)]
    return value


def _turns(messages: list[Any]) -> list[_Turn]:
    """The messages of a chat, in the form of OpenAI or of ShareGPT, without empty system messages."""
    turns = []
    for message in messages:
        if not isinstance(message, Mapping):
            raise Unusable(f"a message must be an object with role and content, but one is {kind_of(message)}")
        role = str(message.get("role") or message.get("from") or "").lower()
        role = ROLES.get(role, role)
        if role in TOOLS or message.get("tool_calls") or message.get("function_call"):
            raise Unusable("the chat calls tools, which the lab does not teach")
        if role not in ("system", "user", "assistant"):
            raise Unusable(f"the role of a message must be system, user or assistant, but one is {role!r}")
        if not {"content", "value"} & message.keys():
            raise Unusable(f"a message must have a content, but one has only {', '.join(map(repr, message))}")
        content = message.get("content")
        content = message.get("value", content) if absent(content) or content == "" else content
        if isinstance(content, list):
            content = "".join(_piece(piece) for piece in content)
        text = _text(content, "content" if role == "assistant" else "text").strip()
        reasoning = next((t for n in ("reasoning_content", "reasoning", "thinking") if isinstance(t := message.get(n), str)), "")
        wanted = not any(OFF.fullmatch(str(message.get(flag)).strip()) for flag in ("weight", "train", "training", "loss"))
        if text or role != "system":
            turns.append(_Turn(role, text, reasoning, wanted))
    return turns


def _piece(piece: Any) -> str:
    """The text of a part of a message."""
    if isinstance(piece, str):
        return _text(piece, "content")
    if not isinstance(piece, Mapping) or piece.get("type") not in (None, "text", "input_text", "output_text") or "text" not in piece:
        raise Unusable("a message must have only text, but one has other content")
    return _text(piece["text"], "text")


# ---- the answer --------------------------------------------------------------------------------------------------------


def _answer(value: Any, column: str, choices: Mapping[str, Any], remarks: list[str]) -> str:
    """The text of an answer; empty if there is none."""
    if absent(value):
        raise Unusable(f"{column!r} is NaN, which is no answer: leave it out, or write null, if there is none")
    if column in ("answer", "answers"):
        value = parsed(value, column) if column == "answers" else value
        if isinstance(value, Mapping) and isinstance(value.get("text"), list):  # SQuAD
            value = value["text"]
        elif isinstance(value, Mapping) and isinstance(value.get("aliases"), list):  # TriviaQA
            value = [value.get("value"), *value["aliases"]]
        elif column == "answers" and isinstance(value, Mapping):
            raise Unusable(f"'answers' must be a list or have a list 'text', but its fields are {', '.join(map(repr, value))}")
        if isinstance(value, list):
            texts = list(dict.fromkeys(_text(text, "text") for text in value))
            remarks += [SEVERAL] if len(texts) > 1 else []
            value = texts[0] if texts else ""
    return _choice(value, choices) if choices and column not in FREE else _text(value, column)


def _choice(value: Any, choices: Mapping[str, Any]) -> str:
    """The choice that an index from 0, a label or the text of a choice means; empty for -1, which the hub writes for none."""
    texts, text = [_text(choice, "choices").strip() for choice in choices.values()], _text(value, "answer").strip()
    index = int(text) if re.fullmatch(r"-?\d{1,3}", text) and text not in choices else None
    if index == -1 or not text:
        return ""
    found = {choice for label, choice in zip(choices, texts) if label.casefold() == text.strip("().: ").casefold()}
    for raw, choice in zip(choices.values(), texts):
        if choice.casefold() == text.casefold() and (isinstance(value, str) or not isinstance(raw, str)):  # 1 means "1" only as a text
            found.add(choice)
    if index == len(texts) and not found:
        raise LabError(f"the answer {text} of {len(texts)} choices: an index must count from 0. Count from 0, or write letters: A, B, C.")
    if index is not None and 0 <= index < len(texts):
        found.add(texts[index])
    if len(found) != 1:
        raise Unusable(f"the answer {text!r} is {'several' if found else 'none'} of the choices {', '.join(choices)}")
    return found.pop()


def _text(value: Any, column: str) -> str:
    """A cell as text; a prompt is no object."""
    return text_of(value, column, objects=column not in PROMPTS)
