"""Rows of a learner's own: every kind of file, what is broken in them, and splits that do not leak."""

from __future__ import annotations

import csv
import datetime
import decimal
import hashlib
import json
import math
import re
import runpy
import sys
import tempfile
import types
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.base.chat import messages_of, prompt_of
from labkit.base.errors import LabError
from labkit.records.names import LEARN
from labkit.tasks.custom import cells
from labkit.tasks.custom.rows import CustomRows, Row, read_rows, same, split, write_rows
from labkit.tasks.custom.shapes import CHATS, CHOICES, CONTEXTS, PROMPTS, RESPONSES, SEVERAL_COLUMNS, SYSTEMS

REPOSITORY = Path(__file__).resolve().parent.parent.parent
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
FULL = TEXTS.filter(str.strip)


def kept(tmp_path: Path, data: bytes | str, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def pairs(rows: CustomRows) -> list[tuple[str, str | None]]:
    return [(row.prompt, row.response) for row in rows]


# ---- lines -------------------------------------------------------------------------------------------------------------


def test_broken_lines_cost_themselves_only(tmp_path):
    lines = [
        b'\xef\xbb\xbf{"prompt": "one", "response": "1"}\r',
        b"{broken\r",
        b"\r",
        b'{"prompt": "  "}\r',
        b"[1, 2]\r",
        b'{"prompt": "\xff\xfe"}\r',
        b'{"prompt": "half \\ud800"}\r',
        b'{"other": 1}\r',
        b'{"prompt": ["x"]}\r',
        b'{"prompt": "x", "response": ["y", "z"]}\r',
        b"[" * 100_000,
        b'{"prompt": "x", "deep": ' + b"[" * 800 + b"]" * 800 + b"}",
        '{"prompt": "a\u2028b", "response": "émigré 日本"}'.encode(),
    ]
    rows = read_rows(kept(tmp_path, b"\n".join(lines)))
    assert list(rows) == [Row("one", "1", 1), Row("a\u2028b", "émigré 日本", 13)]
    assert [problem.line for problem in rows.problems] == [2, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    says = ["not JSON", "empty", "a list", "UTF-8", "UTF-8", "no prompt", "a message must be", "is a list", "JSON", "recursion"]
    assert all(word in problem.reason for word, problem in zip(says, rows.problems, strict=True))
    assert "line 2: not JSON" in rows.summary and "and 5 more" in rows.summary and "other" in rows.summary


def test_a_list_is_read_as_a_file_is():
    given = ["one", {"Question": "two", "answer": 2, "team": "x"}, 3]
    rows = read_rows(given)
    assert pairs(rows) == [("one", None), ("two", "2")] and [problem.line for problem in rows.problems] == [3]
    assert [row.fields for row in rows] == [{}, {"answer": 2, "team": "x"}] and rows.unused == ("team",)


@pytest.mark.parametrize("data", ["", "\n\n", "{", '{"prompt": ""}', "\ufeff", "[]"])
def test_nothing_usable_is_an_error_with_its_fix(tmp_path, data):
    with pytest.raises(LabError, match=r"no usable row.*Give each row a prompt"):
        read_rows(kept(tmp_path, data))


@pytest.mark.parametrize(
    ("row", "prompt", "response"),
    [
        ({"prompt": "p", "response": "r"}, "p", "r"),
        ({"Prompt ": "p", "completion": "r"}, "p", "r"),
        ({"question": "q", "answer": 42}, "q", "42"),
        ({"question": "q", "answer": True}, "q", "true"),
        ({"instruction": "i", "input": "x", "output": "o"}, "i\n\nx", "o"),
        ({"instruction": "i", "input": "", "output": "o"}, "i", "o"),
        ({"input": "i", "output": "o"}, "i", "o"),
        ({"text": "t", "label": 0}, "t", "0"),
        ({"prompt": "p", "response": {"a": 1}}, "p", '{"a": 1}'),
        ({"prompt": "p", "response": None}, "p", None),
        ({"prompt": "p", "response": "  "}, "p", None),
        ({"prompt": "p"}, "p", None),
        ({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": "a"}]}, "u", "a"),
        ({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]}, "s\n\nu", None),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "u"}]}]}, "u", None),
        ({"conversations": [{"from": "human", "value": "u"}, {"from": "gpt", "value": "a"}]}, "u", "a"),
        ({"prompt": [{"role": "user", "content": "u"}], "completion": [{"role": "assistant", "content": "a"}]}, "u", "a"),
        ({"prompt": [{"role": "user", "content": "u"}], "answer": "a"}, "u", "a"),
    ],
)
def test_columns_are_found_by_name(tmp_path, row, prompt, response):
    assert pairs(read_rows(kept(tmp_path, json.dumps(row)))) == [(prompt, response)]


