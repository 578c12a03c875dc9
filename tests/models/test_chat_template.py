"""Prompts and answers are the chat template's own, token for token, and a turn ends where the template ends it."""

from __future__ import annotations

import datetime
import functools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from labkit.base.chat import prompt_of
from labkit.base.errors import LabError
from labkit.models.chat import ChatTokenizer

TEXT = ["What is the capital of Chad? N'Djamena, of 2 and 4 <think> </think> user model assistant system end_of_turn im_end INST"] * 9
SPECIAL = ["<pad>", "<s>", "</s>", "<turn>", "<end_of_turn>", "<im_start>", "<im_end>", "[INST]", "[/INST]"]
CHATML = (
    "{% for m in messages %}{{ '<im_start>' + m['role'] + '\n' + m['content'] + '<im_end>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<im_start>assistant\n' }}{% if enable_thinking is defined and not enable_thinking %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '<turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<turn>model\n' }}{% endif %}"
)
LLAMA2 = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
)
FIRST = (  # only the first message may be a system text, as for gpt-oss
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '|' }}{% endif %}"
    "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] + '<im_end>' }}{% endif %}{% endfor %}"
)
TWICE = "{% for m in messages %}{{ m['content'] + '\n' + m['content'] + '\n' }}{% endfor %}"
UPPER = "{% for m in messages %}{{ m['content'] | upper + '\n' }}{% endfor %}"
DATED = "{{ 'It is ' + strftime_now('%d %B %Y, %H:%M:%S') + '. ' }}{% for m in messages %}{{ m['content'] + '<im_end>' }}{% endfor %}"
TEMPLATES = {"chatml": CHATML, "gemma": GEMMA, "llama2": LLAMA2, "twice": TWICE, "upper": UPPER, "plain": None}
KINDS = ("bytes", "bytes with a space", "metaspace", "metaspace at first")


@functools.cache
def backend(kind: str) -> str:
    made = Tokenizer(models.BPE(byte_fallback=False, unk_token="<pad>"))
    if kind.startswith("bytes"):
        made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=kind != "bytes")
        made.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first" if "first" in kind else "always")
        made.decoder = decoders.Metaspace()
        made.normalizer = normalizers.NFC()
        alphabet = [chr(code) for code in range(32, 127)] + ["\n"]
    made.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, special_tokens=SPECIAL, initial_alphabet=alphabet))
    made.add_tokens(["<think>", "</think>"])  # added, but not special
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return made.to_str()


def folder_with(folder: Path, kind: str, template: str | None, eos: str = "</s>", generation: Any = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    inner = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(backend(kind)),
        bos_token="<s>",
        eos_token=eos,
        pad_token="<pad>",
        extra_special_tokens=SPECIAL[3:],
    )
    inner.chat_template = template
    inner.save_pretrained(folder)
    if generation:
        (folder / "generation_config.json").write_text(json.dumps(generation))
    return folder


