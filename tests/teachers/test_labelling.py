"""Labelling at an endpoint: against a server that fails as it is told to, a process that is killed, and a real server."""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from faulty import Server

from labkit.base.errors import LabError
from labkit.base.files import append_row
from labkit.cli import label as command
from labkit.cli.main import main
from labkit.tasks.custom.rows import read_rows
from labkit.teachers import labelling
from labkit.teachers.labelling import journal, loop
from labkit.teachers.labelling.journal import Journal
from labkit.teachers.labelling.settings import Settings, address

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-a-secret-that-must-stay-0123456789"
ASKED = [f"question {n}" for n in range(12)]


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    """Hardly any wait between tries, and a key in the environment."""
    monkeypatch.setattr(loop, "FIRST_WAIT", 0.005)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def answers(tmp_path):
    return tmp_path / "answers.jsonl"


def label(server, answers, prompts=ASKED, **settings):
    urls = [one.url for one in server] if isinstance(server, list) else server.url
    return labelling.label(prompts, answers, endpoints=urls, model="teacher-large", terms="read", **settings)


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def right(path, prompts=ASKED):
    """Whether a file holds the right answer to every prompt, in order."""
    return [(row["prompt"], row["response"]) for row in rows(path)] == [(p, f"Answer to {p}") for p in prompts]


# ---- what comes out --------------------------------------------------------------------------------------------------


def test_answers_repeat_the_rows_in_order_and_say_where_they_come_from(answers, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": p, "gold": n, "response": "old"}) + "\n" for n, p in enumerate(ASKED)))
    with Server(lambda prompt, nth: "late") as server:
        report = label(server, answers, prompts, system="Be brief.", max_tokens=9)
    assert right(answers) and report.written == report.total == 12 and not report.failed and server.peak <= 8
    first = rows(answers)[0]
    assert list(first) == ["prompt", "gold", "response", "provenance"] and first["gold"] == 0
    source = first["provenance"]
    assert source["served"] == "teacher-large-2026" and source["system"] == "Be brief." and source["terms"] == "read"
    assert (source["tokens_in"], source["tokens_out"], source["finish"], source["endpoint"]) == (10, 5, "stop", server.url)
    body = next(body for body in server.asked if body["messages"][-1]["content"] == ASKED[0])
    assert body == {
        "model": "teacher-large",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED[0]}],
        "temperature": 0.0,
        "max_tokens": 9,
    }


def test_it_works_where_a_loop_is_running_already(answers):
    """As in a notebook's kernel; and the watcher is called in the caller's thread."""
    threads = set()

    async def cell():
        return label(server, answers, ASKED[:3], watch=lambda progress: threads.add(threading.current_thread()))

    with Server() as server:
        assert asyncio.run(cell()).written == 3
    assert threads == {threading.main_thread()}


def test_only_what_was_announced_leaves_the_machine(answers, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "my-organisation")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # no way to a server on this very machine
    with Server() as server:
        assert label(server, answers, ASKED[:1]).written == 1
    assert set(server.headers[0]) <= {
        "host", "accept", "accept-encoding", "connection", "content-type", "content-length", "user-agent", "authorization"
    }  # fmt: skip
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"


def test_no_key_is_sent_where_there_is_none(answers):
    with Server() as server:
        label(server, answers, ASKED[:1], key_env="")
    assert "authorization" not in server.headers[0]


def test_equal_prompts_are_asked_once_and_samples_apart(answers):
    with Server() as server:
        report = label(server, answers, ["one", "two", "one"], samples=2, temperature=0.7)
    assert report.written == 6 and dict(server.times) == {"one": 2, "two": 2}
    assert [(row["prompt"], row["provenance"]["sample"]) for row in rows(answers)] == [
        (p, s) for p in ("one", "two", "one") for s in (0, 1)
    ]


def test_logprobs_are_kept_where_offered(answers):
    with Server() as server:
        label(server, answers, ASKED[:2], logprobs=2)
    assert server.asked[0]["logprobs"] is True and server.asked[0]["top_logprobs"] == 2
    assert rows(answers)[0]["logprobs"] == [{"token": "Ans", "logprob": -0.5, "top": [["Ans", -0.5], ["An", -1.5]]}]


@pytest.mark.parametrize("how", ["refused", "ignored"])
def test_a_server_without_logprobs_is_told_once_and_gives_text(answers, how):
    def behave(prompt, nth):
        if how == "refused" and "logprobs" in server.asked[-1]:
            return 400, {"error": {"message": "logprobs are not supported by this model", "code": None}}
        return "no logprobs"

    said = []
    with Server(behave) as server:
        label(server, answers, logprobs=2, watch=lambda progress: said.append(progress.note))
    assert right(answers) and "logprobs" not in rows(answers)[0]
    assert sum("logprobs" in note for note in said) == 1