def test_of_several_turns_the_last_is_the_answer(tmp_path):
    turns = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rows = read_rows(kept(tmp_path, json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]})))
    assert pairs(rows) == [("User: a\n\nAssistant: b\n\nUser: c", "d")]
    assert messages_of(rows[0].prompt) == [{"role": r, "content": c} for r, c in turns[:3]]
    assert messages_of(read_rows(rows.prompts)[0].prompt) == messages_of(rows[0].prompt), "a list of prompts keeps them too"


@pytest.mark.parametrize("name", ["ChatGPT", "bing", "Bard", "model", "assistant", "gpt", "ai"])
def test_names_of_the_assistant(tmp_path, name):
    rows = read_rows(kept(tmp_path, json.dumps({"conversations": [{"from": "Human", "value": "q"}, {"from": name, "value": "a"}]})))
    assert pairs(rows) == [("q", "a")]


def test_two_kinds_of_chat_in_one_table(tmp_path):
    """As `datasets` unifies them: each message has all four fields, and those of the other kind are null."""
    datasets = pytest.importorskip("datasets")
    openai = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    sharegpt = {"messages": [{"from": "human", "value": "r"}, {"from": "gpt", "value": "b"}]}
    table = datasets.Dataset.from_list([openai, sharegpt])
    table.to_parquet(tmp_path / "a.parquet")
    assert pairs(read_rows(tmp_path / "a.parquet")) == pairs(read_rows(table)) == [("q", "a"), ("r", "b")]


@pytest.mark.parametrize("form", [" %s", "\n%s\n", ' {"messages": %s}', '{"conversations": %s, "id": 1}'])
def test_chats_as_json_text_in_other_forms(tmp_path, form):
    chat = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
    text = form % json.dumps(chat, indent=1)
    assert pairs(read_rows([{"conversations": text}])) == [("q", "a")]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "conversations"), (1, text)])
    assert pairs(read_rows(tmp_path / "a.csv")) == [("q", "a")]


def test_a_text_that_only_begins_like_a_chat_is_none():
    rows = read_rows([{"prompt": "p", "conversation": "{see above}"}, {"prompt": "p", "conversation": "[1]", "response": "r"}])
    assert pairs(rows) == [("p", None), ("p", "r")]
    assert pairs(read_rows([{"question": "q", "messages": {"id": 3}}])) == [("q", None)]


def test_chats_as_columns():
    columns = {"from": ["human", "gpt"], "value": ["q", "a"], "weight": [None, 1]}
    assert pairs(read_rows([{"conversations": columns}, {"messages": json.dumps(columns)}])) == [("q", "a")] * 2
    with pytest.raises(LabError, match="no prompt"):
        read_rows([{"conversations": columns | {"value": ["q"]}}])


def test_empty_fields_of_the_other_kind_of_chat_are_absent():
    openai = [{"role": "user", "content": "q", "from": "", "value": ""}, {"role": "assistant", "content": "a", "from": "", "value": ""}]
    sharegpt = [{"role": "", "content": "", "from": "human", "value": "r"}, {"role": "", "content": "", "from": "gpt", "value": "b"}]
    assert pairs(read_rows([{"messages": openai}, {"messages": sharegpt}])) == [("q", "a"), ("r", "b")]


