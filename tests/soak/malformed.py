"""Malformed recipes, rows, calls of the public names, and commands: what is given is used as it is, or a sentence says what is wrong.

Values of a case are expressions of Python, since a case is plain JSON. They may use the names in `SCOPE`.
"""

from __future__ import annotations

import ast
import csv
import datetime
import decimal
import enum
import fractions
import gzip
import inspect
import io
import itertools
import json
import math
import os
import random
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas
import pyarrow
import pyarrow.parquet
import torch
from soak.core import BARE, RIGHT, SILENT, TOLD, Case, Family, Wrong, no_traceback, reference

import labkit
from labkit import Experiment, LabError
from labkit.base.chat import to_json
from labkit.lessons.exercises import EXERCISES
from labkit.records import events
from labkit.records.experiment import KNOBS
from labkit.studies.sweep import Sweep
from labkit.tasks.custom import shapes
from labkit.tasks.custom.rows import CustomRows, read_rows, split, write_rows

Row = tuple[int | None, str, str]  # a row that must come out of a file: its line, if that is known, prompt and response
LONGEST = 4_000  # characters of a message that somebody reads

# fmt: off
TEXTS = ["", " ", "\n", "57k\nsteps=5", "a\0b", "\x1b[31mred", "\x7f", "\u202eabc", "\udcff", "\uff11\uff12", "\u0663", "\u00b2", "e\u0301",
         "\U0001f393", "a\u00a0b", "%s %d {0} {e.own}", "\"'`", "a\\b\\", "<script>", "2", "1__0", "0x10", "1e400", "nan", "None", "a=b=c",
         "--help", "[1, 2]", '{"a": 1}', "+", "~nobody/x", "labkit steps=5", ".", "a/b", "regex:(", "a b", "[a]", "1:1,", "teacher", "all"]
ODD = """None; True; False; 0; 1; -1; 3; 0.5; -0.0; 1.5; nan; inf; -inf; 5e-324; 1.7e308; 10**400; -(10**400); 10**5000; 1j; Decimal("2");
Fraction(1, 2); np.float32(2); np.float64(2); np.int64(4); np.bool_(True); np.str_("57k"); np.arange(3); np.array([2.0]);
np.datetime64("NaT"); tensor(2.0); tensor([[1.0, 2.0]]); pandas.NA; pandas.Series([1, 2]); pandas.DataFrame({"a": [1]}); []; [1, 2]; {};
("a", 1); ["57k", "200k"]; {"steps": 5}; {1, 2}; frozenset(); (i for i in range(3)); range(3); deep(list); deep(dict); endless(); object();
[10**5000]; b"57k"; b"\\xff"; bytearray(b"x"); memoryview(b"x"); dict; len; lambda *_: 1; lambda *_: 1 // 0; json; Path("x"); Path("a/b");
date(2020, 1, 1); ...; ValueError("x"); NotImplemented; Experiment(); Text("57k"); Number(4); Enum("E", "RED").RED; "x" * 100_000;
"9" * 5000""".replace("\n", " ").split("; ")
ODD += map(repr, TEXTS)
JUNK = ["\0", "\x1b", "\ufeff", "=", "[", "]", '"', "'", "#", "\n", "\r", ",", "\\", "\u2028", "{", "}", "\ud800", "\xa0", " ", "-",
        "9" * 5_000, "[" * 5_000, "[experiment]\n", "[[experiment]]\n", "[grid]\n", "\n[[arm]]\n", "seed = 1\n", "seeds = 0\n", " steps=3 "]
# fmt: on


def _deep(kind: type) -> Any:
    made: Any = kind()
    for _ in range(5_000):
        made = [made] if kind is list else {"a": made}
    return made


def _endless() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


SMALL = {"student": "3.3k", "scale": "South America", "questions": 128, "gold": 8, "steps": 2, "batch": 4}
# fmt: off
SCOPE: dict[str, Any] = dict(
    nan=math.nan, inf=math.inf, Decimal=decimal.Decimal, Fraction=fractions.Fraction, np=np, tensor=torch.tensor, pandas=pandas, pa=pyarrow,
    json=json, Path=Path, date=datetime.date, Enum=enum.Enum, Text=type("Text", (str,), {}), Number=type("Number", (int,), {}),
    deep=_deep, endless=_endless, labkit=labkit, Experiment=Experiment, Sweep=Sweep,
    keep=lambda value: value,  # an argument that no odd one replaces
    small=lambda **fields: Experiment(**SMALL | fields), made=lambda: labkit.record(**SMALL).experiment,
    shipped=lambda: Experiment(student="57k", learning_rate=2e-2), record=lambda: labkit.record(student="57k", learning_rate=2e-2),
    teacher=lambda: labkit.teacher("atlas-200k"), student=lambda **of: labkit.student("3.3k", **of), room=lambda: labkit.incident(7),
)
# fmt: on