def test_a_server_with_another_name_for_max_tokens_is_understood(answers):
    refusal = 400, {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
    with Server(lambda prompt, nth: refusal if "max_tokens" in server.asked[-1] else "ok") as server:
        label(server, answers, max_tokens=7)
    assert right(answers) and server.asked[-1]["max_completion_tokens"] == 7


# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["500", "drop", "half", "cut", "garbage", "strange", "wrong type", "429", "retry-after", "date", "error"])
def test_a_fault_that_passes_costs_a_try_and_nothing_else(answers, fault):
    faults = {
        "429": (429, {"error": {"message": "slow down"}}),
        "retry-after": (429, {"error": "slow down"}, {"retry-after": "0.01"}),
        "date": (503, b"<html>busy</html>", {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        "error": (200, {"error": {"message": "overloaded"}}),
    }
    with Server(lambda prompt, nth: faults.get(fault, fault) if nth == 1 and prompt.endswith(("3", "7")) else "ok") as server:
        report = label(server, answers)
    assert right(answers) and not report.failed and report.again == 2
    assert server.times == dict.fromkeys(ASKED, 1) | {"question 3": 2, "question 7": 2}
    assert bool(report.spent.lost_out) == (fault in ("drop", "half", "cut", "garbage", "strange", "wrong type"))  # may have been charged


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_an_answer_that_does_not_come_in_time_is_asked_again(answers, fault):
    with Server(lambda prompt, nth: fault if nth == 1 and prompt.endswith("3") else "ok") as server:
        report = label(server, answers, timeout=1.0)
    assert right(answers) and report.again >= 1 and report.spent.lost_out == 256 * report.again, "it may have been charged"


def test_what_a_server_sends_beside_the_answer_does_no_harm(answers):
    kinds = itertools.cycle(["choices", "no usage", "ok"])
    with Server(lambda prompt, nth: next(kinds)) as server:
        label(server, answers, concurrency=2)
    assert right(answers)
    assert sum(not row["provenance"]["tokens_counted"] for row in rows(answers)) == 4


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_answer_sent_twice_is_not_taken_for_the_next_one(answers, concurrency):
    """A copy that comes while the next request is under way is known by its id."""
    asked = [f"question {n}" for n in range(60)]
    late = lambda prompt, nth: "twice, late" if prompt in ("question 4", "question 30") and nth == 1 else "ok"  # noqa: E731
    with Server(late, delay=0.03) as server:
        report = label(server, answers, asked, concurrency=concurrency)
    assert right(answers, asked) and not report.failed and report.again >= 2


@pytest.mark.parametrize("concurrency", [1, 4])
def test_an_answer_left_over_in_a_connection_is_never_read(answers, concurrency):
    """Of a server whose ids tell nothing: the copy would be taken for the next answer, and shift all later ones by one."""
    asked, said = [f"question {n}" for n in range(60)], []
    with Server(lambda prompt, nth: "twice" if prompt in ("question 4", "question 30") else "ok") as server:
        server.numbered = False
        report = label(server, answers, asked, concurrency=concurrency, watch=lambda progress: said.append(progress.note))
    assert right(answers, asked) and not report.failed and set(server.times.values()) == {1}
    assert sum("sends more responses than it gets requests" in note for note in said) == 1


def test_a_server_that_gives_all_answers_one_id_is_believed(answers):
    with Server(lambda prompt, nth: (200, {"id": "x", "choices": [{"index": 0, "message": {"content": "yes"}}]})) as server:
        report = label(server, answers)
    assert report.written == 12 and len(server.asked) <= 12 + 8


def test_retry_after_holds_for_all_that_would_be_sent(answers):
    """After a 429 that asks for time the endpoint gets nothing, from any worker, until the time is over."""
    at: list[float] = []

    def behave(prompt, nth):
        at.append(time.monotonic())
        return (429, {"error": "slow down"}, {"retry-after": "0.4"}) if len(at) == 1 else "ok"

    with Server(behave) as server:
        assert label(server, answers, concurrency=2).written == 12
    assert at[2] - at[0] >= 0.39  # a promise to the server, not a matter of speed; a second one may have been under way


def test_an_endpoint_that_has_too_many_gets_half_as_many_and_then_more_again(answers):
    def behave(prompt, nth):
        return (429, {"error": "one at a time"}) if server.under_way > 1 else "ok"

    asked = [f"question {n}" for n in range(40)]
    with Server(behave, delay=0.002) as server:
        report = label(server, answers, asked)
    assert right(answers, asked) and not report.failed


def test_a_row_that_fails_for_good_is_listed_by_line_and_asked_again_next_time(answers):
    with Server(lambda prompt, nth: "500" if prompt.endswith("5") and nth <= 3 else "ok") as server:
        report = label(server, answers, tries=3)
        assert report.failed == ((6, 0, "500: the server broke, 3 times"),) and "line 6" in str(report)
        assert rows(answers.with_name("answers.jsonl.failed")) == [{"line": 6, "sample": 0, "reason": "500: the server broke, 3 times"}]
        assert right(answers, [p for p in ASKED if p != "question 5"])
        assert not label(server, answers).failed
    assert right(answers) and server.times == dict.fromkeys(ASKED, 1) | {"question 5": 4}
    assert not answers.with_name("answers.jsonl.failed").exists()


def test_a_prompt_beyond_the_context_is_marked_and_the_rest_goes_on(answers):
    told = 400, {"error": {"message": "This model's maximum context length is 64 tokens. However, ...", "code": "context_length_exceeded"}}
    with Server(lambda prompt, nth: told if prompt.endswith("1") else "ok") as server:
        report = label(server, answers)
    assert [line for line, _, _ in report.failed] == [2, 12] and "context" in report.failed[0][2]
    assert server.times == dict.fromkeys(ASKED, 1)


def test_answers_of_no_use_are_left_out_and_cut_ones_counted(answers):
    kinds = {"question 1": "empty", "question 2": "length", "question 3": "content_filter"}
    with Server(lambda prompt, nth: kinds.get(prompt, "ok")) as server:
        report = label(server, answers)
        assert [line for line, _, _ in report.failed] == [2, 4] and report.cut == 1 and "cut off" in str(report)
        label(server, answers)
    assert right(answers, [p for p in ASKED if p not in ("question 1", "question 3")])
    assert sum(server.times.values()) == 12, "they were paid for, so they are not asked again"


def test_empty_answers_are_asked_again_on_request(answers):
    kinds = {"question 1": "empty", "question 2": "length", "question 3": "content_filter"}
    with Server(lambda prompt, nth: kinds.get(prompt, "ok") if nth == 1 else "ok") as server:
        report = label(server, answers)
        assert report.empty == 1 and "1 answers are empty: --ask-again empty" in str(report)
        report = label(server, answers, ask_again="empty")
        assert not report.empty and "are empty" not in str(report) and report.written == 11
        label(server, answers, ask_again="empty")
        label(server, answers)
    assert server.times == dict.fromkeys(ASKED, 1) | {"question 1": 2} and right(answers, [p for p in ASKED if p != "question 3"])


def test_a_server_that_answers_nothing_is_given_up(answers):
    with Server(lambda prompt, nth: (400, {"error": {"message": "temperature must be 1"}})) as server, pytest.raises(LabError) as error:
        label(server, answers, [f"q {n}" for n in range(500)])
    assert all(part in str(error.value) for part in ("20 requests", "400", "temperature must be 1"))
    assert len(server.asked) < 40


# ---- sentences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ((401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}), "$OPENAI_API_KEY (401: Incorrect"),
        ((402, {"error": {"message": "no"}}), "asks for payment"),
        ((403, {"error": {"message": "gated"}}), "teacher-large (403: gated)"),
        (
            (404, {"detail": "Not Found"}),
            "lists the model 'teacher-large', but does not answer requests to it (404: Not Found): check --model",
        ),
        ((404, {"detail": "Not Found"}), "has no 'teacher-lurge'. Did you mean 'teacher-large'? Choose from: teacher-large, teacher-small"),
        ((404, b"<!doctype html><p>No such page"), "has no model 'teacher-lurge' at"),
        ((404, b"<!doctype html><p>No such page"), "(404: a web page)"),
        ((403, b"<html>Blocked</html>", {"content-type": "text/html"}), "teacher-large (403: a web page)"),
        ((404, {"error": {"message": "The model does not exist", "code": "model_not_found"}}), "has no model 'teacher-lurge'"),
        ((400, {"detail": "Server is pinned to 'x'; requested 'y'."}), "has no model 'teacher-lurge'"),
        ((429, {"error": {"message": "no", "code": "insufficient_quota"}}), "has no credit left"),
        ((429, {"error": {"message": "tomorrow"}}, {"retry-after": "7200"}), "120 minutes (429: tomorrow)"),
        ((429, {"error": {"message": "never"}}, {"retry-after": "1e300"}), "asks to wait a day or more (429: never)"),
        (
            (503, {}, {"date": "Wed, 21 Oct 2015 07:28:00 GMT", "retry-after": "Wed, 21 Oct 2015 08:28:00 GMT"}),
            "asks to wait 60 minutes (503)",
        ),
        ((307, b"", {"location": "http://elsewhere.example/"}), "http://elsewhere.example/"),
    ],
)
def test_what_ends_a_job_is_one_sentence_with_the_next_step(answers, told, said):
    model = "teacher-lurge" if "lurge" in said or "(404: a web" in said else "teacher-large"
    with Server(lambda prompt, nth: told) as server, pytest.raises(LabError) as error:
        labelling.label(ASKED, answers, endpoints=server.url, model=model, terms="read", tries=1)
    assert said in str(error.value) and "\n" not in str(error.value) and KEY not in str(error.value)
    assert "run the same again" in str(error.value) and len(server.asked) <= 8


def test_an_address_that_is_gone_for_a_while_is_asked_again(answers):
    """As while a gateway is started anew."""
    gone = 404, {"detail": "Not Found"}
    asked = [f"question {n}" for n in range(30)]
    with Server(lambda prompt, nth: gone if prompt in asked[10:20] and nth <= 3 else "ok") as server:
        report = label(server, answers, asked, concurrency=2)
        assert right(answers, asked) and not report.failed and report.again == 30
        server.behave = lambda prompt, nth: gone if prompt != "first" else "ok"
        with pytest.raises(LabError, match=r"no longer answers at .*404: Not Found.*still serves 'teacher-large'"):
            label(server, answers, ["first", *(f"more {n}" for n in range(50))], concurrency=2)
    assert len(server.asked) <= 60 + 1 + 50 * 6


def test_a_request_that_alone_is_not_found_fails_alone(answers):
    """A gateway may have no route for one text; the others are answered all the while."""
    asked = [f"question {n}" for n in range(200)]
    with Server(lambda prompt, nth: (404, {"detail": "Not Found"}) if prompt == asked[3] else "ok") as server:
        report = label(server, answers, asked, concurrency=2, tries=3)
    assert (
        len(report.failed) == 1
        and report.written == 199
        and "404: Not Found, 3 times" in answers.with_name("answers.jsonl.failed").read_text()
    )


def test_a_key_that_is_missing_is_said(answers, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    with Server(lambda prompt, nth: (401, {"error": {"message": "no"}})) as server, pytest.raises(LabError, match="needs a key"):
        label(server, answers)


def test_no_server_is_said(answers):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        with pytest.raises(LabError, match=r"cannot be reached .*check the address"):
            labelling.label(ASKED, answers, endpoints=f"http://127.0.0.1:{taken.getsockname()[1]}", model="m", terms="read", tries=3)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"endpoints": "ftp://host"}, "must begin with http"),
        ({"endpoints": "https://me:secret@host/v1"}, "environment"),
        ({"endpoints": "http://[::1"}, "is not an address"),
        ({"endpoints": ("http://a", "http://a/v1")}, "several different ones"),
        ({"model": ""}, "no name"),
        ({"samples": 3}, "3 times"),
        ({"concurrency": 0}, "from 1 to 512"),
        ({"temperature": 3}, "from 0"),
        ({"logprobs": 1001}, "from 0 to 1,000"),
        ({"timeout": 0}, "above 0"),
        ({"price_in": -1}, "not below 0"),
        ({"ceiling_money": 1}, "needs both prices"),
        ({"key_env": ("A", "B")}, "one each"),
        ({"ask_again": "all"}, "unknown ask_again 'all'.* Choose from: empty"),
    ],
)
def test_settings_that_cannot_be_are_said(settings, said):
    with pytest.raises(LabError, match=said):
        Settings(**{"endpoints": "http://127.0.0.1:1", "model": "m"} | settings)