@pytest.mark.parametrize(
    ("mark", "learned"),
    [
        *((mark, None) for mark in ({"weight": "0"}, {"weight": "0.0"}, {"weight": 0.0}, {"train": False}, {"train": "false"})),
        *((mark, None) for mark in ({"training": False}, {"training": "False"}, {"loss": False})),
        *((mark, "a") for mark in ({"weight": "1"}, {"weight": "0.5"}, {"weight": None}, {"train": "true"}, {"training": True})),
    ],
)
def test_marks_of_a_turn_that_is_not_wanted(mark, learned):
    rows = read_rows([{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", **mark}]}])
    assert pairs(rows) == [("q", learned)] and ("not wanted" in rows.summary) == (learned is None)


@pytest.mark.parametrize(
    ("name", "data", "column"),
    [
        ("a.csv", "prompt,response,response\np,old,r\n", "response"),
        ("a.csv", "prompt,Response,response \np,old,r\n", "response"),
        ("a.jsonl", '{"prompt": "old", "prompt": "p", "response": "r"}', "prompt"),
        ("a.json", '[{"Prompt": "old", "response": "r", "prompt": "p"}]', "prompt"),
    ],
)
def test_columns_of_one_name_are_told(tmp_path, name, data, column):
    rows = read_rows(kept(tmp_path, data, name))
    assert pairs(rows) == [("p", "r")] and f"1 rows have several columns {column!r}: the last one is used." in rows.summary
    assert "several columns" not in read_rows(kept(tmp_path, '{"prompt": "p", "response": "r"}')).summary


MESSAGE = '{"role": "user", "content": "old", "content": "p"}'


@pytest.mark.parametrize(
    ("name", "data", "fields"),
    [
        ("a.jsonl", f'{{"messages": [{MESSAGE}]}}', ["content"]),
        ("a.jsonl", f'{{"messages": {{"messages": [{MESSAGE}]}}}}', ["content"]),
        ("a.jsonl", json.dumps({"messages": f"[{MESSAGE}]"}), ["content"]),  # JSON text, as a table has it
        ("a.json", '[{"prompt": [{"role": "system", "role": "user", "content": [{"text": "old", "text": "p"}]}]}]', ["role", "text"]),
        ("a.csv", 'messages\n"[' + MESSAGE.replace('"', '""') + ']"\n', ["content"]),
        ("a.jsonl", '{"prompt": "p", "notes": {"by": {"name": "a", "name": "b"}}}', ["name"]),
        ("a.jsonl", '{"prompt": "p", "notes": [1, [2, {"name": "a", "name": "b"}]]}', ["name"]),
    ],
)
def test_fields_of_one_name_are_told_at_every_depth(tmp_path, name, data, fields):
    rows = read_rows(kept(tmp_path, data, name))
    assert rows.prompts == ["p"]
    for field in fields:
        assert re.search(rf"1 rows have several fields '{field}' in an object of the column '\w+': the last one is used", rows.summary)


def test_numbers_of_a_cell_are_not_searched_one_by_one(monkeypatch):
    """Rows may have embeddings of thousands of numbers."""
    searched, search = [], cells.repeated
    monkeypatch.setattr(cells, "repeated", lambda value: searched.append(value) or search(value))
    assert cells.repeated({"embedding": [0.5] * 1536, "text": "t"}) == set() and len(searched) == 3


def test_weights_of_earlier_turns_do_not_matter():
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "weight": 0}, {"role": "user", "content": "r"}]
    rows = read_rows([{"messages": [*chat, {"role": "assistant", "content": "b", "weight": 1}]}, {"messages": chat[:2]}])
    assert [row.response for row in rows] == ["b", None] and len(messages_of(rows[0].prompt)) == 3


@pytest.mark.parametrize(
    "messages",
    [
        [],
        ["a"],
        [{"role": "assistant", "content": "a"}],
        [{"role": "tool", "content": "a"}],
        [{"role": "user", "content": None}],
        [{"role": "user", "content": [{"type": "image_url"}]}],
    ],
)
def test_chats_without_a_question_are_problems(tmp_path, messages):
    path = kept(tmp_path, json.dumps({"prompt": "fine"}) + "\n" + json.dumps({"messages": messages}))
    assert [problem.line for problem in read_rows(path).problems] == [2]


def test_columns_may_be_named(tmp_path):
    path = kept(tmp_path, json.dumps({"Body": "b", "Team": "t", "prompt": "no"}))
    assert pairs(read_rows(path, prompt_column="body", response_column="Team")) == [("b", "t")]
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    assert pairs(read_rows([{"messages": chat, "verdict": "v"}], response_column="verdict")) == [("q", "v")]
    with pytest.raises(LabError, match="Did you mean 'body'"):
        read_rows(path, prompt_column="bodi")


# ---- tables ------------------------------------------------------------------------------------------------------------


@given(rows=st.lists(st.tuples(FULL, TEXTS), min_size=1, max_size=5))
def test_every_kind_of_file_gives_equal_rows(rows, tmp_path_factory):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    folder = tmp_path_factory.mktemp("kinds")
    wanted = [(prompt.strip(), response.strip() or None) for prompt, response in rows]
    cells = [{"prompt": prompt, "response": response} for prompt, response in rows]
    (folder / "a.jsonl").write_text("\n".join(map(json.dumps, cells)), encoding="utf-8", newline="")
    (folder / "a.json").write_text(json.dumps(cells), encoding="utf-8", newline="")
    parquet.write_table(pyarrow.Table.from_pylist(cells), folder / "a.parquet")
    for name, separator in (("a.csv", ","), ("b.csv", ";"), ("a.tsv", "\t")):
        with (folder / name).open("w", encoding="utf-8-sig", newline="") as file:
            writer = csv.writer(file, delimiter=separator, quoting=csv.QUOTE_ALL)
            writer.writerows([("prompt", "response"), *rows])
    for path in sorted(folder.iterdir()):
        read = read_rows(path)
        assert pairs(read) == wanted and not read.problems, path.name


def test_tables_tell_lines_and_keep_words_that_look_empty(tmp_path):
    data = 'question,answer\r\n"two\r\nlines",NA\r\nWhich?,a,b\r\n\r\nlast,null\r\n"open,x\r\nmore'
    rows = read_rows(kept(tmp_path, data, "rows.csv"))
    assert list(rows) == [Row("two\r\nlines", "NA", 2), Row("last", "null", 6)]
    assert [problem.line for problem in rows.problems] == [4, 7]
    assert "3 cells" in rows.problems[0].reason and "never closed" in rows.problems[1].reason


@pytest.mark.parametrize("word", ["NA", "None", "null", "nan", "NaN", "Infinity", "N/A", "1e400", "3.0", "007"])
def test_words_that_look_empty_or_like_numbers_stay_texts(tmp_path, word):
    wanted = [("p", word)]
    assert pairs(read_rows(kept(tmp_path, f"prompt,response\np,{word}\n", "a.csv"))) == wanted
    assert pairs(read_rows(kept(tmp_path, json.dumps({"prompt": "p", "response": word})))) == wanted
    assert pairs(read_rows([{"prompt": "p", "response": word}])) == wanted


def test_a_table_has_chats_as_json(tmp_path):
    chat = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "messages"), (1, json.dumps(chat)), (2, repr(chat))])
    rows = read_rows(tmp_path / "a.csv")
    assert pairs(rows) == [("q", "a")] and "json.dumps" in rows.problems[0].reason
    with (tmp_path / "b.csv").open("w", newline="") as file:
        pair = (json.dumps(chat[:1]), json.dumps(chat[1:]))
        csv.writer(file).writerows([("prompt", "completion"), pair, ("[{x}]", "[{1}]"), ('[{"a": 1}]', "[{}]")])
    assert pairs(read_rows(tmp_path / "b.csv")) == [("q", "a"), ("[{x}]", "[{1}]"), ('[{"a": 1}]', "[{}]")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (decimal.Decimal("12.50"), "12.50"),
        (decimal.Decimal("1E+3"), "1000"),
        (datetime.date(2024, 1, 5), "2024-01-05"),
        (datetime.datetime(2024, 1, 5, 10, 30), "2024-01-05 10:30:00"),
        (datetime.time(10, 30), "10:30:00"),
        (3.0, "3"),
        (-2.5, "-2.5"),
        (decimal.Decimal(10**20), str(10**20)),
        (1e300, "1e+300"),
        ({"price": decimal.Decimal("2.5")}, '{"price": "2.5"}'),
        (math.nan, None),
    ],
)
def test_values_of_a_parquet_file_become_their_text(tmp_path, value, text):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"prompt": ["p"], "response": [value]}), tmp_path / "a.parquet")
    assert pairs(read_rows(tmp_path / "a.parquet")) == [("p", text)]