@pytest.fixture(scope="module")
def chats(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("chats")

    @functools.cache
    def chat(kind: str, template: str, **given: Any) -> ChatTokenizer:
        name = f"{kind}-{template}"
        return ChatTokenizer(folder_with(root / name, kind, TEMPLATES[template]), name, **given)

    return chat


@pytest.mark.parametrize("template", [name for name in TEMPLATES if name != "plain"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["What is 2 + 2?", " a leading space", "two\n\nlines", "Is N'Djamena in Chad?"])
def test_a_prompt_is_the_templates_own(chats, kind, template, text):
    chat = chats(kind, template)
    own = chat.inner.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False)
    assert chat.prompts([text]) == [own]


@pytest.mark.parametrize("template", ["chatml", "gemma", "llama2"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", ["Four", "N'Djamena is the capital.", "two\nlines"])
def test_an_answer_is_what_the_template_writes_up_to_its_end_mark(chats, kind, template, text):
    chat = chats(kind, template)
    turns = [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": text}]
    whole = chat.inner.apply_chat_template(turns, return_dict=False)
    prompt, (answer,) = chat.prompts(["What is 2 + 2?"])[0], chat.answers([text])
    end = {"chatml": "<im_end>", "gemma": "<end_of_turn>", "llama2": "</s>"}[template]
    assert [*prompt, *answer] == whole[: len(prompt) + len(answer)]
    assert chat.inner.convert_ids_to_tokens(answer[-1]) == end
    assert chat.text(answer) == text


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(text=st.lists(st.sampled_from(["<im_end>", "</s>", "<think>", "a", " ", "b", "[INST]", "<end_of_turn>"]), min_size=1, max_size=6))
def test_typed_added_tokens_stay_text(chats, kind, template, text):
    """No typed mark becomes one token, and nothing of it is lost; the template's own marks are whole."""
    chat, typed = chats(kind, template), "".join(text)
    added = set(chat.inner.added_tokens_decoder)
    (plain,), (asked,), (answer,) = chat.prompts(["x"]), chat.prompts([typed]), chat.answers([typed])
    assert [token for token in asked if token in added] == [token for token in plain if token in added]
    if not typed.startswith("<think>"):  # which begins a thought of the model's own
        assert sum(token in added for token in answer) == sum(token in added for token in chat.answers(["x"])[0])
    squeezed = "".join(typed.split())
    assert squeezed.upper() in "".join(chat.inner.decode(asked).split()).upper()
    assert squeezed in "".join(chat.inner.decode(answer).split())


@pytest.mark.parametrize("template", ["chatml", "gemma", "llama2", "plain"])
@settings(max_examples=25)
@given(said=st.lists(st.sampled_from(["<im_end>", "</s>", "a", "<end_of_turn>", "b</s>", "[INST]"]), min_size=3, max_size=3))
def test_typed_added_tokens_stay_text_in_chats(chats, template, said):
    """Also where a whole message is a mark that the template itself writes."""
    chat, roles = chats("bytes", template), ("user", "assistant", "user")
    added = set(chat.inner.added_tokens_decoder)
    plain, asked = chat.prompts([prompt_of(list(zip(roles, texts, strict=True))) for texts in (("x", "y", "z"), said)])
    assert [token for token in asked if token in added] == [token for token in plain if token in added]
    assert chat.inner.decode(asked).replace(" ", "") == chat.inner.decode(plain).translate(dict(zip(map(ord, "xyz"), said))).replace(
        " ", ""
    )


def test_the_end_of_a_turn_is_the_templates(tmp_path):
    """Gemma's end of turn is not the tokenizer's, and generation_config.json may list more."""
    chat = ChatTokenizer(folder_with(tmp_path / "gemma", "bytes", GEMMA, generation={"eos_token_id": [2, 6]}), "gemma")
    assert chat.end == 4
    assert chat.ends == {4, 2, 6}
    assert chat.text([*chat.inner.encode("red", add_special_tokens=False), 4]) == "red"
    assert chat.end_marks == "'<end_of_turn>' (4), '</s>' (2), '<im_end>' (6)"


@pytest.mark.parametrize(
    ("listed", "ends", "said"),
    [
        ("4", {2, 4}, "'4' in its generation_config.json is text: it is read as token 4"),
        (["<end_of_turn>", 6], {2, 4, 6}, "'<end_of_turn>' in its generation_config.json is text: it is read as token 4"),
        ([2, 99_999], {2}, "99999 in its generation_config.json is no token"),
        ("stop here", {2}, "'stop here' in its generation_config.json is no token"),
        (True, {2}, "True in its generation_config.json is no token"),
        (None, {2}, ""),
    ],
)
def test_end_marks_in_another_form_are_read_or_told(tmp_path, listed, ends, said):
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", None, generation={"eos_token_id": listed}), "odd")
    assert chat.ends == ends
    assert said in " ".join(chat.notes) and len(chat.notes) == bool(said)


def test_without_a_template_the_tokenizers_mark_ends_a_turn(chats):
    chat = chats("bytes", "plain")
    assert chat.end == 2
    assert chat.inner.decode(chat.prompts(["What?"])[0]) == "<s>What?\n"
    assert chat.answers(["Four"])[0][-1] == 2


def test_other_end_marks_make_another_format_of_the_same_tokens(tmp_path):
    one, other = (ChatTokenizer(folder_with(tmp_path / eos, "bytes", None, eos), eos) for eos in ("</s>", "<im_end>"))
    assert one.vocabulary == other.vocabulary
    assert one.fingerprint != other.fingerprint


def test_other_tokens_are_told_apart_at_the_same_size(chats):
    assert chats("bytes", "chatml").vocabulary != chats("metaspace", "chatml").vocabulary


def test_a_chat_goes_through_the_models_own_template(chats):
    turns = [("system", "Be brief."), ("user", "What is 2 + 2?"), ("assistant", "4"), ("user", "And 3 more?")]
    chat = chats("bytes", "chatml")
    messages = [{"role": role, "content": text} for role, text in turns]
    assert chat.prompts([prompt_of(turns)]) == [chat.inner.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)]


def test_a_template_without_a_system_message_gets_it_with_the_question(chats):
    chat = chats("bytes", "gemma")
    assert chat.prompts([prompt_of([("system", "Be brief."), ("user", "Why?")])]) == chat.prompts(["Be brief.\n\nWhy?"])


def test_a_chat_that_the_template_refuses_is_told(tmp_path):
    alternate = "{% if messages | length > 2 %}{{ raise_exception('too many') }}{% endif %}" + CHATML
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", alternate), "short")
    with pytest.raises(LabError, match="does not take a chat with these turns: too many"):
        chat.prompts([prompt_of([("user", "a"), ("assistant", "b"), ("user", "c")])])


def test_todays_date_is_the_same_on_every_day(tmp_path):
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", DATED), "dated")
    assert chat.inner.decode(chat.prompts(["Why?"])[0]) == "It is 01 January 2026, 00:00:00. Why?<im_end>"
    assert "asks for today's date, and gets 01 January 2026" in chat.notes[0]


@pytest.mark.parametrize("form", ["%I:%M %p %F", "%-d. %B, day %j", "%T %D", "%d %b %Y", "%A"])
def test_every_form_of_a_date_is_that_day(tmp_path, form):
    template = "{{ strftime_now('" + form + "') + '|' }}{% for m in messages %}{{ m['content'] + '<im_end>' }}{% endfor %}"
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", template), "dated")
    assert chat.inner.decode(chat.prompts(["Why?"])[0]) == f"{datetime.datetime(2026, 1, 1).strftime(form)}|Why?<im_end>"


@pytest.mark.parametrize(
    ("template", "turns", "found"),
    [
        ("{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] + '<im_end>' }}{% endif %}{% endfor %}", "su", "s\n\nu"),
        (
            "{% for m in messages %}{% if m['role'] != 'system' %}{{ m['content'] + '<im_end>' }}{% endif %}{% endfor %}",
            "uau",
            "u<im_end>a",
        ),
        ("{{ messages[-1]['content'] }}", "uau", None),
        ("{{ messages[-1]['content'] }}", "su", "s\n\nu"),
        (FIRST, "su", "s|u"),
        (FIRST, "uas", "s\n\nu<im_end>a"),
        (FIRST, "suas", "s\n\ns\n\nu<im_end>a"),
        (FIRST, "ssu", "s\n\ns\n\nu"),
        ("{% if messages|length > 2 %}{{ raise_exception('no') }}{% endif %}{{ messages[-1]['content'] }}", "su", "s\n\nu"),
        ("{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}", "uau", None),
    ],
)
def test_no_turn_of_a_chat_is_left_out(tmp_path, template, turns, found):
    """A system message that the template leaves out is put before the question; other turns are needed."""
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", template), "forgetful")
    prompt = prompt_of([({"s": "system", "u": "user", "a": "assistant"}[turn], turn) for turn in turns])
    if found is None:
        with pytest.raises(LabError, match=r"does not take a chat with these turns: (it leaves out what the (user|assistant)|no)"):
            chat.prompts([prompt])
    else:
        assert chat.inner.decode(chat.prompts([prompt])[0]).startswith(found)


def test_a_thought_of_an_earlier_turn_has_the_models_own_marks(chats):
    chat = chats("bytes", "chatml")
    turns = [("user", "a"), ("assistant", "<think>\nhm </s>\n</think>\n\n4"), ("user", "b")]
    own = chat.inner.apply_chat_template(
        [{"role": role, "content": text.replace("</s>", "")} for role, text in turns], add_generation_prompt=True, return_dict=False
    )
    (asked,) = chat.prompts([prompt_of(turns)])
    added = set(chat.inner.added_tokens_decoder)
    assert [token for token in asked if token in added] == [token for token in own if token in added]
    assert "</s>" in chat.inner.decode(asked)


def test_names_that_a_template_sets_itself_are_no_options(tmp_path):
    """As in the templates of Llama 2 and Qwen 3; but a name that is set only if nobody else did is one, as in Llama 3.1's."""
    template = (
        "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% else %}{% set system_message = '' %}"
        "{% endif %}{% if not date_string is defined %}{% set date_string = 'today' %}{% endif %}{{ date_string + system_message }}"
        "{% for m in messages %}{% if m['role'] == 'user' %}{% set content = m['content'] %}{% endif %}{{ content }}{% endfor %}"
    )
    assert ChatTokenizer(folder_with(tmp_path, "bytes", template), "sets").template.switches == {"date_string"}


def test_typed_marks_that_are_not_special_stay_text(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    inner = PreTrainedTokenizerFast.from_pretrained(folder)
    inner.add_tokens(["[TOOL]", AddedToken("<call>", lstrip=True, rstrip=True, special=True)])
    inner.save_pretrained(folder)
    chat = ChatTokenizer(folder, "marks")
    added = set(chat.inner.added_tokens_decoder)
    (plain,) = chat.prompts(["x"])
    for text in ("[TOOL] a", "<call> a", "a <call>", "<call>"):
        (asked,) = chat.prompts([text])
        assert [token for token in asked if token in added] == [token for token in plain if token in added], text
        assert text in chat.inner.decode(asked)


def test_thinking_is_switched_off_by_an_option(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    plain, off = ChatTokenizer(folder, "a"), ChatTokenizer(folder, "a", options={"enable_thinking": False})
    assert off.inner.decode(off.prompts(["Why?"])[0]) == plain.inner.decode(plain.prompts(["Why?"])[0]) + "<think>\n\n</think>\n\n"
    assert plain.fingerprint != off.fingerprint, "other prompts, so other signals"


def test_the_switches_of_a_template_are_the_names_that_it_reads(tmp_path):
    template = (
        "{% set effort = effort | default('low') %}{% macro written(x) %}{{ x.content + effort }}{% endmacro %}"
        "{% set ns = namespace(n=0) %}{{ bos_token }}{% for m in messages %}{% generation %}{{ written(m) }}{% endgeneration %}{% endfor %}"
        "{% if add_generation_prompt and think is defined and tools is not defined %}{{ range(2) | list }}{% endif %}"
    )
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", template), "a", options={"think": True, "thinks": True})
    assert chat.template.switches == {"effort", "think"}
    assert chat.template.options == {"think": True} and chat.template.unread == ["thinks"]
    assert "does not read thinks" in " ".join(chat.notes)
    assert chat.fingerprint == ChatTokenizer(tmp_path, "a", options={"think": True}).fingerprint, "a switch without effect changes nothing"


def test_thoughts_are_not_part_of_an_answer(chats):
    chat = chats("bytes", "chatml")
    ids = chat.inner.encode("<think>\n2 and 2\n</think>\n\n4", add_special_tokens=False)
    assert chat.text([*ids, chat.end]) == "4"
    assert chat.written([*ids, chat.end]).startswith("<think>")


def test_processors_that_the_lab_does_not_apply_are_named(tmp_path):
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", None, generation={"repetition_penalty": 1.1, "min_length": 0}), "a")
    assert chat.processors == {"repetition_penalty": 1.1}
    assert "repetition_penalty=1.1, which the lab does not apply" in chat.notes[0]


def test_a_learned_thought_has_the_models_own_marks(chats):
    chat = chats("bytes", "chatml")
    opening, closing = chat.inner.convert_tokens_to_ids(["<think>", "</think>"])
    (learned,) = chat.answers(["<think>\n2 and 2\n</think>\n\n4"])
    assert [token for token in learned if token in (opening, closing)] == [opening, closing]
    (typed,), (asked,) = chat.answers(["a </think> b"]), chat.prompts(["a </think> b"])
    assert closing not in [*typed, *asked]


def test_a_template_that_opens_a_thought_gets_it_closed_before_an_answer(tmp_path):
    """As R1's: its prompt ends with the opening mark, and it drops thoughts from past turns."""
    template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ '<im_start>' + m['content'] + '<im_end>' }}"
        "{% else %}{{ m['content'].split('</think>')[-1] + '</s>' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<think>\n' }}{% endif %}"
    )
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", template), "r1")
    closing = chat.inner.convert_tokens_to_ids("</think>")
    for learned in ("4", "<think>\n2 and 2\n</think>\n\n4"):
        (ids,) = chat.answers([learned])
        assert ids.count(closing) == 1 and chat.text(ids) == "4"
    (cut,) = chat.inner(["2 and 2"], add_special_tokens=False)["input_ids"]
    assert chat.text(cut) == ""


def test_words_that_were_added_to_a_vocabulary_stay_whole(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    inner = PreTrainedTokenizerFast.from_pretrained(folder)
    inner.add_tokens(["PROT", "    "])
    inner.save_pretrained(folder)
    chat = ChatTokenizer(folder, "words")
    text = "What is PROT and    x?"
    own = chat.inner.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False)
    assert chat.prompts([text]) == [own]


def test_special_marks_of_a_thought_are_seen(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    inner = PreTrainedTokenizerFast.from_pretrained(folder)
    inner.add_tokens(["[THINK]", "[/THINK]"], special_tokens=True)
    inner.save_pretrained(folder)
    chat = ChatTokenizer(folder, "special")
    ids = chat.inner("[THINK]\n2 and 2\n[/THINK]\n\n4<im_end>", add_special_tokens=False)["input_ids"]
    assert chat.text(ids) == "4"
    assert chat.text(chat.inner("[THINK]\n2 and", add_special_tokens=False)["input_ids"]) == ""


def test_the_channels_of_gpt_oss_are_thought_and_answer(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    inner = PreTrainedTokenizerFast.from_pretrained(folder)
    inner.add_tokens(["<|channel|>", "<|message|>", "<|start|>", "<|end|>"], special_tokens=True)
    inner.save_pretrained(folder)
    chat = ChatTokenizer(folder, "channels")
    text = "<|channel|>analysis<|message|>2 and 2<|end|><|start|>assistant<|channel|>final<|message|>4"
    assert chat.text(chat.inner(f"{text}<im_end>", add_special_tokens=False)["input_ids"]) == "4"
    assert chat.text(chat.inner(text[:40], add_special_tokens=False)["input_ids"]) == ""


def test_a_template_without_a_turn_of_the_assistant_ends_with_the_tokenizers_mark(tmp_path):
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ 'Q ' + m['content'] + '<turn>' }}{% endif %}{% endfor %}A "
    )
    chat = ChatTokenizer(folder_with(tmp_path, "bytes", template), "mute")
    assert chat.end == 2
    assert chat.inner.decode(chat.answers(["4"])[0]) == "4</s>"


def test_numbers_of_tokens_may_have_gaps(tmp_path):
    folder = folder_with(tmp_path, "bytes", CHATML)
    table = json.loads((folder / "tokenizer.json").read_text())
    last = max(table["model"]["vocab"].values())
    table["model"]["vocab"]["Q"] = last + 20
    (folder / "tokenizer.json").write_text(json.dumps(table))
    chat = ChatTokenizer(folder, "gaps")
    assert chat.size > max(chat.inner.get_vocab().values()) >= len(chat.inner)
