"""A pretrained model's tokenizer with its chat template: prompts and answers are the template's own, token for token.

chat = ChatTokenizer(folder, "smollm2")
chat.prompts(["What is the capital of Chad?"])     # as apply_chat_template gives it, except that a typed end mark stays text
chat.answers(["N'Djamena"])                        # what the template writes for the assistant's turn, up to its end mark
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoTokenizer

from labkit.base.chat import Chat, prompt_of
from labkit.base.errors import LabError
from labkit.base.manifest import refuse_changed
from labkit.base.thinking import CHANNELS, MARKS, OPENING, split_thinking
from labkit.models.chat_template import DAY, PROBES, REPLIES, Around, ChatTemplate
from labkit.models.damage import no_tokenizer, settings_in

LONGEST = 48  # tokens of an answer, if the recipe does not set it
# Settings of generate() that change greedy text; the lab applies none of them.
PROCESSORS = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "encoder_repetition_penalty": 1.0, "min_length": 0, "min_new_tokens": None,
    "bad_words_ids": None, "forced_bos_token_id": None, "forced_eos_token_id": None, "suppress_tokens": None,
    "begin_suppress_tokens": None, "sequence_bias": None, "guidance_scale": None, "exponential_decay_length_penalty": None,
}  # fmt: skip


class Typed(NamedTuple):
    """What a user typed in a rendered text."""

    part: str
    around: Around = Around()


class ChatTokenizer:
    """The tokenizer of a folder with its chat template (plain text if it has none), with the interface of `AtlasTokenizer`.

    longest: the most tokens of an answer.
    options: switches of the chat template by name, as in {"enable_thinking": False}.

    `end` is the mark that ends an answer that is learned; a written answer ends at any of `ends`.

    Raises `LabError` if the folder has no tokenizer, or one without an end mark or with a template that cannot be used, or
    whose files have changed since its manifest was written.
    """

    def __init__(self, folder: Path, name: str, longest: int = LONGEST, options: Mapping[str, Any] | None = None) -> None:
        refuse_changed(folder, weights=False)
        try:
            self.inner: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self.inner.encode("a")  # settings of another type fall only here
        except Exception as error:  # whatever a broken file makes the tokenizer's code raise
            raise no_tokenizer(folder, error) from None
        self.name, self.longest = name, longest
        self.size = max(len(self.inner), max(self.inner.get_vocab().values(), default=0) + 1)  # numbers may have gaps
        self.template = ChatTemplate(self.inner, name, options or {})
        # Added tokens that a typed text must not become: special ones, and those that look like a mark. Words and runs of spaces that were
        # added to a vocabulary are ordinary text.
        self._marks = {
            number: token
            for number, token in self.inner.added_tokens_decoder.items()
            if token.special or (token.content[:1] + token.content[-1:]) in ("<>", "[]")
        }
        thought = {mark for pair in MARKS for mark in pair} | set(CHANNELS if CHANNELS[0] in self.inner.get_vocab() else ())
        self._hidden = {number for number in self.inner.all_special_ids if self.inner.convert_ids_to_tokens(number) not in thought}
        settings = settings_in(folder / "generation_config.json")
        self.processors = {key: settings[key] for key, off in PROCESSORS.items() if settings.get(key, off) not in (off, None)}
        source = "generation_config.json" if "eos_token_id" in settings else "config.json"
        listed = settings_in(folder / source).get("eos_token_id")
        known = self._known(source, listed)
        self.end = self._end(known)
        own = settings.get("eos_token_id") if settings else listed  # `generate` looks into config.json if there is no other file
        self.end_is_listed = self.end in (own if isinstance(own, list) else [own])
        # The mark of a thought that the template opens itself, as for a teacher that always thinks.
        opened = [pair for pair in MARKS if self.template.prompt(PROBES[0]).rstrip().endswith(pair[0])]
        self.opens, self.closes = (f"{opened[0][0]}\n", f"{opened[0][1]}\n\n") if opened else ("", "")
        self.ends = frozenset((self.end, *known))
        self._check_prompts()
        self.vocabulary = hashlib.blake2b(self._table().encode(), digest_size=8).hexdigest()  # equal where token numbers mean the same
        form = f"{self.vocabulary} {self.template.text} {sorted(self.template.options.items())} {sorted(self.ends)} {self.end}"
        self.fingerprint = hashlib.blake2b(form.encode(), digest_size=8).hexdigest()

    # ---- the interface that it shares with `AtlasTokenizer` ----------------------------------------------------------

    def prompts(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of questions and chats, in the template."""
        return self._encode([self.template.prompt(text) for text in texts], [self._typed(text) for text in texts])

    def answers(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of answers, as the template writes an assistant's turn, each up to its end mark."""
        parts = [_of_thought(text) for text in texts]
        if self.opens:  # the template has begun a thought: an answer without one closes it first
            texts = [text.removeprefix(self.opens) if text.startswith(self.opens) else self.closes + text for text in texts]
        asked = self.template.prompt(PROBES[0])
        (before,) = self._encode([asked], [()])
        wholes = [self.template.turn(text) for text in texts]
        typed = [[Typed(part, self.template.around_answer) for part in row] for row in parts]
        rows = [ids[len(before) :] if ids[: len(before)] == before else [] for ids in self._encode(wholes, typed)]
        # Where a token joins both, or the template rewrites the prompt, or drops a part of the answer (a thought), it is read alone.
        fits = [whole.startswith(asked) and text.strip() in whole for whole, text in zip(wholes, texts, strict=True)]
        apart = [row for row, ids in enumerate(rows) if not ids or not fits[row]]
        tails = [wholes[row].removeprefix(asked) if fits[row] else texts[row] for row in apart]
        behind = [self.template.around_answer.tail if fits[row] else 0 for row in apart]
        alone = self._encode(
            tails, [[Typed(part, Around(0, tail)) for part in parts[row]] for row, tail in zip(apart, behind, strict=True)]
        )
        for row, ids in zip(apart, alone, strict=True):
            rows[row] = ids
        return [ids[: ids.index(self.end) + 1] if self.end in ids else [*ids, self.end] for ids in rows]

    def text(self, ids: Sequence[int]) -> str:
        """The answer in an answer's token ids, without the thoughts before it."""
        return split_thinking(self.written(ids)).answer.strip()

    def written(self, ids: Sequence[int]) -> str:
        """The whole text of an answer's token ids, with thoughts."""
        ids = ids[:-1] if ids and ids[-1] in self.ends else ids
        kept = [token for token in ids if token not in self._hidden]
        return self.opens + self.inner.decode(kept, skip_special_tokens=False).strip()

    def token(self, token_id: int) -> str:
        """The text of one token, for display."""
        return "<end>" if token_id in self.ends else self.inner.decode([token_id])

    @property
    def end_list(self) -> list[int]:
        """The end marks, that of learned answers first."""
        return [self.end, *sorted(self.ends - {self.end})]

    @property
    def end_marks(self) -> str:
        """`end_list` in words."""
        return ", ".join(f"{self.inner.convert_ids_to_tokens(token)!r} ({token})" for token in self.end_list)

    @property
    def notes(self) -> list[str]:
        """What a user should know about prompts and greedy text of this tokenizer, in sentences."""
        notes = list(self._odd_marks)
        if self.template.dated:
            notes.append(f"Its chat template asks for today's date, and gets {DAY:%d %B %Y} on every day.")
        if self.template.unread:
            notes.append(f"Its chat template does not read {', '.join(self.template.unread)}, so that changes nothing for it.")
        if self.processors:
            asked = ", ".join(f"{key}={value}" for key, value in self.processors.items())
            notes.append(f"Its generation_config.json asks for {asked}, which the lab does not apply: greedy text is the likeliest token.")
        return notes

    # ---- the template ------------------------------------------------------------------------------------------------

    def _typed(self, text: str) -> list[Typed]:
        """The messages of a question or chat that could become marks, each with what the template writes around it."""
        if not isinstance(text, Chat):
            return [Typed(text, self.template.around_prompt)]
        typed = []
        for number, (role, said) in enumerate(text.turns):
            if self._marked(said):
                others = (prompt_of([*text.turns[:number], (role, probe), *text.turns[number + 1 :]]) for probe in PROBES)
                around = Around.of(*map(self.template.prompt, others))
                typed += [Typed(part, around) for part in (_of_thought(said) if role == "assistant" else [said])]
        return typed

    def _check_prompts(self) -> None:
        """Raises `LabError` if a prompt is not what the template gives by itself. A frozen date is another matter."""
        if not self.template.own or self.template.dated:
            return
        asked = [{"role": "user", "content": PROBES[0]}]
        own = self.inner.apply_chat_template(asked, add_generation_prompt=True, return_dict=False, **self.template.options)
        if self.prompts([PROBES[0]]) != [own]:
            raise LabError(f"the prompts of {self.name} are not those of its chat template by itself: use another tokenizer class for it.")

    def _known(self, source: str, listed: Any) -> list[int]:
        """The tokenizer's end mark, and those that a file lists. One that is written as text is read if it is a number or a token."""
        known, self._odd_marks = [self.inner.eos_token_id], list[str]()
        for entry in listed if isinstance(listed, list) else [] if listed is None else [listed]:
            token: Any = entry
            if isinstance(entry, str):
                token = int(entry) if entry.isdecimal() else self.inner.get_vocab().get(entry)
            fits = isinstance(token, int) and not isinstance(token, bool) and 0 <= token < self.size
            known += [token] * fits
            if isinstance(entry, str) and fits:
                why = f"is text: it is read as token {token}, and other programs need that number there"
                self._odd_marks.append(f"The eos_token_id {entry!r} in its {source} {why}.")
            elif not fits:
                self._odd_marks.append(f"The eos_token_id {entry!r} in its {source} is no token of its tokenizer, so no answer ends there.")
        return list(dict.fromkeys(token for token in known if isinstance(token, int)))

    def _end(self, known: Sequence[int]) -> int:
        """The mark that the template puts after an answer; the tokenizer's own if it puts none."""
        whole = self.template.turn(REPLIES[0])
        (behind,) = self._encode([whole[len(whole) - self.template.around_answer.tail :]], [()])
        if whole == self.template.turn(REPLIES[1]):
            behind = []  # the template writes no turn of the assistant
        marks = [token for token in behind if token in known] or [token for token in behind if token in self.inner.added_tokens_decoder]
        if not marks and not known:
            raise LabError(f"the tokenizer of {self.name} has no end mark, so no answer would end: set eos_token in tokenizer_config.json.")
        return int(marks[0] if marks else known[0])

    # ---- tokens ------------------------------------------------------------------------------------------------------

    def _marked(self, text: str) -> bool:
        return any(token.content in text for token in self._marks.values())

    def _encode(self, texts: Sequence[str], typed: Sequence[Sequence[Typed]]) -> list[list[int]]:
        """Token ids of rendered texts. In what a user typed, added tokens (as an end mark) are split into plain ones."""
        if not texts:
            return []
        found = self.inner(list(texts), add_special_tokens=False)["input_ids"]
        for number, (text, parts) in enumerate(zip(texts, typed, strict=True)):
            if any(self._marked(part) for part, _ in parts):
                found[number] = self._split(text, [span for part, around in parts for span in _spans(text, part.strip(), around)])
        return found

    def _split(self, text: str, spans: Sequence[tuple[int, int]]) -> list[int]:
        """Token ids of a text whose added tokens within these spans are plain text."""
        read = self.inner(text, add_special_tokens=False, return_offsets_mapping=True)
        ids: list[int] = []
        for token, (start, end) in zip(read["input_ids"], read["offset_mapping"], strict=True):
            first = start + len(text[start:end]) - len(text[start:end].lstrip())  # some added tokens take the spaces before them
            mine = token in self._marks and any(low <= first and end <= high for low, high in spans)
            ids += self._plain(text[start:end]) if mine else [token]
        return ids

    def _plain(self, piece: str) -> list[int]:
        """Tokens of a few characters, as the model's table cuts them if no added token is known."""
        backend = self.inner.backend_tokenizer
        piece = backend.normalizer.normalize_str(piece) if backend.normalizer else piece
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(piece)] if backend.pre_tokenizer else [piece]
        if not words:
            return []
        words[0] = words[0] if piece.startswith(" ") else words[0].removeprefix("▁")  # the space that some put before a text
        return [token.id for word in words for token in backend.model.tokenize(word)]

    def _table(self) -> str:
        """All that decides which tokens a text has."""
        if not hasattr(self.inner, "backend_tokenizer"):
            return repr(sorted(self.inner.get_vocab().items()))
        table = json.loads(self.inner.backend_tokenizer.to_str())
        return json.dumps({key: value for key, value in table.items() if key not in ("post_processor", "truncation", "padding")})


def _of_thought(answer: str) -> list[str]:
    """The parts of an answer that were typed: the marks around a thought at its beginning are the model's own tokens."""
    thought = split_thinking(answer)
    return [thought.reasoning, thought.answer] if answer.startswith(OPENING) else [answer]


def _spans(text: str, part: str, around: Around) -> list[tuple[int, int]]:
    """Where a part stands in a text, each time that it occurs between the template's own beginning and end; all of that if the template
    has changed it."""
    spans, at, end = list[tuple[int, int]](), text.find(part, around.start) if part else -1, len(text) - around.tail
    while at >= 0 and at + len(part) <= end:
        spans.append((at, at + len(part)))
        at = text.find(part, at + 1)
    return spans or [(around.start, end)]