def test_values_of_numpy_and_pandas_become_their_text():
    numpy, pandas = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    given = [numpy.int64(3), numpy.float32(0.5), numpy.str_("x"), numpy.bool_(True)]
    assert [row.response for row in read_rows([{"prompt": "p", "response": value} for value in given])] == ["3", "0.5", "x", "true"]
    table = pandas.DataFrame({"question": ["p", "q"], "choices": [numpy.array(["x", "y"])] * 2, "answer": [1, None]})
    assert pairs(read_rows(table)) == [("p\n\nA. x\nB. y", "y"), ("q\n\nA. x\nB. y", None)]


def test_one_object_is_no_list_of_rows():
    with pytest.raises(LabError, match="list of rows"):
        read_rows({"prompt": ["a"], "response": ["b"]})


def test_an_index_that_counts_from_one_refuses_the_file():
    """The other rows would get the wrong choice."""
    rows = [{"question": "q", "choices": ["x", "y"], "answer": n} for n in (1, 2)]
    with pytest.raises(LabError, match=r"the list, line 2: .* count from 0"):
        read_rows(rows)
    labelled = [{"question": "q", "choices": {"label": ["1", "2"], "text": ["x", "y"]}, "answerKey": n} for n in ("1", "2")]
    assert [row.response for row in read_rows(labelled)] == ["x", "y"]
    numbers = [{"question": "q", "choices": [3, 4, 1], "answer": n} for n in (0, 1, 3)]
    assert [row.response for row in read_rows(numbers)] == ["3", "3"], "1 may be a choice, or an index"
    nobody_knows = [{"question": "q", "choices": ["x", "y"], "answer": n} for n in (-1, "", None)]
    assert [row.response for row in read_rows(nobody_knows)] == [None] * 3