def test_addresses_and_keys(monkeypatch):
    assert address("http://Localhost:8000/") == "http://localhost:8000/v1"
    assert address("https://host/openai/v1/chat/completions") == "https://host/openai/v1"
    with pytest.raises(LabError, match="not encrypted"):
        Settings(endpoints="http://far.example/v1", model="m").secret("http://far.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "two words")
    with pytest.raises(LabError, match="no key has") as error:
        Settings(endpoints="https://far.example/v1", model="m").secret("https://far.example/v1")
    assert "words" not in str(error.value)


def test_broken_lines_are_told_and_the_rest_kept(answers, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "first"}\n\n{\n[1]\n{"prompt": "last"}\n')
    job = labelling.plan(prompts, answers, endpoints="http://127.0.0.1:1", model="m")
    assert [row.line for row in job.prompts] == [1, 5] and "2 to send" in str(job)
    assert all(str(problem) in str(job) for problem in job.prompts.problems) and [p.line for p in job.prompts.problems] == [3, 4]
    answers.write_text('{"prompt": "a"}')
    with pytest.raises(LabError, match=answers.name):
        labelling.plan(answers, answers, endpoints="http://127.0.0.1:1", model="m")


@pytest.mark.parametrize(
    ("name", "text", "fields"),
    [
        ("a.csv", "Question,answer,Team\none,1,x\ntwo,2,y\n", [{"answer": "1", "Team": "x"}, {"answer": "2", "Team": "y"}]),
        ("a.jsonl", '{"question": "one", "meta": {"n": NaN}}\n{"question": "two", "response": "old"}\n', [{"meta": {"n": None}}, {}]),
        (
            "b.jsonl",
            '{"prompt": null, "question": "one"}\n{"prompt": "two", "question": null}\n',
            [{}, {"question": None}],
        ),
        ("a.json", '[{"instruction": "one"}, {"messages": [{"role": "user", "content": "two"}]}]', [{}, {}]),
    ],
)
def test_what_distill_reads_is_labelled_with_its_other_columns(answers, tmp_path, name, text, fields):
    prompts = tmp_path / name
    prompts.write_text(text)
    with Server() as server:
        label(server, answers, prompts)
    assert right(answers, read_rows(prompts).prompts) and [row.prompt for row in read_rows(answers)] == ["one", "two"]
    extra = [{k: v for k, v in row.items() if k not in ("prompt", "response", "provenance")} for row in rows(answers)]
    assert extra == fields


def test_a_file_of_somebody_else_s_is_never_written_over(answers, tmp_path):
    """Such as the prompts, when the two names change places."""
    answers.write_text("mine\n")
    with Server() as server, pytest.raises(LabError, match=rf"{answers.name}.*another name"):
        label(server, answers)
    assert not server.asked and answers.read_text() == "mine\n" and list(tmp_path.iterdir()) == [answers]
    answers.write_text("")  # as `mktemp` makes it
    with Server() as server:
        assert label(server, answers).written == 12


@pytest.mark.parametrize("fault", ["500", "empty"])
def test_without_an_answer_nothing_is_written(answers, fault):
    with Server(lambda prompt, nth: fault) as server:
        report = label(server, answers, ASKED[:2], tries=1)
        assert "2 requests" in str(report) and not answers.exists()
        server.behave = lambda prompt, nth: "ok" if prompt in ASKED else fault
        label(server, answers, ASKED[2:])
        label(server, answers, ["another"], tries=1)
    assert right(answers, ASKED[2:]), "the answers of the run before stay until there are others"


# ---- limits ----------------------------------------------------------------------------------------------------------


def test_a_ceiling_in_tokens_is_never_broken_and_holds_over_restarts(answers):
    most = len("question 0") + 64 + 100  # what a request may take, at most
    with Server() as server:
        for _ in range(2):  # the second run finds the ceiling where the first one met it
            report = label(server, answers, ASKED[:10] * 4 + [f"more {n}" for n in range(90)], max_tokens=100, ceiling_tokens=600)
            assert "ceiling of 600 tokens" in report.stopped and report.spent.tokens <= 600
            assert 600 - report.spent.tokens < most, "and it is used as far as it can be"
    assert sum(server.times.values()) == report.spent.tokens // 15


def test_a_ceiling_in_money_counts_what_may_have_been_charged(answers):
    with Server(lambda prompt, nth: "cut") as server:
        report = label(server, answers, price_in=1.0, price_out=10.0, ceiling_money=0.02, tries=100, concurrency=2)
    assert "ceiling of 0.02 in money" in report.stopped and report.money <= 0.02 and report.written == 0
    assert len(server.asked) == 7, "256 tokens of 10 a million each"


@pytest.mark.parametrize("finish", ["stop", "length"])
def test_a_ceiling_holds_where_the_server_counts_nothing(answers, finish):
    """Of a text in a script with a token a byte, and with a reasoning that is longer than the answer; a cut one may hide more."""
    message = {"content": "\u8a2d" * 4, "reasoning_content": "\u8a2d" * 20}
    told = {"choices": [{"index": 0, "message": message, "finish_reason": finish}]}
    with Server(lambda prompt, nth: (200, told)) as server:
        report = label(server, answers, max_tokens=100, ceiling_tokens=900)
    used = len("question 0") + (3 * 24 + 1 if finish == "stop" else 100)
    assert "ceiling of 900 tokens" in report.stopped and 1 <= report.written < 12
    assert len(server.asked) * used <= report.spent.tokens <= 900


def test_the_rate_limit_spaces_requests(answers):
    at, began = [], time.monotonic()
    with Server(lambda prompt, nth: at.append(time.monotonic()) or "ok") as server:
        label(server, answers, per_minute=3000)
    assert len(at) == 12 and at[-1] - began >= 11 * 0.02, "a busy machine only adds to it"


def test_several_endpoints_share_the_work_and_one_may_fall_out(answers):
    asked, said = [f"question {n}" for n in range(60)], []
    with Server(delay=0.005) as one, Server(delay=0.005) as two, Server(lambda prompt, nth: (401, {})) as three:
        report = label([one, two, three], answers, asked, watch=lambda progress: said.append(progress.note))
    assert right(answers, asked) and report.written == 60
    assert sum(one.answered.values()) > 10 and sum(two.answered.values()) > 10
    assert sum((one.answered + two.answered).values()) == 60
    assert sum("other endpoints" in note for note in said) == 1
    assert {row["provenance"]["endpoint"] for row in rows(answers)} == {one.url, two.url}


# ---- nothing lost, nothing twice -------------------------------------------------------------------------------------


def test_a_killed_job_asks_nothing_again_that_was_answered(answers, tmp_path):
    """The server answers 20 requests and holds the others; the job is killed with those under way, and then run again."""
    asked = [f"question {n}" for n in range(50)]
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in asked))
    with Server(lambda prompt, nth: "ok" if sum(server.answered.values()) < 20 else "hold") as server:
        words = [sys.executable, "-m", "labkit", "label", "--endpoint", server.url, "--model", "m", str(prompts), str(answers)]
        words += ["--terms", "read", "--yes", "--concurrency", "4"]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        job = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        path = answers.with_name("answers.jsonl.journal")
        while job.poll() is None and (not path.exists() or path.read_bytes().count(b'"response"') < 20 or server.under_way < 4):
            time.sleep(0.01)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL, job.stderr.read()
        with path.open("ab") as file:
            file.write(b'{"key": "cut sho')  # and a row that it was just writing
        first = dict(server.answered)
        assert len(first) == 20 and not answers.exists()
        server.open_again.set()
        done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "4 requests were in flight when the job was killed" in done.stdout
    assert "20 are answered already; 30 to send" in done.stdout and "50 of 50 answers" in done.stdout
    assert right(answers, asked) and all(server.times[prompt] == 1 for prompt in first)
    assert sum(server.times.values()) == 54, "only the four that were under way were sent twice"


