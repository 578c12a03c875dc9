"""Reading a model's folder, and models that cannot be used: files that do not load, weights that are left unread, logits that are not
finite. Each is an error in a sentence or two that names the file or weight."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from labkit.base.errors import DataError, LabError, out_of_memory, reading
from labkit.base.files import json_object
from labkit.base.manifest import refuse_changed
from labkit.models.parts import config_of, shares_head

AGAIN = "copy it again from where the model comes from."
ANOTHER = "choose a causal language model, as a llama or a qwen3."
INDEX = "model.safetensors.index.json"
OTHER = ("*.bin", "*.pt", "*.pth", "*.gguf", "*.h5", "*.msgpack")  # weights that are not safetensors
NAMED_CODE = ("attn_implementation", "experts_implementation")
MOST = 1000  # layers of any known model; a smaller number may be above that of its weights, as hrm_text uses each layer several times
# Settings that count layers of a model, each with weights. Others, as num_experts, may be of no use to it.
LAYERS = {
    *("num_hidden_layers", "num_layers", "n_layer", "n_layers"),
    *("num_decoder_layers", "decoder_layers", "num_encoder_layers", "encoder_layers"),
}
# Layers of which `transformers` makes no part of a model.
AHEAD = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers", "num_mtp_modules")


def usable(logits_N_V: Tensor) -> bool:
    """Whether each row is a distribution: no NaN, no +inf, and not -inf alone. A single -inf is probability 0."""
    return bool(logits_N_V.amax(-1).isfinite().all())


def refuse_damaged(teacher: Any, logprobs: Iterable[float]) -> None:
    """Check what a teacher has written, before it is kept or scored.

    logprobs: log-probabilities of its tokens or of its answers, which no finite logits make NaN or infinite.

    Raises `LabError` for a teacher whose logits are not finite.
    """
    if not all(map(math.isfinite, logprobs)):
        raise not_finite(teacher, "the teacher")


def not_finite(model: Any, role: str) -> LabError:
    """The error for a model whose logits are not finite.

    role: "the teacher" or "the student".
    """
    name = getattr(model, "name_or_path", "") or role
    broken = [part for part, weight in model.named_parameters() if not bool(weight.isfinite().all())]
    if broken:
        return LabError(
            f"{role}'s logits are not finite: its weights are damaged, as {broken[0]} has NaN or infinity. Fetch or save {name} again."
        )
    return LabError(f"{role}'s logits are not finite, though its weights are: it overflows in 16 bits. Use another model than {name}.")


# ---- folders ---------------------------------------------------------------------------------------------------------------------------


def settings_in(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder; {} if there is no such file. Raises `DataError` if it holds anything else."""
    return json_object(file, f"{AGAIN[0].upper()}{AGAIN[1:]}")