def test_the_name_of_a_column_is_a_text():
    with pytest.raises(LabError, match=r"^prompt_column=5 must be a text or None: names of the columns"):
        read_rows([{"prompt": "p"}], prompt_column=5)


@pytest.mark.parametrize("source", [0.5, True, json, object()])
def test_what_holds_no_rows_is_told(source: object):
    with pytest.raises(LabError, match=r"data is .+: give a file, a list of rows, or a data frame"):
        read_rows(source)


@pytest.mark.parametrize("column", ["prompt", "response"])
def test_a_number_of_too_many_digits_costs_its_row(column: str):
    rows = read_rows([{"prompt": "p", "response": "r"}, {"prompt": "p", "response": "r", column: 10**5000}])
    assert len(rows) == 1 and f"'{column}' is a number of too many digits" in rows.problems[0].reason


def test_a_column_twice_in_a_parquet_file_is_told(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_arrays([["a"], ["b"], ["c"]], names=["prompt", "response", "prompt"]), tmp_path / "two.parquet")
    assert SEVERAL_COLUMNS.format(n=1) % "prompt" in read_rows(tmp_path / "two.parquet").summary
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(LabError, match=r"cannot be read as parquet \(.+[^.]\)\. Write it again"):
        read_rows(tmp_path / "no.parquet")