def test_sigterm_ends_a_job_at_once_and_its_answers_are_kept(answers, tmp_path):
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in ASKED))
    with Server(lambda prompt, nth: "hold" if prompt == ASKED[3] else "ok") as server:
        words = [sys.executable, "-m", "labkit", "label", str(tmp_path / "asked.jsonl"), str(answers), "--endpoint", server.url]
        words += ["--model", "teacher-large", "--terms", "read", "--yes", "--concurrency", "1"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
            while not server.under_way or len(server.asked) < 4:
                time.sleep(0.01)
            job.terminate()
            assert job.wait() == 143, job.stderr.read()
        server.open_again.set()
        assert label(server, answers, concurrency=1).written == 12
    assert [server.times[prompt] for prompt in ASKED[:4]] == [1, 1, 1, 2], "what was under way is sent again"


def test_what_was_in_flight_at_a_kill_counts_as_used(answers, monkeypatch):
    """The journal names each request before it is sent; one that nothing follows may have been billed."""
    path, most = answers.with_name("answers.jsonl.journal"), len("question 0") + 64 + 100
    with Server(lambda prompt, nth: (400, {"error": {"message": "no"}}) if prompt == ASKED[1] else "500" if nth == 1 else "ok") as server:
        label(server, answers, ASKED[:3], max_tokens=100)
        kept = rows(path)
        assert Counter("sent" if "sent" in row else "other" for row in kept if "key" in row) == {"sent": 5, "other": 5}
        job = labelling.plan(ASKED[:3], answers, endpoints=server.url, model="teacher-large", max_tokens=100)
        assert job.spent.tokens == 30 and not job.in_flight and "in flight" not in str(job)
        key = job.settings.key(ASKED[5], 0)
        append_row(path, {"key": key, "sent": [most - 100, 100], "at": ""})
        job = labelling.plan(ASKED, answers, endpoints=server.url, model="teacher-large", max_tokens=100)
        assert job.spent.tokens == 30 + most
        assert f"1 requests were in flight when the job was killed: up to {most:,} of these tokens may have been billed" in str(job)
        report = label(server, answers, max_tokens=100, ceiling_tokens=40 + most)
        assert "ceiling" in report.stopped and report.spent.tokens == 30 + most, "and it holds a ceiling"
        report = label(server, answers, max_tokens=100)
    assert report.written == 11 and report.spent.tokens == 30 + most + 9 * 15
    assert report.spent == labelling.plan(ASKED, answers, endpoints=server.url, model="teacher-large", max_tokens=100).spent


def test_a_journal_of_before_without_the_requests_in_flight_is_read(answers):
    with Server() as server:
        label(server, answers)
        path = answers.with_name("answers.jsonl.journal")
        path.write_text("".join(json.dumps(row) + "\n" for row in rows(path) if "sent" not in row))
        report = label(server, answers)
    assert report.written == 12 and report.spent.tokens == 12 * 15 and set(server.times.values()) == {1}


@pytest.mark.parametrize(("said", "edited"), [('"tokens": [10, 5]', '"tokens": [10, 6]'), ('"sent": [', '"sent": [1'), ('{"key"', '{"kex')])
def test_a_damaged_row_of_the_journal_is_told_and_an_answer_in_it_is_asked_again(answers, said, edited):
    path = answers.with_name("answers.jsonl.journal")
    with Server() as server:
        label(server, answers)
        lines = path.read_text().splitlines(keepends=True)
        line = next(n for n, text in enumerate(lines) if said in text and ('"response"' in text or "sent" in said))
        lines[line] = lines[line].replace(said, edited)
        path.write_text("".join(lines))
        job = labelling.plan(ASKED, answers, endpoints=server.url, model="teacher-large")
        lost = 0 if "sent" in said else 1
        told = f"Line {line + 1} of {path} is damaged, cut short or edited, and is left out: put it back from a copy"
        assert told in str(job) and len(job.todo) == lost and len(job.in_flight) == lost
        assert told in str(label(server, answers))
        assert lines[line] in path.read_text(), "nothing that was paid for is deleted"
    assert right(answers) and sum(server.times.values()) == 12 + lost


def test_a_journal_of_before_without_checksums_is_read(answers):
    path = answers.with_name("answers.jsonl.journal")
    with Server() as server:
        label(server, answers)
        path.write_text(re.sub(',"seal":"[0-9a-f]+"', "", path.read_text()))
        assert "seal" not in path.read_text()
        assert label(server, answers).written == 12
    assert set(server.times.values()) == {1}


def test_a_plan_that_is_run_twice_looks_into_the_journal_again(answers):
    with Server() as server:
        job = labelling.plan(ASKED, answers, endpoints=server.url, model="m")
        assert labelling.run(job, terms="read").written == labelling.run(job, terms="read").written == 12
    assert set(server.times.values()) == {1}


def test_a_changed_request_is_another_request_and_the_old_answers_stay(answers):
    with Server() as server:
        label(server, answers)
        label(server, answers, temperature=0.5)
        assert sum(server.times.values()) == 24
        label(server, answers, concurrency=1, timeout=5, price_in=1.0, price_out=1.0)  # how it is sent makes no other request
    assert sum(server.times.values()) == 24 and right(answers)


def test_an_interrupt_waits_for_what_is_under_way_and_the_next_run_goes_on(answers, monkeypatch):
    said = []

    def watch(progress):
        said.append(progress.note)
        if not any("Stopping" in note for note in said) and progress.done >= 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "TELL_EVERY", 0.01)
    asked = [f"question {n}" for n in range(40)]
    with Server(delay=0.02) as server:
        report = label(server, answers, asked, concurrency=2, watch=watch)
        assert report.stopped == "interrupted" and 4 <= report.written < 40 and report.left == 40 - report.written and not report.failed
        assert sum(server.answered.values()) == report.written, "all that was sent is kept"
        assert any("under way" in note for note in said)
        assert label(server, answers, asked).written == 40
    assert right(answers, asked) and set(server.times.values()) == {1}