def read_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model from the safetensors of a folder, without running code of its own. `unread` names weights that are not part of it.

    kind: the class of `transformers` to read it with.

    Raises `LabError` for a folder that does not load, lacks weights, holds another model than its config.json describes, or has changed
    since its manifest was written.
    """
    refuse_changed(folder)
    _refuse_impossible(folder)
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.set_verbosity_error()  # its report of weights is many lines; `_refuse_misfit` tells what matters
    try:
        model, info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=dtype, output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that they are told, and refused here
            **_without_named_code(folder),
        )  # fmt: skip
    except Exception as error:  # whatever a broken config.json makes the code of a family raise
        raise LabError(f"{folder} {_why(folder, error)}") from None
    finally:
        transformers.utils.logging.set_verbosity(level)
    _refuse_misfit(model, folder, info)
    model.unread = sorted(info["unexpected_keys"])
    return model


def _refuse_impossible(folder: Path) -> None:
    """Refuse a config.json with more layers than its weights can be for: `transformers` would build them all before it looks.

    Raises `LabError` for it, and for weights that cannot be read.
    """
    if many := dict(_many(settings_in(folder / "config.json"))):
        if wrong := unreadable_weights(folder):
            raise LabError(f"{folder} {wrong}")
        stored = 0
        for file in _weights_of(folder):  # not others beside them, which are never read
            with safe_open(file, "pt") as weights:
                stored += len(weights.keys())
        name = max(many, key=lambda key: many[key])
        if many[name] > stored:
            value = many[name] if many[name] < 2**63 else f"a number of {len(str(many[name]))} digits"
            raise LabError(f"{folder}: its config.json has {name}={value}, and its files hold only {stored:,} weights: {AGAIN}")


def _many(config: Any) -> Iterator[tuple[str, int]]:
    """The numbers of layers in a config.json that are above those of any known model, by name."""
    inside = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for name, value in inside:
        if type(value) is int and value > MOST and name in LAYERS:
            yield name, value
        yield from _many(value)


def _without_named_code(folder: Path) -> dict[str, Any]:
    """What to load a model with whose config.json names code for its attention or experts, which may be a repository of the hub.

    Returns its configuration without these names, so that it runs as it does without them: with code of torch and transformers.
    """

    def names(value: Any) -> bool:
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return any(map(names, inside)) or (isinstance(value, dict) and any(key.lstrip("_") in NAMED_CODE for key in value))

    if not names(settings_in(folder / "config.json")):
        return {}
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    config._attn_implementation = config._experts_implementation = None  # and, by their setters, those of its parts
    return {"config": config}


def _why(folder: Path, error: Exception) -> str:
    """Why a folder does not load: what is wrong with its files, or else what the code said."""
    return _of_config(folder) or unreadable_weights(folder) or _of_quantised(folder) or _of_code(error)


def _of_config(folder: Path) -> str:
    """What is wrong with config.json."""
    if not (folder / "config.json").is_file():
        return "has no config.json, which says what its weights are: " + AGAIN
    settings_in(folder / "generation_config.json")
    config = settings_in(folder / "config.json")
    kind, known = config.get("model_type"), f"transformers {transformers.__version__}"
    if not isinstance(kind, str):
        return f'has model_type {kind!r} in its config.json, and it must name a family, as "llama": copy config.json again.'
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "auto_map" in config:
        return f"needs Python code of its own for model_type {kind!r} (auto_map in its config.json), which the lab never runs: " + ANOTHER
    if kind not in CONFIG_MAPPING_NAMES:
        return f"has model_type {kind!r} in its config.json, which {known} does not know: correct it, or install a newer transformers."
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return f"is a {kind!r}, which {known} has no causal language model for (it may be an encoder, or have one): " + ANOTHER
    return ""


def _weights_of(folder: Path) -> list[Path]:
    """The files that a folder's weights are in: those that its index lists, or one."""
    listed = settings_in(folder / INDEX).get("weight_map")
    names = sorted(set(map(str, listed.values()))) if isinstance(listed, dict) and listed else ["model.safetensors"]
    return [folder / name for name in names]


def unreadable_weights(folder: Path) -> str:
    """What is wrong with the files of weights, as far as their headers say it; "" if nothing is."""
    listed, files = settings_in(folder / INDEX).get("weight_map", {}), _weights_of(folder)
    absent = [file.name for file in files if not file.is_file()]
    other = sorted(file.name for pattern in OTHER for file in folder.glob(pattern))
    if absent and not listed and other:
        return f"has its weights in {other[0]}, and the lab reads safetensors alone: load it elsewhere, and save it with save_pretrained."
    if absent:
        return f"lacks {', '.join(absent[:3])}, in which {'some of ' * bool(listed)}its weights should be: {AGAIN}"
    for file in files:
        try:
            with reading(file, AGAIN), safe_open(file, "pt"):
                pass
        except DataError:
            return f"has a damaged {file.name} ({file.stat().st_size:,} bytes, not all that its header lists): copy it again."
    return ""


def _of_quantised(folder: Path) -> str:
    """Whether the weights are stored in a form that cannot be read here."""
    if quantised := settings_in(folder / "config.json").get("quantization_config"):
        how = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        return f"has weights that are quantised by {how!r}, which cannot be read here: give the same model in bf16 or fp16."
    return ""