def test_bytes_of_another_encoding_cost_their_row(tmp_path):
    rows = read_rows(kept(tmp_path, b"prompt,response\nfine,1\n" + "café,2\n".encode("latin-1"), "rows.csv"))
    assert pairs(rows) == [("fine", "1")] and "UTF-8" in rows.problems[0].reason


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("rows.jsonl", '{"prompt": "p"}'.encode("utf-16"), r"is UTF-16, but must be UTF-8"),
        ("rows.jsonl", '{"prompt": "p"}'.encode("utf-32"), r"is UTF-32, but must be UTF-8"),
        ("rows.csv", "\ufeffprompt\np".encode("utf-32-be"), r"is UTF-32, but must be UTF-8"),
        ("rows.csv", "\ufeffprompt\np".encode("utf-16-be"), r"is UTF-16, but must be UTF-8"),
        ("rows.jsonl", '[{"prompt": "p"}]', r"is one JSON document, and \.jsonl has one JSON object a line: name it rows\.json\."),
        ("rows.ndjson", json.dumps([{"prompt": "p"}] * 2, indent=1), r"and \.ndjson has one JSON object a line: name it rows\.json\."),
        ("rows.jsonl", json.dumps({"prompt": "p"}, indent=1), r"name it rows\.json\."),
        ("rows.xlsx", b"PK", r"in one of \.jsonl"),
        ("rows.parquet", b"not parquet", "parquet"),
    ],
)
def test_files_that_cannot_be_read_say_so(tmp_path, name, data, says):
    with pytest.raises(LabError, match=says):
        read_rows(kept(tmp_path, data, name))


