"""Malformed calls of the public names, and commands: what is given is used as it is, or a sentence says what is wrong.

Values of a case are expressions of Python, since a case is plain JSON. They may use the names in `SCOPE`.
"""

from __future__ import annotations

import ast
import datetime
import decimal
import enum
import fractions
import inspect
import itertools
import json
import math
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas
import pyarrow
import torch
from soak.core import BARE, RIGHT, SILENT, TOLD, Case, Family, Wrong, no_traceback, reference

import labkit
from labkit import Experiment, LabError
from labkit.lessons.exercises import EXERCISES
from labkit.records import events
from labkit.records.experiment import KNOBS
from labkit.studies.sweep import Sweep

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


def evaluate(text: str, **also: Any) -> Any:
    return eval(text, SCOPE | also)


def odd_one(rng: random.Random, like: Any = None) -> str:
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


def sentence(text: str) -> str:
    """Returns TOLD for a message that is a sentence. Raises `Wrong` for another one."""
    no_traceback(text)
    if not text.endswith((".", "?", "!")) or len(text) > LONGEST:
        raise Wrong(BARE, f"no sentence to read, with {len(text)} characters: {text[:200]!r} ... {text[-200:]!r}")
    return TOLD


def draw_damage(rng: random.Random) -> list[list[Any]]:
    return [[rng.choice(("cut", "drop", "put", "put", "twice")), rng.random(), rng.choice(JUNK)] for _ in range(rng.randint(1, 2))]


def damaged(data: bytes, damage: list[list[Any]]) -> bytes:
    for kind, share, junk in damage:
        at, lines = int(share * len(data)), data.split(b"\n")
        line = int(share * len(lines))
        doubled = b"\n".join([*lines[: line + 1], *lines[line:]])
        put = data[:at] + junk.encode("utf-8", "surrogatepass") + data[at:]
        data = {"cut": data[:at], "drop": data[:at] + data[at + 1 + at % 7 :], "put": put, "twice": doubled}[kind]
    return data


def kept_as_given(given: Mapping[Any, Any], exp: Experiment) -> None:
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
        where[place] = odd_one(rng, ast.literal_eval(where[place]) if where[place].startswith("'") else None)
    if not free or rng.random() < 0.1:
        kwargs[rng.choice(("nonsense", "steps", "temprature"))] = odd_one(rng)
    if sort in labkit.__all__ and sort not in ("LabError", "lens") and rng.random() < 0.5:  # by name
        names = list(inspect.signature(getattr(labkit, sort)).parameters)
        kwargs, args = dict(zip(names, args, strict=False)) | kwargs, []
    return {"call": ast.unparse(body.func), "args": args, "kwargs": kwargs}


def _call(case: Case, folder: Path) -> str:
    """Call it, and look at what it returns."""
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    function = evaluate(case["call"])
    args, kwargs = [evaluate(value) for value in case["args"]], {name: evaluate(value) for name, value in case["kwargs"].items()}
    try:
        made = function(*args, **kwargs)
        for event in itertools.islice(made, 3) if isinstance(made, Iterator) else ():  # a run, or a record again
            sentence(f"{event.message.rstrip('.')}. {event.advice}") if isinstance(event, events.Failed) else None
        getattr(made, "close", int)() if isinstance(made, Iterator) else None
        repr(None if isinstance(made, BaseException) else made)
    except LabError as error:
        return sentence(str(error))
    except TypeError:
        if _binds(function, args, kwargs):
            raise
        return TOLD  # by Python, as for every function
    if isinstance(exp := getattr(made, "experiment", made), Experiment):
        kept_as_given({name: value for name, value in kwargs.items() if name in KNOBS}, exp)
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
    return {"command": command, "file": file, "damage": draw_damage(rng)}


def _command(case: Case, folder: Path) -> str:
    """Run the command as a process, without a network and a terminal."""
    record = reference("a record of two steps", lambda home: labkit.record(**SMALL).save(home / "record.jsonl").read_text())
    for name, text in (FILES | {"record.jsonl": record}).items():
        Path(name).write_bytes(damaged(text.encode(), case["damage"] if name == case["file"] else []))
    command = [sys.executable, "-m", "labkit", *map(os.fsencode, case["command"])]
    done = subprocess.run(command, env=os.environ | LOCAL, stdin=subprocess.DEVNULL, capture_output=True)
    out, err = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    no_traceback(out + err)
    if done.returncode not in (0, 1, 2, 130):
        raise Wrong(BARE, f"it ended with code {done.returncode}: {err[-1000:]}")
    if done.returncode == 2 and not err.startswith("usage:"):
        if sum(line.startswith("labkit: ") for line in err.splitlines()) != 1:
            raise Wrong(BARE, f"not one message: {err[-1000:]}")
        sentence(err.strip())
    return TOLD if done.returncode else RIGHT


FAMILIES: dict[str, Family] = {
    "malformed calls": Family(_draw_call, _call, aim=500, short=15),
    "malformed commands": Family(_draw_command, _command, aim=100, limit=90, short=2),
}