def test_a_second_interrupt_gives_up_what_is_under_way(answers, monkeypatch):
    presses = iter(range(2))

    def watch(progress):
        if server.under_way == 4 and next(presses, None) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "TELL_EVERY", 0.01)
    with Server(lambda prompt, nth: "hang" if nth == 1 else "ok") as server:
        report = label(server, answers, ASKED[:4], watch=watch)
        assert report.left == 4 and report.spent.lost_out == 4 * 256, "they may be charged"
        assert label(server, answers, ASKED[:4]).written == 4


def test_a_watcher_that_fails_ends_the_job_in_order(answers):
    def watch(progress):
        raise ZeroDivisionError

    with Server() as server:
        with pytest.raises(ZeroDivisionError):
            label(server, answers, watch=watch)
        report = label(server, answers)
    assert report.written == 12 and set(server.times.values()) == {1}


def test_a_full_disk_stops_the_job_and_keeps_what_is_under_way(answers, monkeypatch):
    """The disk is full until the reserve is given up: the answers under way are kept in it, and nothing more is sent."""
    spare, append = answers.with_name("answers.jsonl.reserve"), journal.append_row

    def full(path, row):
        if spare.exists() and path.read_bytes().count(b'"response"') >= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(path, row)

    monkeypatch.setattr(journal, "append_row", full)
    asked = [f"question {n}" for n in range(40)]
    with Server(delay=0.01) as server:
        with pytest.raises(LabError, match=r"No space left on device.*Make room.*run the same"):
            label(server, answers, asked, concurrency=4)
        kept = sum(server.answered.values())
        assert 6 <= kept <= 9 and len(rows(answers)) == kept
        monkeypatch.setattr(journal, "append_row", append)
        assert label(server, answers, asked).written == 40
    assert right(answers, asked) and set(server.times.values()) == {1} and not spare.exists()