def _value(text: str, **also: Any) -> Any:
    return eval(text, SCOPE | also)


def _odd(rng: random.Random, like: Any = None) -> str:
    """An odd value, or a text that is almost `like`."""
    if isinstance(like, str) and like and rng.random() < 0.3:
        at = rng.randrange(len(like))
        near = (
            like[:at] + like[at + 1 :],
            like[:at] + like[at:].swapcase(),
            f"{like} ",
            like[: at + 1] + like[at:],
            like.upper(),
            f"{like}+{like}",
        )
        return repr(rng.choice(near))
    return rng.choice(ODD)


def _told(text: str) -> str:
    """Returns TOLD for a message that is a sentence. Raises `Wrong` for another one."""
    no_traceback(text)
    if not text.endswith((".", "?", "!")) or len(text) > LONGEST:
        raise Wrong(BARE, f"no sentence to read, with {len(text)} characters: {text[:200]!r} ... {text[-200:]!r}")
    return TOLD


def _draw_damage(rng: random.Random) -> list[list[Any]]:
    return [[rng.choice(("cut", "drop", "put", "put", "twice")), rng.random(), rng.choice(JUNK)] for _ in range(rng.randint(1, 2))]


def _damaged(data: bytes, damage: list[list[Any]]) -> bytes:
    for kind, share, junk in damage:
        at, lines = int(share * len(data)), data.split(b"\n")
        line = int(share * len(lines))
        doubled = b"\n".join([*lines[: line + 1], *lines[line:]])
        put = data[:at] + junk.encode("utf-8", "surrogatepass") + data[at:]
        data = {"cut": data[:at], "drop": data[:at] + data[at + 1 + at % 7 :], "put": put, "twice": doubled}[kind]
    return data


# ---- recipes ---------------------------------------------------------------------------------------------------------------------------

BASES: tuple[dict[str, Any], ...] = (
    {"student": "57k", "learning_rate": 0.02, "steps": 400},
    {"method": "sequence", "start": "warm", "decoding": "sample", "samples": 4, "adapter": 8},
    {"data": "tickets", "score": "regex:^[A-Z]+$", "longest": 12, "template_option": "enable_thinking=false"},
    {"vocabulary": "other", "across": "mapped", "left_out": "North America"},
    {"student": "eagle", "method": "next_state", "ahead": 2, "generations": 1},
    {"faults": "missing_t2+missing_end", "layers": "1:2,3:6", "top_k": 16, "temperature": 2.0},
    {"teacher": "models/mine", "student": "owner/name", "beta": 0.25},
)
FREE = ["data", "score", "layers", "template_option", "student", "teacher", "faults", "left_out"]  # fields with texts of many sorts
WAYS = ["init", "but", "dict", *["words", "toml", "sweep"] * 2]
WHOLE = ["Experiment.of", "Experiment.from_dict", "Experiment.from_recipe", "Experiment.from_toml", "Sweep.from_toml"]
HEADS = ["[[experiment]]", "experiment = []", "experiment = ''", "steps = 5\n[experiment]", "", "[Experiment]", "[experiment]\n[grid]"]


def _draw_recipe(rng: random.Random) -> Case:
    fields = [[repr(name), repr(value)] for name, value in rng.choice(BASES).items()]
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        name = rng.choice(FREE if rng.random() < 0.3 else list(KNOBS))
        default, knob = KNOBS[name]
        match rng.choice(("odd", "odd", "odd", "edge", "edge", "name", "twice", "gone")):
            case "odd":
                fields.append([repr(name), _odd(rng, rng.choice(knob.choices or (default,)))])
            case "edge":
                numbers = (
                    () if isinstance(default, str) else (knob.low, knob.high, knob.high * 2 + 1, knob.low - 1, float(default), int(default))
                )
                fields.append([repr(name), repr(rng.choice([*knob.choices, *numbers, str(default), f"{default}\n"]))])
            case "name":
                fields.append([_odd(rng, name), repr(default)])
            case "twice":
                fields.append([rng.choice(fields)[0], repr(default)])
            case "gone" if len(fields) > 1:
                fields.pop(rng.randrange(len(fields)))
    case: Case = {"way": rng.choice(WAYS) if rng.random() < 0.95 else rng.choice(WHOLE), "fields": fields}
    case["places"] = [rng.choice(("[experiment]", "[experiment]", "[grid]", "[[arm]]")) for _ in fields]
    case["damage"] = _draw_damage(rng) if rng.random() < 0.3 else []
    case["head"] = rng.choice(HEADS) if rng.random() < 0.15 else "[experiment]"
    return case | {"seeds": _odd(rng) if rng.random() < 0.2 else "2"}