def test_times_that_python_has_none_for_cost_the_rows_that_use_them(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    times = [0, 300_000_000_000]  # the second is in the year 11476
    columns = {
        "prompt": ["a", "b"],
        "when": pyarrow.array(times, pyarrow.timestamp("s")),
        "zone": pyarrow.array(times, pyarrow.timestamp("s", "Mars/Base")),
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert pairs(read_rows(tmp_path / "a.parquet")) == [("a", None), ("b", None)]
    with pytest.raises(LabError, match="1: 'zone' has a value that cannot be read"):
        read_rows(tmp_path / "a.parquet", response_column="zone")


def test_missing_sources_name_the_nearest(tmp_path):
    kept(tmp_path, "", "tickets_2026.jsonl")
    with pytest.raises(LabError, match=r"Did you mean '.*tickets_2026.jsonl'"):
        read_rows(tmp_path / "tickets_2025.jsonl")
    with pytest.raises(LabError, match="Did you mean 'orders'"):
        read_rows("order")
    with pytest.raises(LabError, match="is a folder"):
        read_rows(tmp_path)


# ---- the hub -----------------------------------------------------------------------------------------------------------


def test_the_hub_is_asked_only_when_allowed(monkeypatch):
    asked = []

    class Table(list):
        features = types.MappingProxyType({"label": types.SimpleNamespace(names=["no", "yes"]), "text": None})

    def load_dataset(name, split):
        asked.append((name, split))
        if name == "some/gone":
            raise ConnectionError("no route\nto the hub")
        return Table([{"text": "t", "label": 1}, {"text": "u", "label": -1}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(LabError, match="network=True"):
        read_rows("some/data")
    assert asked == []
    assert pairs(read_rows("some/data", network=True, part="test")) == [("t", "yes"), ("u", None)]
    assert asked == [("some/data", "test")]
    with pytest.raises(LabError, match="no route Check the name"):
        read_rows("some/gone", network=True)


# ---- splits ------------------------------------------------------------------------------------------------------------


def made(prompts: list[str]) -> CustomRows:
    return CustomRows("made up", tuple(Row(prompt, None, i) for i, prompt in enumerate(prompts, 1)))


@given(extra=st.lists(FULL, max_size=20), seed=st.integers(0, 5), share=st.floats(0.1, 0.9))
def test_splits_do_not_leak_and_do_not_move(extra, seed, share):
    base = [f"Prompt {i}" for i in range(60)]
    small, large = split(made(base), share, seed), split(made(base + extra + [p.upper() for p in base]), share, seed)
    train, held_out = ({same(row.prompt) for row in side} for side in large)
    assert not train & held_out
    assert {same(p) for p in small.train.prompts} <= train and {same(p) for p in small.held_out.prompts} <= held_out
    assert len(small.train) + len(small.held_out) == 60


def test_splits_are_as_large_as_asked_and_seeds_differ():
    rows = made([f"number {i}" for i in range(4000)])
    sides = [split(rows, 0.2, seed) for seed in (0, 1)]
    assert all(abs(len(side.held_out) / 4000 - 0.2) < 0.02 for side in sides)  # three standard errors
    assert sides[0].held_out.prompts != sides[1].held_out.prompts
    assert set(split(rows, 0.1).held_out.prompts) < set(split(rows, 0.3).held_out.prompts)


@pytest.mark.parametrize(("share", "says"), [(0, "above 0"), (1, "below 1"), (20, "use 0.2"), (0.5, "1 different prompts")])
def test_splits_that_cannot_be_say_why(share, says):
    with pytest.raises(LabError, match=says):
        split(made(["same", "Same ", "SAME"]), share)


def test_repeats_are_counted():
    rows = CustomRows("made up", (Row("a", "x", 1), Row("A", "y", 2), Row("b", "z", 3), Row("b", "z", 4)))
    assert (rows.duplicates, rows.conflicts, rows.answered) == (2, 1, 4)
    assert "2 rows repeat an earlier prompt" in rows.summary
    assert rows.fingerprint == CustomRows("elsewhere", rows.rows).fingerprint != rows[:3].fingerprint


def test_the_fingerprint_of_plain_prompts_is_what_it_was():
    rows = CustomRows("made up", (Row("a", "x", 1), Row("é\n", None, 2)))
    assert rows.fingerprint == hashlib.blake2b(b'["a", "x"]["\\u00e9\\n", null]', digest_size=8).hexdigest()


def test_a_fingerprint_tells_turns_and_what_is_learned():
    chat = prompt_of([("system", "a"), ("user", "b")])
    assert len({CustomRows("", (Row(prompt, "x", 1),)).fingerprint for prompt in (chat, str(chat), f"{chat} ")}) == 3
    given = [{"prompt": "p", "response": "r", "reasoning": "because"}, {"prompt": "q", "response": "s"}]
    prints = [read_rows(given, learn=learn).fingerprint for learn in LEARN]
    assert len(set(prints)) == 3
    assert prints[0] == read_rows([row | {"reasoning": "other"} for row in given]).fingerprint, "what is not learned does not count"


TEXT = FULL.map(str.strip)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), max_size=4), TEXT, st.none() | TEXT, st.just("") | TEXT)
def test_written_chats_are_read_again_with_their_turns(turns, last, response, reasoning):
    row = Row(prompt_of([*turns, ("user", last)]), response, 1, {}, reasoning)
    with tempfile.TemporaryDirectory() as folder:
        (again,) = read_rows(write_rows(CustomRows("somewhere", (row,)), Path(folder) / "plain.jsonl"))
    assert again == row and messages_of(again.prompt) == messages_of(row.prompt)


def test_learn_is_a_name():
    with pytest.raises(LabError, match="unknown learn 'thoughts'"):
        read_rows(["p"], learn="thoughts")


@given(st.lists(st.tuples(FULL, st.none() | FULL), min_size=1, max_size=5))
def test_written_rows_are_read_again_without_their_columns(texts):
    rows = CustomRows("somewhere", tuple(Row(prompt.strip(), response and response.strip(), 1) for prompt, response in texts))
    with tempfile.TemporaryDirectory() as folder:
        assert pairs(read_rows(write_rows(rows, Path(folder) / "plain.jsonl"))) == pairs(rows)


# ---- the examples that ship ----------------------------------------------------------------------------------------------


def test_the_examples_come_from_their_recipe(tmp_path):
    shipped = REPOSITORY / "data" / "examples"
    runpy.run_path(str(REPOSITORY / "data" / "recipes" / "examples.py"))["build"](tmp_path)
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes(), path.name


def test_the_examples_are_what_they_say():
    from labkit.tasks.metrics import metric

    tickets, orders = read_rows("tickets"), read_rows("orders")
    for rows in (tickets, orders):
        assert (len(rows), rows.answered, rows.duplicates, rows.problems) == (600, 600, 0, ())
        assert metric("exact").check(rows).mean == 1
    assert {row.response for row in tickets} == {"billing", "delivery", "quality", "returns", "safety", "sales"}
    assert metric("label_f1").check(tickets).mean == 1
    assert metric(f"schema:{REPOSITORY / 'data' / 'examples' / 'orders.schema.json'}").check(orders).mean == 1
    assert metric("fields").check(orders).mean == 1


def test_an_exam_of_the_faq_asks_in_other_words_and_one_of_the_facts_does_not():
    from labkit.tasks.atlas.facts import Atlas

    for name, low, high in (("faq", 0.85, 0.95), ("facts", 0.0, 0.0)):
        world, (train, held) = Atlas("whole"), split(read_rows(name))
        taught = {world.find(row.prompt).fact.key for row in train}
        assert low <= sum(world.find(row.prompt).fact.key in taught for row in held) / len(held) <= high, name


# ---- any row -----------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["", "a", "b", "A", "1", "q", "[", "{}", "[1]", "user", "assistant", "system", "human", "text", "<think>x", "x</think>y"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 5) | st.floats() | WORDS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "text", "label", "type", "weight", "aliases", "A", "B"]), inner
        )
        | st.lists(st.fixed_dictionaries({"role": WORDS, "content": inner}), max_size=3)
    ),
    max_leaves=8,
)
COLUMNS = st.sampled_from(
    [*PROMPTS, *RESPONSES, *CHATS, *CONTEXTS, *CHOICES, *SYSTEMS, "reasoning", "rejected", "a", "b", "tools", "image"]
)


@settings(max_examples=1000)
@given(row=st.dictionaries(COLUMNS, VALUES, max_size=5), learn=st.sampled_from(LEARN))
def test_any_row_is_read_or_refused_in_a_sentence(row, learn):
    try:
        rows = read_rows([row], learn=learn)
    except LabError:
        return
    (only,) = rows
    assert only.prompt == only.prompt.strip() != "" and only.response != "" and only.learned != ""
    assert messages_of(only.prompt)[-1]["role"] == "user"
    assert rows.summary and rows.fingerprint


@pytest.mark.parametrize(
    ("name", "said"), [("mails.txt", "of mails.jsonl"), ("mails.jsnl", "Did you mean '.jsonl'?"), ("mails", "of mails.jsonl")]
)
def test_a_file_of_another_kind_is_told_what_to_write(tmp_path, name: str, said: str):
    path = tmp_path / name
    path.write_text("hello")
    with pytest.raises(LabError, match=r"in one of \.jsonl, \.ndjson") as told:
        read_rows(path)
    assert said in str(told.value) and ".tsv'" not in str(told.value)