def test_a_plan_beside_a_job_at_work_does_not_call_it_killed(answers, monkeypatch):
    """`labkit label --dry-run` while another process labels into the same file."""
    words = {"endpoints": "http://127.0.0.1:1/v1", "model": "m"}
    job = labelling.plan(ASKED, answers, **words)
    assert not job.other and not any(answers.parent.iterdir()), "looking makes no file"
    with Journal(answers) as journal:
        journal.write({"key": job.requests[0], "sent": [10, 5], "at": ""})
        beside = str(labelling.plan(ASKED, answers, **words))
        assert f"Another job is at work on {answers}, and answers some of these requests: wait until it has ended." in beside
        assert "1 requests are in flight in the other job: up to 15 of these tokens may have been billed." in beside
        assert "killed" not in beside
    after = str(labelling.plan(ASKED, answers, **words))
    assert "1 requests were in flight when the job was killed: up to 15" in after and "Another job" not in after
    with Journal(answers):
        pass  # a look leaves the lock free


def test_one_job_at_a_time_writes_into_a_journal(answers):
    with Server() as server, Journal(answers), pytest.raises(LabError, match=answers.name):
        label(server, answers)


def test_the_key_is_nowhere_on_disk_even_if_the_server_says_it(answers, tmp_path, capsys):
    echo = {"choices": [{"index": 0, "message": {"content": f"your key is {KEY} \ud800"}, "finish_reason": "stop"}]}
    told = {"question 1": (400, {"error": {"message": f"bad {KEY}"}}), "question 2": (200, echo)}
    with Server(lambda prompt, nth: told.get(prompt, "ok")) as server:
        report = label(server, answers)
    assert len(report.failed) == 1 and KEY not in str(report) and "bad [key]" in str(report)
    assert rows(answers)[1]["response"] == "your key is [key] ?"
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("key", ["key", "response", "1", "Answer", "EMPTY", "the beginning of a request's hash", 'sk-with-a-"-and-a-\\'])
def test_a_key_that_is_a_word_of_the_journal_s_own_harms_nothing(answers, monkeypatch, key):
    """Servers of one's own are sent such keys; what they say is kept as it is, and nothing is paid for twice."""
    if key.startswith("the beginning"):
        key = Settings(endpoints="http://127.0.0.1:1", model="teacher-large").key(ASKED[0], 0)[:16]
    monkeypatch.setenv("OPENAI_API_KEY", key)
    echo = {"choices": [{"index": 0, "message": {"content": f"your key is {key}"}, "finish_reason": "stop"}]}
    with Server(lambda prompt, nth: (200, echo) if prompt == "my key?" else "ok") as server:
        assert label(server, answers).written == 12
        assert right(answers)
        assert label(server, answers, [*ASKED, "my key?"]).written == 13
    assert set(server.times.values()) == {1}
    assert rows(answers)[-1]["response"] == f"your key is {key if len(key) < 12 else '[key]'}"


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def words(tmp_path, answers):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": p}) + "\n" for p in ASKED))
    return lambda server, *more: ["label", "--endpoint", server.url, "--model", "teacher-large", str(prompts), str(answers), *more]


