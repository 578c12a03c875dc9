"""Malformed recipes, and rows of files and lists: what is given is used as it is, or a sentence says what is wrong."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import random
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
from soak.core import RIGHT, SILENT, Case, Family, Wrong
from soak.malformed import damaged, draw_damage, evaluate, kept_as_given, odd_one, sentence

from labkit import Experiment, LabError
from labkit.base.chat import to_json
from labkit.records.experiment import KNOBS
from labkit.studies.sweep import Sweep
from labkit.tasks.custom import shapes
from labkit.tasks.custom.rows import CustomRows, read_rows, split, write_rows

Row = tuple[int | None, str, str]  # a row that must come out of a file: its line, if that is known, prompt and response

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
                fields.append([repr(name), odd_one(rng, rng.choice(knob.choices or (default,)))])
            case "edge":
                numbers = (
                    () if isinstance(default, str) else (knob.low, knob.high, knob.high * 2 + 1, knob.low - 1, float(default), int(default))
                )
                fields.append([repr(name), repr(rng.choice([*knob.choices, *numbers, str(default), f"{default}\n"]))])
            case "name":
                fields.append([odd_one(rng, name), repr(default)])
            case "twice":
                fields.append([rng.choice(fields)[0], repr(default)])
            case "gone" if len(fields) > 1:
                fields.pop(rng.randrange(len(fields)))
    case: Case = {"way": rng.choice(WAYS) if rng.random() < 0.95 else rng.choice(WHOLE), "fields": fields}
    case["places"] = [rng.choice(("[experiment]", "[experiment]", "[grid]", "[[arm]]")) for _ in fields]
    case["damage"] = draw_damage(rng) if rng.random() < 0.3 else []
    case["head"] = rng.choice(HEADS) if rng.random() < 0.15 else "[experiment]"
    return case | {"seeds": odd_one(rng) if rng.random() < 0.2 else "2"}


def _recipe(case: Case, folder: Path) -> str:
    """Give the recipe in its way, and compare what is kept with what was given."""
    pairs = [(evaluate(name), evaluate(value)) for name, value in case["fields"]]
    given = {name: value for name, value in pairs if isinstance(name, str)}
    try:
        match case["way"]:
            case "init":
                kept_as_given(given, exp := Experiment(**given))
            case "but":
                kept_as_given(given, exp := Experiment(steps=7).but(**given))
            case "dict":
                given |= {name: value for name, value in pairs if isinstance(name, int | bytes | None)}
                kept_as_given(given, exp := Experiment.from_dict(given))
            case "words":
                exp = _of_words(_broken(f"labkit {' '.join(f'{_text(n)}={_text(v)}' for n, v in pairs)}", case))
            case "toml":
                exp = _of_toml(_broken("\n".join([case["head"], *(f"{_key(n)} = {_toml(v)}" for n, v in pairs), ""]), case))
            case "sweep":
                return _of_sweep(_broken(_sweep(pairs, case), case))
            case whole:
                exp = evaluate(whole)(pairs[-1][1])
    except LabError as error:
        return sentence(str(error))
    return _round(exp)


def _broken(text: str, case: Case) -> str:
    return damaged(text.encode("utf-8", "surrogatepass"), case["damage"]).decode("utf-8", "surrogateescape")


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
    return "".join(map("\n".join, parts)) + f"[sweep]\nseeds = {_toml(evaluate(case['seeds']))}\n"


def _of_words(text: str) -> Experiment:
    exp, given = Experiment.from_recipe(text), dict[str, Any]()
    for word in text.split()[1:]:
        name, _, value = word.partition("=")
        number = value if isinstance(KNOBS[name].default, str) else float(value.replace("_", ""))
        if given.setdefault(name, number) != number:
            raise Wrong(SILENT, f"{name} was given twice: {given[name]!r} and {number!r}")
    kept_as_given(given, exp)
    return exp


def _of_toml(text: str) -> Experiment:
    exp, said = Experiment.from_toml(text), tomllib.loads(text)
    if not isinstance(said["experiment"], dict) or said.keys() & KNOBS.keys():
        raise Wrong(SILENT, f"it was read as a table [experiment] alone: {str(said)[:300]}")
    kept_as_given(said["experiment"], exp)
    return exp


def _of_sweep(text: str) -> str:
    sweep, said = Sweep.from_toml(text), tomllib.loads(text)
    kept_as_given(said.get("experiment", {}), sweep.base)
    arms, recipes = {arm["name"]: arm for arm in said.get("arm", [])} or {"": {}}, sweep.recipes()
    if said.get("sweep", {}).get("seeds", 3) != sweep.seeds or sweep.seeds > KNOBS["seed"].knob.high:
        raise Wrong(SILENT, f"seeds={str(said['sweep'])[:80]} cannot be run, and was accepted")
    for (arm, values), recipe in zip(sweep.points(), recipes, strict=True):
        kept_as_given({name: value for name, value in (arms[arm] | values).items() if name != "name"}, recipe)
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
    for problem in exp.problems():
        sentence(problem)
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
            rows.append({"odd": odd_one(rng), "name": rng.choice(("prompt", "response", "messages", "", "extra"))})
        else:
            made = {rng.choice(NAMES): _cell(rng) for _ in range(rng.randint(1, 4))}
            rows.append({"line": rng.choice(LINES) if rng.random() < 0.3 else json.dumps(made)})
    case: Case = {"kind": kind, "rows": rows, "shape": rng.choice(list(SHAPES)), "encoding": rng.choice(ENCODINGS), "columns": []}
    if kind == "parquet":
        names = ["extra", "id", "", "Prompt", "prompt", rng.choice(NAMES)]
        case["columns"] = [[rng.choice(names), rng.choice(COLUMNS)] for _ in range(rng.randint(0, 2))]
    columns = ("prompt_column", "response_column", "learn", "part")
    case["options"] = {rng.choice(columns): odd_one(rng, "answer")} if rng.random() < 0.15 else {}
    return case | {"damage": draw_damage(rng) if rng.random() < 0.3 else [], "source": odd_one(rng, "tickets")}


def _rows(case: Case, folder: Path) -> str:
    """Read the rows, look at all that is known of them, and write and read them again."""
    source, known, strict = _source(case, folder)
    try:
        rows = read_rows(source, **{name: evaluate(value) for name, value in case["options"].items()})
        _look(rows, folder)
    except LabError as error:
        return sentence(str(error))
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
            return evaluate(case["source"]), [], False
        case "folder":
            (folder / "rows.jsonl").mkdir()
            return folder / "rows.jsonl", [], False
        case "list":
            odd = [
                {"prompt": "x", row["name"]: evaluate(row["odd"])} if row.get("name") else evaluate(row.get("odd", "0"))
                for row in case["rows"]
            ]
            return [made(*row["good"]) if "good" in row else other for row, other in zip(case["rows"], odd, strict=True)], numbered, True
        case "frame":
            extra = pandas.Series([evaluate(row.get("odd", "None")) for row in case["rows"]], dtype=object)
            return pandas.DataFrame([made(*row.get("good", "xy")) for row in case["rows"]]).assign(extra=extra), numbered, True
        case "parquet":
            good = good or [("a", "b")]
            arrays = [*map(pyarrow.array, zip(*good, strict=True)), *(evaluate(column, n=len(good)) for _, column in case["columns"])]
            names = ["prompt", "response", *(name for name, _ in case["columns"])]
            pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, names=names), path)
            path.write_bytes(damaged(path.read_bytes(), case["damage"]))
            plain = not case["damage"] and all(name in ("extra", "id", "", "Prompt", "prompt") for name, _ in case["columns"])
            return path, [(None, *row) for row in good] if plain else [], False
    table = kind in ("csv", "tsv")
    made = SHAPES["plain"] if table and case["shape"] in ("chat", "shared") else made
    lines = [_line(made(*row["good"]), kind) if "good" in row else row["line"] for row in case["rows"]]
    lines = [_line({name: name for name in made("", "")}, kind), *lines] if table else lines
    data = _encoded("[" + ",\n".join(lines) + "]" if kind == "json" else "\n".join(lines), case["encoding"])
    path.write_bytes(data := damaged(data, case["damage"]))
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


FAMILIES: dict[str, Family] = {
    "malformed recipes": Family(_draw_recipe, _recipe, aim=900, short=40),
    "malformed rows": Family(_draw_rows, _rows, aim=500, short=25),
}