def _recipe(case: Case, folder: Path) -> str:
    """Give the recipe in its way, and compare what is kept with what was given."""
    pairs = [(_value(name), _value(value)) for name, value in case["fields"]]
    given = {name: value for name, value in pairs if isinstance(name, str)}
    try:
        match case["way"]:
            case "init":
                _kept(given, exp := Experiment(**given))
            case "but":
                _kept(given, exp := Experiment(steps=7).but(**given))
            case "dict":
                given |= {name: value for name, value in pairs if isinstance(name, int | bytes | None)}
                _kept(given, exp := Experiment.from_dict(given))
            case "words":
                exp = _of_words(_broken(f"labkit {' '.join(f'{_text(n)}={_text(v)}' for n, v in pairs)}", case))
            case "toml":
                exp = _of_toml(_broken("\n".join([case["head"], *(f"{_key(n)} = {_toml(v)}" for n, v in pairs), ""]), case))
            case "sweep":
                return _of_sweep(_broken(_sweep(pairs, case), case))
            case whole:
                exp = _value(whole)(pairs[-1][1])
    except LabError as error:
        return _told(str(error))
    return _round(exp)


def _broken(text: str, case: Case) -> str:
    return _damaged(text.encode("utf-8", "surrogatepass"), case["damage"]).decode("utf-8", "surrogateescape")


def _text(value: Any) -> str:
    try:
        return str(value)
    except (RecursionError, ValueError):
        return ("9" if isinstance(value, int) else "[") * 5_000


def _key(name: Any) -> str:
    return name if isinstance(name, str) and name in KNOBS else json.dumps(_text(name))


def _toml(value: Any, depth: int = 0) -> str:
    match value:
        case bool() | str():
            return json.dumps(value)
        case list() | tuple() if depth < 3:
            return f"[{', '.join(_toml(inner, depth + 1) for inner in value)}]"
        case dict() if depth < 3:
            return f"{{{', '.join(f'{_key(name)} = {_toml(inner, depth + 1)}' for name, inner in value.items())}}}"
    return _text(value)


def _sweep(pairs: list[tuple[Any, Any]], case: Case) -> str:
    """The TOML of a sweep: each field in its place, in the grid with a second value."""
    tables: dict[str, list[str]] = {"[experiment]": [], "[grid]": [], "[[arm]]": ['name = "one"']}
    for (name, value), place in zip(pairs, case["places"], strict=True):
        default = KNOBS[name].default if isinstance(name, str) and name in KNOBS else 1
        tables[place].append(f"{_key(name)} = {_toml([value, default] if place == '[grid]' and not isinstance(value, list) else value)}")
    tables["[grid]"] = tables["[grid]"] or ["questions = [1000, 2000]"]
    parts = [[case["head"] if table == "[experiment]" else table, *lines, ""] for table, lines in tables.items()]
    return "".join(map("\n".join, parts)) + f"[sweep]\nseeds = {_toml(_value(case['seeds']))}\n"


def _kept(given: Mapping[Any, Any], exp: Experiment) -> None:
    """Raises `Wrong` if a recipe holds something else than what was given."""
    for name, value in given.items():
        if name not in KNOBS:
            raise Wrong(SILENT, f"the field {name!r} was dropped")
        (default, knob), have = KNOBS[name], getattr(exp, name)
        if knob.several:
            same = {*str(value).replace(" ", "").split("+"), "none"} - {""} == {*have.split("+"), "none"}
        elif isinstance(default, str):
            words = [str(text).casefold().replace("-", " ") if knob.choices else str(text) for text in (value, have)]
            same = isinstance(value, str | PurePath) and words[0] == words[1]
        else:
            number = isinstance(value, int | float) and not isinstance(value, bool)
            same = number and (have == value if isinstance(default, int) else math.isclose(have, value, rel_tol=1e-5))
        if not same or not isinstance(have, type(default)):
            raise Wrong(SILENT, f"{name}={str(value)[:80]!r} of {type(value).__name__} was given, and is {have!r}")


def _of_words(text: str) -> Experiment:
    exp, given = Experiment.from_recipe(text), dict[str, Any]()
    for word in text.split()[1:]:
        name, _, value = word.partition("=")
        number = value if isinstance(KNOBS[name].default, str) else float(value.replace("_", ""))
        if given.setdefault(name, number) != number:
            raise Wrong(SILENT, f"{name} was given twice: {given[name]!r} and {number!r}")
    _kept(given, exp)
    return exp