def test_a_dry_run_sends_nothing_and_says_all(words, answers, capsys):
    with Server() as server:
        assert main(words(server, "--dry-run", "--price-in", "0.5", "--price-out", "2", "--ceiling-money", "1")) == 0
        assert main(words(server, "--dry-run")) == 0
    said = capsys.readouterr().out
    assert not server.asked and not answers.exists()
    assert "12 requests; 12 to send" in said and "at most 3,072 written" in said
    assert "Money: at most about 0.006" in said and "before it has used 1 in money" in said and "Money: not known" in said
    assert f"{server.url}, with the key in $OPENAI_API_KEY" in said and KEY not in said


def test_nobody_to_ask_sends_nothing(words, capsys):
    with Server() as server:
        assert main(words(server)) == 2
    assert not server.asked and "licence of teacher-large" in capsys.readouterr().err


@pytest.mark.parametrize(("typed", "code"), [(["read", "y"], 0), (["no"], 2), (["read", "n"], 2), ([""], 2)])
def test_both_questions_must_be_answered(words, monkeypatch, typed, code):
    given = iter(typed)
    monkeypatch.setattr("builtins.input", lambda question: next(given))
    monkeypatch.setattr(command.sys.stdin, "isatty", lambda: True, raising=False)
    with Server() as server:
        assert main(words(server)) == code
    assert bool(server.asked) == (code == 0) and not list(given)


