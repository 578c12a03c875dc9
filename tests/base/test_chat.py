"""Prompts of several turns, and thinking apart from answers."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.base.chat import Chat, from_json, messages_of, prompt_of, to_json
from labkit.base.thinking import Thought, join_thinking, split_thinking

TURNS = [("system", "Be brief."), ("user", "2 + 2?"), ("assistant", "4"), ("user", "And 3 more?")]


def test_one_turn_of_the_user_is_plain_text():
    assert type(prompt_of([("user", "Hello")])) is str
    assert messages_of("Hello") == [{"role": "user", "content": "Hello"}]


def test_as_a_text_a_chat_is_flattened():
    assert prompt_of(TURNS) == "Be brief.\n\nUser: 2 + 2?\n\nAssistant: 4\n\nUser: And 3 more?"
    assert prompt_of(TURNS[:2]) == "Be brief.\n\n2 + 2?"


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=9)), min_size=1, max_size=5))
def test_turns_survive_files_copies_and_pickles(turns):
    prompt = prompt_of(turns)
    for other in (from_json(json.loads(json.dumps(to_json(prompt)))), copy.deepcopy(prompt), pickle.loads(pickle.dumps(prompt))):
        assert (other, messages_of(other)) == (prompt, messages_of(prompt))
        assert [(m["role"], m["content"]) for m in messages_of(other)] == turns
        assert isinstance(other, Chat) == isinstance(prompt, Chat)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("<think>\na b\n</think>\n\n4", Thought("a b", "4")),
        ("a b\n</think>\n\n4", Thought("a b", "4")),
        ("<think>\n\n</think>\n\n4", Thought("", "4")),
        ("<think>a b", Thought("a b", "", cut=True)),
        ("[THINK]a[/THINK]4", Thought("a", "4")),
        ("4", Thought("", "4")),
        ("Write <think> first.", Thought("", "Write <think> first.")),
        ("Close it with </think> at the end.", Thought("", "Close it with </think> at the end.")),
        ("`</think>` is a mark.", Thought("", "`</think>` is a mark.")),
        ("Write <think>your steps</think> first.", Thought("", "Write <think>your steps</think> first.")),
        ("<a><thought>x</thought><b>y</b></a>", Thought("", "<a><thought>x</thought><b>y</b></a>")),
        ("It wants 2+2.\nThat is 4.</think>The answer is 4.", Thought("It wants 2+2.\nThat is 4.", "The answer is 4.")),
        ("<|channel|>final<|message|><think>a</think>4", Thought("a", "4")),
        ("<|channel|>analysis<|message|>a b<|end|><|start|>assistant<|channel|>final<|message|>4", Thought("a b", "4")),
        ("<|channel|>analysis<|message|>a b", Thought("a b", "", cut=True)),
        ("<|channel|>final<|message|>4", Thought("", "4")),
        ("<think>a</think>\n<think>b</think>\n4", Thought("a\nb", "4")),
        ("<think>a</think><think>b", Thought("a\nb", "", cut=True)),
        ("<seed:think>a</seed:think>4", Thought("a", "4")),
        ("◁think▷a◁/think▷4", Thought("a", "4")),
    ],
)
def test_thinking_is_apart_from_the_answer(text, parts):
    assert split_thinking(text) == parts


@given(st.text(alphabet="ab \n", max_size=9), st.text(alphabet="ab<", max_size=9))
def test_joined_and_split_again(reasoning, answer):
    assert split_thinking(join_thinking(reasoning.strip(), answer)) == Thought(reasoning.strip(), answer)