def _of_toml(text: str) -> Experiment:
    exp, said = Experiment.from_toml(text), tomllib.loads(text)
    if not isinstance(said["experiment"], dict) or said.keys() & KNOBS.keys():
        raise Wrong(SILENT, f"it was read as a table [experiment] alone: {str(said)[:300]}")
    _kept(said["experiment"], exp)
    return exp


def _of_sweep(text: str) -> str:
    sweep, said = Sweep.from_toml(text), tomllib.loads(text)
    _kept(said.get("experiment", {}), sweep.base)
    arms, recipes = {arm["name"]: arm for arm in said.get("arm", [])} or {"": {}}, sweep.recipes()
    if said.get("sweep", {}).get("seeds", 3) != sweep.seeds or sweep.seeds > KNOBS["seed"].knob.high:
        raise Wrong(SILENT, f"seeds={str(said['sweep'])[:80]} cannot be run, and was accepted")
    for (arm, values), recipe in zip(sweep.points(), recipes, strict=True):
        _kept({name: value for name, value in (arms[arm] | values).items() if name != "name"}, recipe)
        _round(recipe)
    if len({*recipes}) < len(recipes) / len(arms):
        raise Wrong(SILENT, f"a value of the grid is there twice: {said['grid']!r}")
    return RIGHT


def _round(exp: Experiment) -> str:
    """Returns RIGHT. Raises `Wrong` for a recipe that does not come back from its text and its fields."""
    try:
        trips = {"recipe": Experiment.from_recipe(exp.recipe), "fields": Experiment.from_dict(exp.to_dict()), "itself": Experiment.of(exp)}
    except LabError as error:
        raise Wrong(SILENT, f"{exp.recipe!r} was accepted, and cannot be read back: {error}") from None
    for trip, back in trips.items():
        if back != exp or back.key != exp.key:
            raise Wrong(SILENT, f"from its {trip} {exp.recipe!r} comes back as {back.recipe!r}")
    for sentence in exp.problems():
        _told(sentence)
    exp.baseline()
    return RIGHT


# ---- rows ------------------------------------------------------------------------------------------------------------------------------

SHAPES = {
    "plain": lambda prompt, response: {"prompt": prompt, "response": response},
    "question": lambda prompt, response: {"question": prompt, "answer": response},
    "capitals": lambda prompt, response: {" Prompt ": prompt, "RESPONSE": response},
    "chat": lambda prompt, response: {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]},
    "shared": lambda prompt, response: {"conversations": [{"from": "human", "value": prompt}, {"from": "gpt", "value": response}]},
}
# fmt: off
WORDS = ["plain", "two\nlines", 'with "quotes", commas; and\ttabs', "\u00e9 \u6f22\u5b57 \U0001f393", "NA", "a\u2028b", "=1+1", "[1, 2"]
NAMES = [*shapes.PROMPTS, *shapes.RESPONSES, *shapes.CHATS, *shapes.CONTEXTS, *shapes.CHOICES, *shapes.SYSTEMS, "reasoning", "", "Prompt"]
OF_MESSAGES = ["role", "from", "content", "value", "type", "text", "tool_calls", "weight", "train", "thinking", "name", "label", "aliases"]
CELLS = ["user", "assistant", "system", "tool", "human", "", " ", None, True, 0, -1, 1.5, 1e999, math.nan, "x", "A", "<think>a", "</think>",
         "\0", "\ud800", "[1, 2", '{"a": 1}', '[{"role": "user", "content": "x"}]', "text", "image", "false", 10**30]
LINES = ["{}", "[]", "null", "NaN", '"text"', '{"prompt": "a"', "{'prompt': 'a'}", '{"prompt": "a"} x', '{"prompt": "a"}{"prompt": "b"}',
         '{"prompt": "a", "prompt": "b", "response": "c"}', f'{{"prompt": {"9" * 5_000}}}', "[" * 20_000, '{"a":' * 20_000, '"a","b', ",",
         '"a"b,c', '{"prompt": "a", "response": "\\ud800"}', '{"messages": [{"role": "user", "content": "a"}, {"role": "user"}]}', "\0,\0",
         "a,b,c,d", "a\rb", "\t", '"']
