"""Labelling at servers that differ from what is asked for: each is understood, or said in one sentence, and no paid answer is lost."""

from __future__ import annotations

import json
import re

import pytest
from faulty import Server, completion

from labkit.base.chat import Chat, from_json
from labkit.base.errors import LabError
from labkit.tasks.custom.rows import CustomRows, Row
from labkit.teachers import labelling
from labkit.teachers.labelling import loop
from labkit.teachers.labelling.replies import same_model
from labkit.teachers.labelling.settings import Settings

ASKED = [f"question {n}" for n in range(12)]


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Hardly any wait between tries."""
    monkeypatch.setattr(loop, "FIRST_WAIT", 0.005)


@pytest.fixture
def answers(tmp_path):
    return tmp_path / "answers.jsonl"


def label(server, answers, prompts=ASKED, **settings):
    return labelling.label(prompts, answers, endpoints=server.url, model="teacher-large", terms="read", **settings)


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def reasons(answers):
    return {row["reason"] for row in rows(answers.with_name(answers.name + ".failed"))}


def refusal(message, **more):
    return 400, {"error": {"message": message, "type": "invalid_request_error", **more}}


def reply(prompt, finish="stop", usage=(10, 5), **message):
    """A whole response with this message."""
    right = completion({"model": "teacher-large"}, prompt)
    choice = {"index": 0, "message": {"role": "assistant", "content": None} | message, "finish_reason": finish}
    return 200, right | {"id": prompt, "choices": [choice], "usage": dict(zip(("prompt_tokens", "completion_tokens"), usage))}


# ---- parameters that a server does not take ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        refusal("Unsupported value: 'temperature' does not support 0.0 with this model. Only the default (1) value is supported."),
        refusal("Unsupported parameter: 'temperature' is not supported with this model.", code="unsupported_parameter"),
        refusal("not supported with this model", param="temperature"),
        refusal("`temperature` is deprecated for this model."),
        refusal("'temperature' is not supported unless reasoning_effort is 'none'."),
        (422, {"detail": "invalid temperature: only 1 is allowed for this model"}),
    ],
)
def test_a_model_that_takes_no_temperature_is_asked_without_one(answers, told):
    said = []

    def behave(prompt, nth):
        body = next(body for body in reversed(server.asked) if body["messages"][-1]["content"] == prompt)
        return told if "temperature" in body else "ok"

    with Server(behave, delay=0.01) as server:
        report = label(server, answers, concurrency=4, tries=1, watch=lambda progress: said.append(progress.note))
        assert 12 < len(server.asked) <= 12 + 4, "also those under way when it was first refused"
        assert report.written == 12 and not report.failed and not report.spent.lost_out
        assert sum("takes no temperature" in note for note in said) == 1
        assert {row["provenance"]["temperature"] for row in rows(answers)} == {None}
        asked = len(server.asked)
        assert label(server, answers).written == 12 and len(server.asked) == asked, "the same requests, so nothing is paid for twice"
    assert {row["provenance"]["temperature"] for row in rows(answers)} == {None}


def test_a_temperature_out_of_a_server_s_range_is_not_replaced_by_another(answers):
    told = refusal("temperature must be between 0 and 1")
    with Server(lambda prompt, nth: told) as server, pytest.raises(LabError, match="between 0 and 1"):
        label(server, answers, [f"q {n}" for n in range(50)], temperature=1.7)
    assert all(body["temperature"] == 1.7 for body in server.asked)


def test_a_refusal_after_an_answer_is_not_about_the_parameters(answers):
    """Some servers quote the whole request in an error about something else."""
    told = refusal("bad message in {'temperature': 0.0, 'logprobs': True, 'max_completion_tokens': null}")
    with Server(lambda prompt, nth: told if prompt == "question 5" else "ok") as server:
        report = label(server, answers, logprobs=2, concurrency=1)
    assert [line for line, _, _ in report.failed] == [6] and len(server.asked) == 12
    assert all(row["logprobs"] and row["provenance"]["temperature"] == 0 for row in rows(answers))


def test_all_parameters_may_be_refused_one_after_another(answers):
    def behave(prompt, nth):
        body = server.asked[-1]
        if "max_tokens" in body:
            return refusal("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return next((refusal(f"Unsupported parameter: '{name}'") for name in ("logprobs", "temperature") if name in body), "ok")

    with Server(behave) as server:
        report = label(server, answers, logprobs=3, tries=1)
    assert report.written == 12 and not report.failed
    assert server.asked[-1].keys() == {"model", "messages", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("told", "sent"),
    [
        ("Requested sample logprobs of 50, which is greater than max allowed: 20", [50, 20]),
        ("top_logprobs must be in [0, 5]", [50, 5]),
        ("top_logprobs must be in 0-5", [50, 5]),
        ("gpt-4.1 offers no logprobs", [50, None]),
    ],
)
def test_fewer_alternatives_are_asked_for_where_a_server_names_its_most(answers, told, sent):
    said = []
    with Server(lambda prompt, nth: refusal(told) if server.asked[-1].get("top_logprobs", 0) > (sent[1] or 0) else "ok") as server:
        report = label(server, answers, logprobs=50, concurrency=1, watch=lambda progress: said.append(progress.note))
    assert report.written == 12 and [body.get("top_logprobs") for body in server.asked] == [sent[0], *[sent[1]] * 12]
    assert sum(("no logprobs" if sent[1] is None else f"gives {sent[1]} alternatives") in note for note in said) == 1
    assert all(("logprobs" in row) == (sent[1] is not None) for row in rows(answers))


def test_a_key_that_may_not_have_logprobs_gets_text(answers):
    said, told = [], (403, {"error": {"message": "You are not allowed to request logprobs from this model"}})
    with Server(lambda prompt, nth: told if "logprobs" in server.asked[-1] else "ok") as server:
        report = label(server, answers, logprobs=5, tries=1, concurrency=1, watch=lambda progress: said.append(progress.note))
    assert report.written == 12 and not report.failed and sum("offers no logprobs (403" in note for note in said) == 1


GOOD = {"token": "Paris", "logprob": -0.1, "top_logprobs": []}
ODD = {
    "a list": [GOOD],
    "of text completions": {"tokens": ["Paris"], "token_logprobs": [-0.1], "top_logprobs": [{"Paris": -0.1}], "text_offset": [0]},
    "without a value": {"content": [GOOD, {"token": "Paris"}]},
    "alternatives by name": {"content": [GOOD | {"top_logprobs": {"Paris": -0.1}}]},
    "texts": {"content": [GOOD | {"logprob": "-0.1"}]},
    "numbers": {"content": [GOOD | {"token": 123}]},
    "a text": "-0.1",
}


@pytest.mark.parametrize("asked", [None, 2])
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_logprobs_that_cannot_be_read_cost_no_answer(answers, odd, asked):
    said = []

    def behave(prompt, nth):
        status, whole = reply(prompt, content="Paris")
        whole["choices"][0]["logprobs"] = odd
        return status, whole

    with Server(behave) as server:
        report = label(server, answers, logprobs=asked, watch=lambda progress: said.append(progress.note))
    assert report.written == 12 and len(server.asked) == 12 and not report.spent.lost_out
    assert not any("logprobs" in row for row in rows(answers))
    assert sum("none in the form of the protocol" in note for note in said) == (asked is not None)


@pytest.mark.parametrize(
    ("whole", "choice", "message"),
    [
        ({}, {"index": "0"}, {}),
        ({}, {"index": {}}, {}),
        ({"usage": 7}, {}, {}),
        ({"usage": {"prompt_tokens": 10**30, "completion_tokens": "5"}}, {}, {}),
        ({"id": {}, "model": 7, "error": {}}, {"finish_reason": None}, {}),
        ({}, {}, {"reasoning": {"text": "hmm"}, "refusal": False, "tool_calls": []}),
        ({}, {"logprobs": {"content": [GOOD | {"bytes": [300, -1]}]}}, {}),
    ],
)
def test_other_fields_that_cannot_be_read_cost_no_answer(answers, whole, choice, message):
    def behave(prompt, nth):
        status, right = reply(prompt, content="Paris")
        right["choices"][0] |= choice
        right["choices"][0]["message"] |= message
        return status, right | whole

    with Server(behave) as server:
        report = label(server, answers)
    assert report.written == 12 and len(server.asked) == 12 and not report.failed
    assert {row["response"] for row in rows(answers)} == {"Paris"} and report.spent.tokens < 10**5


@pytest.mark.parametrize("number", ["1e999", "-1e999", "NaN", "9" * 400, "9" * 5_000])
def test_a_number_that_no_file_can_hold_costs_no_answer(answers, number):
    def behave(prompt, nth):
        status, right = reply(prompt, content="Paris")
        right["choices"][0]["logprobs"] = {"content": [GOOD, GOOD | {"logprob": "NUMBER"}]}
        return status, json.dumps(right | {"unknown": "NUMBER"}).replace('"NUMBER"', number).encode()

    with Server(behave) as server:
        report = label(server, answers, logprobs=0)
        assert report.written == 12 and len(server.asked) == 12
    assert [token["logprob"] for token in rows(answers)[0]["logprobs"]] == [-0.1, None]


@pytest.mark.parametrize("shift", range(90, 125, 5))
def test_no_part_of_a_key_is_quoted(answers, shift, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", key := "sk-a-secret-that-must-stay-0123456789")
    with Server(lambda prompt, nth: (200, b"x" * shift + key.encode())) as server, pytest.raises(LabError) as error:
        label(server, answers, [f"q {n}" for n in range(50)], tries=1)
    assert "xxx" in str(error.value) and "sk-a" not in str(error.value)


def test_alternatives_that_are_parts_of_a_character_keep_their_bytes(answers):
    top = [("\ufffd", -0.6, [240]), ("Paris", -0.7, None), ("\ufffd", -0.9, [159]), ("x", -2.0, [120])]
    token = {"token": "Paris", "logprob": -0.7, "top_logprobs": [dict(zip(("token", "logprob", "bytes"), t)) for t in top]}

    def behave(prompt, nth):
        status, whole = reply(prompt, content="Paris")
        whole["choices"][0]["logprobs"] = {"content": [token, token | {"top_logprobs": [token["top_logprobs"][1]]}]}
        return status, whole

    with Server(behave) as server:
        label(server, answers, ASKED[:1], logprobs=4)
    first, second = rows(answers)[0]["logprobs"]
    assert first["top"] == [[text, value] for text, value, _ in top], "pairs, as ever"
    assert first["top_bytes"] == [[240], None, [159], None] and "top_bytes" not in second


# ---- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "reasoning", "response"),
    [
        ({"content": "<think>\nhmm\n</think>\n\nParis"}, "hmm", "Paris"),
        ({"content": "hmm\n</think>\n\nParis"}, "hmm", "Paris"),
        ({"content": "<think>\nhmm\n</think>\n\nParis", "reasoning_content": "its own"}, "its own", "Paris"),
        ({"content": "`</think>` ends a thought", "reasoning": "its own"}, "its own", "`</think>` ends a thought"),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hmm"}]}, {"type": "text", "text": "Paris"}]},
            "hmm",
            "Paris",
        ),
        ({"content": [{"type": "thinking", "thinking": "hmm"}, {"type": "output_text", "text": "Paris"}]}, "hmm", "Paris"),
        ({"content": [{"type": "reasoning", "text": "hmm"}, "Pa", {"text": "ris"}, {"type": "text", "text": None}]}, "hmm", "Paris"),
        ({"content": "Paris"}, None, "Paris"),
    ],
)
def test_a_thought_is_kept_apart_from_the_answer(answers, message, reasoning, response):
    with Server(lambda prompt, nth: reply(prompt, **message)) as server:
        assert label(server, answers, ASKED[:2]).written == 2
    assert [(row.get("reasoning"), row["response"]) for row in rows(answers)] == [(reasoning, response)] * 2


@pytest.mark.parametrize(
    ("message", "finish", "reason", "cut"),
    [
        ({"content": "<think>\nhmm and"}, "length", "the thought was cut at 9 tokens: raise --max-tokens", 3),
        ({"reasoning": "hmm and"}, "length", "the thought was cut at 9 tokens: raise --max-tokens", 3),
        ({"content": ""}, "length", "the thought was cut at 9 tokens: raise --max-tokens", 3),  # of a provider that does not show it
        ({"content": "<think>\nhmm."}, "stop", "a thought without an answer (finish 'stop')", 0),
        ({"content": "<think>hmm</think>"}, "stop", "a thought without an answer (finish 'stop')", 0),
        ({"reasoning_content": "hmm."}, "stop", "a thought without an answer (finish 'stop')", 0),
    ],
)
def test_a_thought_alone_is_no_answer(answers, message, finish, reason, cut):
    with Server(lambda prompt, nth: reply(prompt, finish, **message) if prompt in ASKED[:3] else "ok") as server:
        report = label(server, answers, max_tokens=9)
    assert report.written == 9 and reasons(answers) == {reason} and report.cut_thoughts == cut and report.cut == 0
    assert (f"{cut} thoughts were cut" in str(report)) == bool(cut)


def test_a_cut_thought_without_a_first_mark_is_known_by_the_other_answers(answers):
    """Some templates write the first mark, so an answer that was cut has none at all."""
    with Server(
        lambda prompt, nth: reply(prompt, *(["length"] * (prompt in ASKED[:2])), content="hmm" + "</think>yes" * (prompt not in ASKED[:2]))
    ) as server:
        report = label(server, answers)
    assert (report.written, report.cut_thoughts, report.cut) == (10, 2, 0) and {row["response"] for row in rows(answers)} == {"yes"}
    with Server(lambda prompt, nth: reply(prompt, *(["length"] * (prompt in ASKED[:2])), content="hmm")) as server:
        report = label(server, answers.with_name("plain.jsonl"))
    assert (report.written, report.cut_thoughts, report.cut) == (12, 0, 2)


def test_a_job_whose_thoughts_are_all_cut_stops_before_it_has_paid_for_all(answers):
    asked = [f"q {n}" for n in range(100)]
    with Server(lambda prompt, nth: reply(prompt, "length", content="<think>hmm")) as server:
        report = label(server, answers, asked)
    assert len(server.asked) < 20 + 8 and "raise --max-tokens" in report.stopped and report.cut_thoughts == len(server.asked)
    with Server(lambda prompt, nth: reply(prompt, refusal="I can't.")) as server:
        assert len(label(server, answers.with_name("refused.jsonl"), asked).failed) == 100, "that is about the prompts"


def test_a_higher_limit_asks_for_what_was_cut_and_keeps_what_is_whole(answers):
    def behave(prompt, nth):
        return reply(prompt, *(["length"] * (prompt in ASKED[:4] and server.asked[-1]["max_tokens"] < 50)), content="yes")

    with Server(behave) as server:
        for limit, times, cut in ((9, 12, 4), (50, 16, 0), (50, 16, 0), (20, 20, 4), (5, 32, 4)):
            report = label(server, answers, [*ASKED, ASKED[0]], max_tokens=limit)
            assert (sum(server.times.values()), report.written, report.cut) == (times, 13, cut + bool(cut)), limit
            if limit == 50:
                assert [row["provenance"]["max_tokens"] for row in rows(answers)] == [50] * 4 + [9] * 8 + [50]
                assert report.total == 13 and not report.left


def test_an_old_journal_s_thoughts_are_split_when_its_answers_are_written_again(answers):
    with Server(lambda prompt, nth: reply(prompt, content="plain")) as server:
        label(server, answers)
        journal = answers.with_name("answers.jsonl.journal")
        old = re.sub(',"seal":"[0-9a-f]+"', "", journal.read_text())
        journal.write_text(old.replace('"plain"', '"<think>hmm</think>Paris"'))
        answers.unlink()
        report = label(server, answers)
    assert report.written == 12 and len(server.asked) == 12
    assert {(row["reasoning"], row["response"]) for row in rows(answers)} == {("hmm", "Paris")}


# ---- what is no answer -----------------------------------------------------------------------------------------------

STREAM = b'data: {"choices":[{"index":0,"delta":{"content":"Par"}}]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((200, STREAM), "a stream, although none was asked for: 'data: {"),
        ((200, b"event: x\ndata: {}\n\n", {"content-type": "text/event-stream; charset=utf-8"}), "a stream, although none was asked for"),
        ((200, b"\n<!DOCTYPE html><title>Log in</title>"), "a web page (a log-in page or a wrong address), not an answer: '<!DOCTYPE"),
        ((200, b"Please log in", {"content-type": "text/html"}), "a web page (a log-in page or a wrong address), not an answer: 'Please"),
        ((200, {"choices": [], "usage": None}), "an answer without choices"),
        ((200, {"message": {"content": "of another protocol"}}), "an answer without choices"),
    ],
)
def test_what_is_no_answer_is_named_and_asked_a_few_times_only(answers, told, said):
    with Server(lambda prompt, nth: told) as server, pytest.raises(LabError) as error:
        label(server, answers, [f"q {n}" for n in range(100)], concurrency=2)
    assert said in str(error.value) and "\n" not in str(error.value) and "check the address" in str(error.value)
    assert len(server.asked) <= 5 + 2


@pytest.mark.parametrize(
    ("told", "begins"),
    [
        ([{"generated_text": "Paris"}], '[{"generated_text": "Paris"}]'),
        (b'{"message":{"content":"Pa"}}\n{"message":{}}', '{"message":{"content":"Pa"}} {"message":{}}'),
        ({"choices": [{"text": "Paris"}], "object": "text_completion"}, '{"choices": [{"text": "Paris"}], "object": "text_completion"}'),
    ],
)
def test_what_a_server_sends_in_place_of_answers_is_quoted(answers, told, begins):
    said = []
    with Server(lambda prompt, nth: (200, told)) as server:
        label(server, answers, ASKED[:2], tries=1, watch=lambda progress: said.append(progress.note))
        assert sum(f"a response that begins {begins!r}." in note for note in said) == 1
        with pytest.raises(LabError) as error:
            label(server, answers, [f"q {n}" for n in range(50)], tries=1)
    assert f"an answer that cannot be read, 1 times. {server.url.split('/')[2]} sent a response that begins {begins!r}." in str(error.value)


def test_a_web_page_between_answers_is_asked_again(answers):
    page = 200, b"<html>Starting</html>"
    with Server(lambda prompt, nth: page if nth <= 3 and prompt != "question 0" else "ok") as server:
        report = label(server, answers, concurrency=1)
    assert report.written == 12 and not report.failed and report.again == 33


@pytest.mark.parametrize(
    ("message", "finish", "reason"),
    [
        ({"refusal": "I'm sorry,\nI can't."}, "stop", "the model refused: I'm sorry, I can't."),
        ({"content": "Well", "refusal": "I can't."}, "stop", "the model refused: I can't."),
        ({"content": [{"type": "refusal", "refusal": "I won't."}]}, "stop", "the model refused: I won't."),
        ({"content": "Let me look.", "tool_calls": [{"id": "1"}]}, "tool_calls", "a call of a tool in place of an answer"),
        ({"content": "Let me look.", "tool_calls": [{"id": "1"}]}, "stop", "a call of a tool in place of an answer"),
        ({"function_call": {"name": "f"}}, "function_call", "a call of a tool in place of an answer"),
        ({"content": "Well"}, "content_filter", "the model refused: the provider's filter withheld the answer"),
        ({"content": ""}, "stop", "an empty answer (finish 'stop')"),
    ],
)
def test_a_refusal_is_told_as_one(answers, message, finish, reason):
    with Server(lambda prompt, nth: reply(prompt, finish, **message) if prompt == ASKED[0] else "ok") as server:
        report = label(server, answers)
        assert report.failed == ((1, 0, reason),) and len(server.asked) == 12
        assert label(server, answers).failed == report.failed and len(server.asked) == 12


def test_another_model_is_said_once_and_kept(answers):
    said = []
    other = {"model": "teacher-small"}
    with Server(lambda prompt, nth: (200, reply(prompt, content="yes")[1] | other)) as server:
        label(server, answers, watch=lambda progress: said.append(progress.note))
    (note,) = filter(None, said)
    assert "'teacher-small'" in note and "'teacher-large'" in note
    assert {(row["provenance"]["model"], row["provenance"]["served"]) for row in rows(answers)} == {("teacher-large", "teacher-small")}


@pytest.mark.parametrize(
    ("asked", "served", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("name-latest", "name-20241022", True),
        ("org/Name", "name", True),
        ("name", "/models/name.gguf", True),
        ("llama3", "llama3:latest", True),
        ("smollm2", "smollm2@main", True),
        ("qwen3", "qwen3-8b", False),
        ("org/name", "org/other", False),
    ],
)
def test_names_of_the_same_model(asked, served, same):
    assert same_model(asked, served) is same


@pytest.mark.parametrize("usage", [(0, 0), (5, 0), (0, 5), ()])
def test_a_ceiling_holds_where_the_server_counts_zero(answers, usage):
    with Server(lambda prompt, nth: reply(prompt, usage=usage, content="yes")) as server:
        report = label(server, answers, max_tokens=100, ceiling_tokens=400)
    assert "ceiling of 400 tokens" in report.stopped and 1 <= report.written < 12 and report.spent.tokens <= 400
    assert not any(row["provenance"]["tokens_counted"] for row in rows(answers))


# ---- prompts of several turns ------------------------------------------------------------------------------------------

TURNS = (("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"), ("user", "And 3 + 3?"))


def chats(answers, server, *turns, **settings):
    """A plan for prompts of several turns."""
    prompts = CustomRows("chats", tuple(Row(Chat(one), None, line) for line, one in enumerate(turns, 1)))
    job = labelling.plan(["one"], answers, endpoints=server.url, model="m", concurrency=1, **settings)
    return job._replace(prompts=prompts, requests=[job.settings.key(row.prompt, 0) for row in prompts])


def test_a_prompt_of_several_turns_is_sent_and_kept_as_its_turns(answers):
    with Server() as server:
        assert labelling.run(chats(answers, server, TURNS, TURNS[1:], system=""), terms="read").written == 2
        assert labelling.run(chats(answers, server, TURNS[1:], system="Be brief."), terms="read").written == 1, "the first one again"
    messages = [{"role": role, "content": text} for role, text in TURNS]
    assert [body["messages"] for body in server.asked] == [messages, messages[1:]]
    assert rows(answers)[0]["prompt"] == messages[1:]
    kept = [row["prompt"] for row in rows(answers.with_name("answers.jsonl.journal")) if "prompt" in row]
    assert [from_json(prompt).turns for prompt in kept] == [TURNS, TURNS[1:]]


def test_a_system_message_beside_the_chat_s_own_is_refused_before_anything_is_sent(answers):
    with Server() as server, pytest.raises(LabError, match=r"own system message.*--system"):
        chats(answers, server, TURNS, system="Be long.")
    assert not server.asked


def test_a_plain_prompt_has_the_key_that_it_always_had():
    settings = Settings(endpoints="http://127.0.0.1:1", model="m", system="Be brief.", logprobs=2)
    assert settings.key("question", 1) == "bf1504a34339479b350ca82253d89e41"
    assert re.fullmatch("[0-9a-f]{32}", settings.key("question", 0)) and settings.key("question", 0) != settings.key("question", 1)