def _of_code(error: Exception) -> str:
    """What the code of the family said, when the files are whole."""
    if isinstance(error, ImportError):
        return f"needs a package that is not installed: {_line(error)}. Install it."
    if out_of_memory(error):
        return "does not fit into memory: free some, or choose a smaller model."
    return (
        f"has a config.json that does not fit its weights or this release of transformers: {_line(error)}. Correct it, or copy both again."
    )


def _line(error: Exception) -> str:
    """An error's text in one line, without what it says of the Hub."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = next((part for part in re.split(r"(?<=\.)\s", text) if "huggingface.co" not in part), type(error).__name__)
    return text[:200].rstrip(".: ")


def no_tokenizer(folder: Path, error: Exception) -> LabError:
    """The error for a folder whose tokenizer does not load."""
    given = settings_in(folder / "tokenizer_config.json")
    if not (folder / "tokenizer.json").is_file() and (folder / "tokenizer.model").is_file():
        return LabError(
            f"{folder} has its tokenizer in tokenizer.model alone: install sentencepiece, load it, and save it as tokenizer.json."
        )
    if not settings_in(folder / "tokenizer.json") and not isinstance(error, ImportError):
        return LabError(f"{folder} has no tokenizer.json, so its tokenizer cannot be read: {AGAIN}")
    if "auto_map" in given:
        return LabError(f"{folder}: its tokenizer needs Python code of its own (auto_map), which the lab never runs: choose another model.")
    return LabError(f"{folder} has a tokenizer that cannot be read ({type(error).__name__}: {_line(error)}): copy its files again.")


# ---- weights ---------------------------------------------------------------------------------------------------------------------------


def _refuse_misfit(model: Any, folder: Path, info: dict[str, Any]) -> None:
    """Raises `LabError` for a model that would have random weights, or that is another than its files hold.

    info: what `transformers` told of the loading.
    """
    if wrong := sorted(info["mismatched_keys"]):
        name, found, wanted = wrong[0]
        raise LabError(
            f"{folder}: its config.json asks for {tuple(wanted)} numbers in {name}, and its weights have {tuple(found)}: copy config.json "
            "and the weights from one model."
        )
    if absent := sorted(name for name in info["missing_keys"] if not shares_head(model, name)):
        saved = (getattr(model.config, "architectures", None) or [type(model).__name__])[0]
        fix = (
            "Correct config.json, or save the whole model again."
            if saved == type(model).__name__
            else f"It was saved as {saved}: save it as {type(model).__name__}."
        )
        raise LabError(f"{folder} lacks the weights {', '.join(absent[:3])}; they would be random. {fix}")
    if settings_in(folder / "config.json").get("is_encoder_decoder") and any("encoder." in name for name in info["unexpected_keys"]):
        raise LabError(f"{folder} holds an encoder with a decoder, which was not trained to write without it: {ANOTHER}")
    if lost := _lost(model, info["unexpected_keys"]):
        many = f"{len(lost):,} weights, as {lost[0]}," if len(lost) > 1 else f"a weight, {lost[0]},"
        raise LabError(
            f"{folder}: its files have {many} beyond the model that its config.json describes: correct config.json (its number of layers, "
            "its biases), or copy it and the weights from one model."
        )


def _lost(model: Any, unread: Collection[str]) -> list[str]:
    """Those of the unread weights without which the model is another: of layers beyond the last, and biases of its maps.

    Not so the layers that predict further tokens, which come after the last and are counted apart in config.json. Weights of parts that the
    model does not have at all, as a vision tower, are not told from remains of training: `pretrained.notes_of` names them.
    """
    ahead = max((n for name in AHEAD if isinstance(n := getattr(config_of(model), name, 0), int)), default=0)
    parts = dict(model.named_modules())

    def lost(name: str) -> bool:
        for found in re.finditer(r"\.(\d+)\.", name):
            layers = parts.get(name[: found.start()])
            if isinstance(layers, nn.ModuleList) and int(found[1]) >= len(layers) + ahead:
                return True
        above, _, last = name.rpartition(".")
        return last == "bias" and isinstance(getattr(parts.get(above), "weight", None), nn.Parameter)

    return sorted(name for name in unread if lost(name) or lost(f"{model.base_model_prefix}.{name}"))  # some files leave out the prefix