COLUMNS = """pa.array([1.5, *[nan] * (n - 1)]); pa.array([b"\\xff"] * n); pa.array([b"\\xff"] * n).view(pa.string()); pa.nulls(n);
pa.array([2**62] * n, pa.timestamp("us")); pa.array([0] * n, pa.timestamp("us", "Mars/Phobos")); pa.array([Decimal("1.50")] * n);
pa.array([{"role": "user", "content": None}] * n); pa.array([[("a", 1)]] * n, pa.map_(pa.string(), pa.int64())); pa.array([[1, None]] * n);
pa.array(["a"] * n).dictionary_encode(); pa.array([2**62] * n, pa.duration("ns"))""".replace("\n", " ").split("; ")
KINDS = ["jsonl", "jsonl", "jsonl", "ndjson", "json", "json", "csv", "csv", "tsv", "parquet", "list", "frame", "folder", "odd"]
ENCODINGS = ["utf-8", "utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "crlf", "cr", "gzip"]
# fmt: on


def _cell(rng: random.Random, depth: int = 3) -> Any:
    sort = rng.random()
    if depth and sort < 0.25:
        return [_cell(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    if depth and sort < 0.6:
        return {rng.choice(OF_MESSAGES if rng.random() < 0.8 else NAMES): _cell(rng, depth - 1) for _ in range(rng.randint(0, 3))}
    return rng.choice(CELLS)


def _draw_rows(rng: random.Random) -> Case:
    kind, rows = rng.choice(KINDS), list[dict[str, Any]]()
    for number in range(rng.randint(1, 6)):
        if rng.random() < 0.5:
            rows.append({"good": [f"{number} {rng.choice(WORDS)}", rng.choice(WORDS)]})
        elif kind in ("list", "frame"):
            rows.append({"odd": _odd(rng), "name": rng.choice(("prompt", "response", "messages", "", "extra"))})
        else:
            made = {rng.choice(NAMES): _cell(rng) for _ in range(rng.randint(1, 4))}
            rows.append({"line": rng.choice(LINES) if rng.random() < 0.3 else json.dumps(made)})
    case: Case = {"kind": kind, "rows": rows, "shape": rng.choice(list(SHAPES)), "encoding": rng.choice(ENCODINGS), "columns": []}
    if kind == "parquet":
        names = ["extra", "id", "", "Prompt", "prompt", rng.choice(NAMES)]
        case["columns"] = [[rng.choice(names), rng.choice(COLUMNS)] for _ in range(rng.randint(0, 2))]
    columns = ("prompt_column", "response_column", "learn", "part")
    case["options"] = {rng.choice(columns): _odd(rng, "answer")} if rng.random() < 0.15 else {}
    return case | {"damage": _draw_damage(rng) if rng.random() < 0.3 else [], "source": _odd(rng, "tickets")}


def _rows(case: Case, folder: Path) -> str:
    """Read the rows, look at all that is known of them, and write and read them again."""
    source, known, strict = _source(case, folder)
    try:
        rows = read_rows(source, **{name: _value(value) for name, value in case["options"].items()})
        _look(rows, folder)
    except LabError as error:
        return _told(str(error))
    if case["options"] or (not strict and (rows.problems or "WARNING" in rows.summary)):
        return RIGHT
    lines, anywhere = {row.line: (row.prompt, row.response) for row in rows}, {(row.prompt, row.response) for row in rows}
    for line, *pair in known:
        if (lines.get(line) != tuple(pair)) if line else tuple(pair) not in anywhere:
            raise Wrong(SILENT, f"line {line} is not {pair} but {lines.get(line or 0)}; the summary: {rows.summary[:500]}")
    return RIGHT


def _look(rows: CustomRows, folder: Path) -> None:
    repr([rows, rows.prompts, rows.answered, rows.fingerprint, rows.duplicates, rows.conflicts, rows[:1], rows[0].learned, rows.summary])
    again = read_rows(write_rows(rows, folder / "again.jsonl"))
    before, after = ([(to_json(row.prompt), row.response, row.reasoning) for row in some] for some in (rows, again))
    if before != after:
        raise Wrong(SILENT, f"written and read again {before} becomes {after}")
    if len({*rows.prompts}) > 20:
        split(rows)


def _source(case: Case, folder: Path) -> tuple[Any, list[Row], bool]:
    """What is read, the rows that must come out of it, and whether that holds even where the summary tells of problems."""
    kind, made = case["kind"], SHAPES[case["shape"]]
    good, path = [tuple(row["good"]) for row in case["rows"] if "good" in row], folder / f"rows.{kind}"
    numbered = [(number, *row["good"]) for number, row in enumerate(case["rows"], 1) if "good" in row]
    match kind:
        case "odd":
            return _value(case["source"]), [], False
        case "folder":
            (folder / "rows.jsonl").mkdir()
            return folder / "rows.jsonl", [], False
        case "list":
            odd = [
                {"prompt": "x", row["name"]: _value(row["odd"])} if row.get("name") else _value(row.get("odd", "0")) for row in case["rows"]
            ]
            return [made(*row["good"]) if "good" in row else other for row, other in zip(case["rows"], odd, strict=True)], numbered, True
        case "frame":
            extra = pandas.Series([_value(row.get("odd", "None")) for row in case["rows"]], dtype=object)
            return pandas.DataFrame([made(*row.get("good", "xy")) for row in case["rows"]]).assign(extra=extra), numbered, True
        case "parquet":
            good = good or [("a", "b")]
            arrays = [*map(pyarrow.array, zip(*good, strict=True)), *(_value(column, n=len(good)) for _, column in case["columns"])]
            names = ["prompt", "response", *(name for name, _ in case["columns"])]
            pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path)
            path.write_bytes(_damaged(path.read_bytes(), case["damage"]))
            plain = not case["damage"] and all(name in ("extra", "id", "", "Prompt", "prompt") for name, _ in case["columns"])
            return path, [(None, *row) for row in good] if plain else [], False
    table = kind in ("csv", "tsv")
    made = SHAPES["plain"] if table and case["shape"] in ("chat", "shared") else made
    lines = [_line(made(*row["good"]), kind) if "good" in row else row["line"] for row in case["rows"]]
    lines = [_line({name: name for name in made("", "")}, kind), *lines] if table else lines
    data = _encoded("[" + ",\n".join(lines) + "]" if kind == "json" else "\n".join(lines), case["encoding"])
    path.write_bytes(data := _damaged(data, case["damage"]))
    if table:
        return path, [] if case["damage"] or case["encoding"] not in ("utf-8", "utf-8-sig") else [(None, *row) for row in good], False
    return path, list(_whole(data, {json.dumps(made(*row)): row for row in good}, kind)), True


def _line(row: Mapping[str, Any], kind: str) -> str:
    if kind not in ("csv", "tsv"):
        return json.dumps(row, ensure_ascii=False)
    csv.writer(line := io.StringIO(), delimiter="\t" if kind == "tsv" else ",", lineterminator="").writerow(row.values())
    return line.getvalue()


def _encoded(text: str, encoding: str) -> bytes:
    if encoding in ("utf-16", "utf-8-sig", "latin-1"):
        return text.encode(encoding, "replace" if encoding == "latin-1" else "surrogatepass")
    data = text.replace("\n", {"crlf": "\r\n", "cr": "\r"}.get(encoding, "\n")).encode("utf-8", "surrogatepass")
    return gzip.compress(data, mtime=0) if encoding == "gzip" else data


def _whole(data: bytes, good: Mapping[str, Any], kind: str) -> Iterator[Row]:
    """The rows of a file that are as they were written, by their lines."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return
    text = data.decode("utf-8-sig", "surrogateescape")
    for line, item in enumerate(_json(text, [], list) if kind == "json" else text.split("\n"), 1):
        if row := good.get(json.dumps(item if kind == "json" else _json(item, 0, dict))):
            yield line, *row


def _json(text: str, other: Any, kind: type) -> Any:
    try:
        return made if isinstance(made := json.loads(text), kind) else other
    except (ValueError, RecursionError):
        return other


# ---- calls -----------------------------------------------------------------------------------------------------------------------------

OWN = "score='exact', data='tickets', longest=8, template_option='', layers='uniform', learn='answer', teacher='atlas-200k'"
CALLS = f"""labkit.open('00', 'image', temperature=2.0) ;; labkit.lens('temperature') ;; labkit.lens(keep('loss'))
labkit.lens(keep('alignment'), student=student(vocabulary='bytes')) ;; labkit.lens(keep('text'), teacher(), student(), 'Chad')
labkit.lens(keep('speculation'), alpha=0.8, gamma=4, cost=0.1, verify=0.0) ;; labkit.inspect('./none', '')
labkit.Experiment(2.0, 0.5, 0.01, '57k') ;; labkit.run(small(), 'run', mix=0.5) ;; labkit.run(keep(small()), {OWN})
labkit.first_batch(small()) ;; labkit.record(shipped(), watch=None, student='57k') ;; labkit.record(keep(small()), {OWN})
labkit.record(keep(small()), fresh=False, watch=None, questions=128) ;; labkit.compare([small(), small(steps=1)], 1, None)
labkit.rerun(shipped(), keep(1), None) ;; labkit.rerun(keep(made()), 1, None) ;; labkit.sweep('ladder') ;; labkit.measured('sampling')
labkit.claims() ;; labkit.load('none.jsonl') ;; labkit.replay(record()) ;; labkit.report(record(), 'page.html', 'matplotlib')
labkit.results() ;; labkit.Record((), print) ;; labkit.teacher('atlas-200k')
labkit.student('3.3k', 0, architecture='llama', vocabulary='atlas')
labkit.ask(teacher(), 'Chad') ;; labkit.speculate(teacher(), student(), 'Chad', 4, temperature=1.0, seed=0, limit=9)
labkit.speculate(keep(teacher()), keep(student()), 'Chad', 4, candidates=0, rule='exact', temperature=0.0)
labkit.Atlas('Africa', gold_noise=0.1, falsehoods=0.1, favourite=0.1) ;; labkit.divergence('jsd', beta=0.5)
labkit.predict('00', 0.1, 0.2, 0.8, unit='recovery') ;; labkit.incident(7, 40) ;; labkit.check('00.kl', 'A')
labkit.check(keep(exercise), 'A') ;; labkit.catalogue('knobs') ;; labkit.LabError('x') ;; record().curve('kl')
record().recovery('label budget') ;; record().numbers('skills')
record().report('page.html') ;; record().save('kept.jsonl.gz') ;; labkit.sweep('ladder').recipe('', student='57k')
labkit.sweep('ladder').run(1, print, 'local') ;; labkit.Atlas('Africa').questions(5, 0, skills=('add',), left_out='nothing')
labkit.Atlas('Africa').store(5) ;; labkit.Atlas('Africa').exam(2, 0, 0) ;; labkit.Atlas('Africa').find('Chad')
labkit.Atlas('Africa').facts('capital') ;; room().probe('loss curve') ;; room().name('no fault', cure='A') ;; room().cures('shuffled_cache')
room().next(8) ;; labkit.run(small()).turn(mix=0.5)
Experiment().but(mix=0.5, student='57k') ;; Experiment().baseline('same questions')"""
EXAMPLES = CALLS.replace("\n", " ;; ").split(" ;; ")


def _draw_call(rng: random.Random) -> Case:
    sort = rng.choice([*labkit.__all__, *(call for call in EXAMPLES if ")." in call)])
    some = [call for call in EXAMPLES if call == sort or (call.startswith(f"labkit.{sort}(") and ")." not in call)]
    body: Any = ast.parse(rng.choice(some), mode="eval").body
    args, kwargs = [ast.unparse(arg) for arg in body.args], {word.arg: ast.unparse(word.value) for word in body.keywords}
    args = [f"keep({rng.choice(sorted(EXERCISES))!r})" if arg == "keep(exercise)" else arg for arg in args]
    places: list[Any] = [*((args, place) for place in range(len(args))), *((kwargs, word) for word in kwargs)]
    free = [(where, place) for where, place in places if not where[place].startswith("keep(")]
    for where, place in rng.sample(free, min(len(free), rng.choice((1, 1, 2)))):
        where[place] = _odd(rng, ast.literal_eval(where[place]) if where[place].startswith("'") else None)
    if not free or rng.random() < 0.1:
        kwargs[rng.choice(("nonsense", "steps", "temprature"))] = _odd(rng)
    if sort in labkit.__all__ and sort not in ("LabError", "lens") and rng.random() < 0.5:  # by name
        names = list(inspect.signature(getattr(labkit, sort)).parameters)
        kwargs, args = dict(zip(names, args, strict=False)) | kwargs, []
    return {"call": ast.unparse(body.func), "args": args, "kwargs": kwargs}


def _call(case: Case, folder: Path) -> str:
    """Call it, and look at what it returns."""
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    function = _value(case["call"])
    args, kwargs = [_value(value) for value in case["args"]], {name: _value(value) for name, value in case["kwargs"].items()}
    try:
        made = function(*args, **kwargs)
        for event in itertools.islice(made, 3) if isinstance(made, Iterator) else ():  # a run, or a record again
            _told(f"{event.message.rstrip('.')}. {event.advice}") if isinstance(event, events.Failed) else None
        getattr(made, "close", int)() if isinstance(made, Iterator) else None
        repr(None if isinstance(made, BaseException) else made)
    except LabError as error:
        return _told(str(error))
    except TypeError:
        if _binds(function, args, kwargs):
            raise
        return TOLD  # by Python, as for every function
    if isinstance(exp := getattr(made, "experiment", made), Experiment):
        _kept({name: value for name, value in kwargs.items() if name in KNOBS}, exp)
    return RIGHT


def _binds(function: Any, args: list[Any], kwargs: dict[str, Any]) -> bool:
    """Whether a function has these arguments."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return False
    except ValueError:  # it has no signature
        return not kwargs
    return True


# ---- commands --------------------------------------------------------------------------------------------------------------------------

RECIPE = " ".join(f"{name}={value}".replace(" ", "-") for name, value in SMALL.items())
TOML = "[experiment]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in SMALL.items())
FILES = {
    "rows.jsonl": "".join(json.dumps({"prompt": f"What is {n} + {n}?", "response": str(2 * n)}) + "\n" for n in range(40)),
    "recipe.toml": TOML,
    "grid.toml": f"{TOML}teacher = 'none'\nmethod = 'gold'\n[grid]\ntemperature = [1.0]\n[sweep]\nseeds = 1\n",
    "texts.txt": "What is the capital of Chad?\nWhat is 2 + 2?\n",
}
ASK = "label rows.jsonl answers.jsonl --endpoint http://127.0.0.1:9/v1 --model m --tries 1"
COMMANDS = f"""run labkit {RECIPE}
run --toml recipe.toml --out run.jsonl.gz --seed 1
distill --out out --no-baseline student=3.3k data=rows.jsonl steps=2 batch=4 longest=8 --prompt-column prompt
sweep grid.toml --jobs 1 --backend local --out table.csv
replay record.jsonl --events
{ASK} --dry-run --temperature 0.5 --samples 2 --max-tokens 9 --timeout 2 --price-in 1 --price-out 1 --ceiling-money 9 --per-minute 9
{ASK} --terms read --yes --ceiling-tokens 90000 --logprobs 2 --concurrency 2 --timeout 2
claims
fetch smollm2 --from none.gguf --again
inspect ./none --template-option enable_thinking=false
prune atlas-200k out --layers 2 --by spread --width 0.5 --texts texts.txt
prune atlas-200k out --keep 0,2 --groups 1
export trl labkit {RECIPE} --out script.py
trace labkit {RECIPE} --full""".split("\n")
NUMBERS = ["0", "-1", "1", "3", "0.5", "inf", "1e9", "9" * 30]
LOCAL = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
LOCAL |= {"HF_HUB_OFFLINE": "1", "no_proxy": "127.0.0.1"}


def _draw_command(rng: random.Random) -> Case:
    command = rng.choice(COMMANDS).split(" ")
    used = [word for word in command if word in FILES or word == "record.jsonl"]
    file = rng.choice(used) if used and rng.random() < 0.5 else ""
    for _ in range(rng.choice((0, 1)) if file else rng.choice((1, 1, 2))):
        at, text = rng.randrange(1, len(command) + 1), rng.choice([*NUMBERS, *(text for text in TEXTS if "\0" not in text)])
        old = command[at] if at < len(command) else ""
        free = old and "127.0.0.1" not in old and old != "smollm2"  # other values could reach for a network
        match rng.choice(("odd", "odd", "odd", "odd", "near", "put", "knob", "gone", "twice")):
            case "odd" if free and not old.startswith("-"):
                command[at] = f"{old.partition('=')[0]}={text}" if "=" in old else text
            case "near" if free:
                command[at] = old[: len(old) // 2] + old[len(old) // 2 + 1 :]
            case "gone" if free:
                command.pop(at)
            case "twice" if old:
                command.insert(at, old)
            case "put":
                command.insert(at, text)
            case _:
                command += [f"--{rng.choice(list(KNOBS)).replace('_', '-')}", text]
    return {"command": command, "file": file, "damage": _draw_damage(rng)}


def _command(case: Case, folder: Path) -> str:
    """Run the command as a process, without a network and a terminal."""
    record = reference("a record of two steps", lambda home: labkit.record(**SMALL).save(home / "record.jsonl").read_text())
    for name, text in (FILES | {"record.jsonl": record}).items():
        Path(name).write_bytes(_damaged(text.encode(), case["damage"] if name == case["file"] else []))
    command = [sys.executable, "-m", "labkit", *map(os.fsencode, case["command"])]
    done = subprocess.run(command, env=os.environ | LOCAL, stdin=subprocess.DEVNULL, capture_output=True)
    out, err = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    no_traceback(out + err)
    if done.returncode not in (0, 1, 2, 130):
        raise Wrong(BARE, f"it ended with code {done.returncode}: {err[-1000:]}")
    if done.returncode == 2 and not err.startswith("usage:"):
        if sum(line.startswith("labkit: ") for line in err.splitlines()) != 1:
            raise Wrong(BARE, f"not one message: {err[-1000:]}")
        _told(err.strip())
    return TOLD if done.returncode else RIGHT


FAMILIES: dict[str, Family] = {
    "malformed recipes": Family(_draw_recipe, _recipe, aim=900, short=40),
    "malformed rows": Family(_draw_rows, _rows, aim=500, short=25),
    "malformed calls": Family(_draw_call, _call, aim=500, short=15),
    "malformed commands": Family(_draw_command, _command, aim=100, limit=90, short=2),
}