def test_a_script_labels_and_its_exit_code_says_whether_all_was_answered(words, capsys):
    with Server(lambda prompt, nth: "empty" if prompt.endswith("4") and nth < 3 else "ok") as server:
        assert main(words(server, "--terms", "read", "--yes")) == 1
        assert main(words(server, "--terms", "read", "--yes", "--ask-again", "empty")) == 1
    said = capsys.readouterr().out
    assert "11 of 12 answers are in" in said and "line 5: an empty answer" in said and "12/12 answered" in said


def test_terms_must_be_read_in_python_too(answers):
    with pytest.raises(LabError, match="terms='read'"):
        labelling.label(ASKED, answers, endpoints="https://api.example.com/v1", model="m")


def test_the_words_before_sending_name_who_gets_what(answers):
    job = labelling.plan(ASKED, answers, endpoints=["https://api.example.com", "http://127.0.0.1:1"], model="m", key_env=("A_KEY", ""))
    said = str(job)
    assert "https://api.example.com/v1, without a key ($A_KEY" in said
    assert "http://127.0.0.1:1/v1, without a key" in said
    assert "api.example.com" in job.question()


# ---- a real server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real_server(tmp_path_factory):
    """`transformers serve` on loopback, with the real teacher; skipped where either is missing."""
    for package in ("fastapi", "uvicorn", "transformers"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'transformers[serving]'")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "labkit"
    folder = Path(os.environ.get("LABKIT_SMOLLM2") or cache / "models" / "smollm2")
    if not (folder / "model.safetensors").is_file():
        pytest.skip(f"no model in {folder}: `labkit fetch smollm2` brings it, or set LABKIT_SMOLLM2 to its folder")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder), "--dtype", "float32"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*words, "--host", "127.0.0.1", "--port", str(port)], stdout=out, stderr=out, env=os.environ | {"HF_HUB_OFFLINE": "1"}
        )
    try:
        while True:
            assert server.poll() is None, log.read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1", str(folder)
    finally:
        server.terminate()
        server.wait()


def test_a_real_server_answers_with_text_alone(real_server, answers):
    url, model = real_server
    said = []
    asked = ["What is the capital of France?", "What is 2 + 2?"]
    settings = {"endpoints": url, "model": model, "terms": "read", "max_tokens": 12, "key_env": "", "timeout": 500.0}
    report = labelling.label(asked, answers, **settings, logprobs=2, watch=lambda progress: said.append(progress.note))
    first = rows(answers)
    assert report.written == 2 and "Paris" in first[0]["response"] and all(row["response"] for row in first)
    assert any("sends no logprobs" in note for note in said)
    assert all(row["provenance"]["tokens_counted"] and row["provenance"]["tokens_out"] <= 12 for row in first)
    with pytest.raises(LabError, match="has no model 'smollm3'"):
        labelling.label(asked, answers.with_name("other.jsonl"), **settings | {"model": "smollm3"})
