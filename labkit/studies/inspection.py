"""What a model's folder is, and what the lab can do with it.

print(inspect("./my-model"))       # one screen: family, uses, end marks, template, head, context, memory
"""

from __future__ import annotations

import textwrap
from typing import Any, NamedTuple

from labkit.base.errors import LabError
from labkit.base.kinds import kinds_checked
from labkit.models import lora, parameters, pretrained
from labkit.models.parts import body_of, config_of, context_of, layers_of, shares_head, vocabulary_of
from labkit.models.prune import family
from labkit.records.model_folders import folder_of
from labkit.speculative import trees

RANK = 8  # of the adapter whose memory is told
WEIGHT, STATE = 2, 16  # bytes: of a weight in bf16; of a trained weight, with its gradient and the two averages of AdamW, in fp32
WIDE = 120  # characters of a line


class Inspection(NamedTuple):
    """What `inspect` found."""

    name: str
    works: bool  # whether the lab can load the model
    facts: dict[str, str]

    def __repr__(self) -> str:
        wide = max(map(len, self.facts)) + 2
        lines = [
            textwrap.fill(fact, WIDE, initial_indent=f"{key:<{wide}}", subsequent_indent=" " * wide, break_on_hyphens=False)
            for key, fact in self.facts.items()
        ]
        return "\n".join([self.name, *lines])


@kinds_checked
def inspect(name: str, options: str = "") -> Inspection:
    """Look at a model, and try by number what the lab can do with it.

    name: a fetched model, a folder or a hub id.
    options: switches of its chat template, as in "enable_thinking=false".

    Raises `LabError` if there is no such folder, or for an option that its template does not read; a model that the lab cannot use is
    told in the result.
    """
    folder = folder_of(name)
    try:
        model: Any = pretrained.load(name, options=options)
    except LabError as error:
        return Inspection(name, False, {"folder": str(folder), "usable": f"no: {error}"})
    pretrained.refuse_unread(options, [model.chat])
    config, chat = config_of(model), model.chat
    (prompt,) = chat.prompts(["Hello"])
    tree = trees.reason(model)
    facts = {
        "folder": str(folder),
        "model": f"{type(model).__name__}, {parameters(model):,} parameters, {config.num_hidden_layers} layers",
        "self-check": model.traits.words,
        "distil": "yes, as teacher or student",
        "adapt (LoRA)": _adapting(model),
        "prune": _reason(lambda: family(model)) or "yes",
        "speculate": "chains: yes, as target or draft; " + (f"trees: no, since {tree}" if tree else "trees: yes"),
        "draft heads": "yes" if _linear(model) else "no: they copy a linear head without bias, and it has another one",
        "end of a turn": chat.end_marks,
        "template": ("its own: " if chat.template.own else "none, so prompts are plain text: ") + repr(chat.inner.decode(prompt)),
        "vocabulary": f"{chat.size:,} tokens" + (f", and {model.rows - chat.size:,} unused rows" if model.rows > chat.size else ""),
        "head": "tied to the embedding" if shares_head(model) else "its own weights",
        "context": f"{context:,} tokens" if isinstance(context := context_of(model.config.to_dict()), int) else "not limited by its config",
        "memory": _memory(model),
    }
    if chat.template.switches:
        facts["template options"] = f"--template-option NAME=VALUE, for {', '.join(sorted(chat.template.switches))}"
    for number, note in enumerate(chat.notes, 1):
        facts[f"note {number}"] = note
    return Inspection(name, True, facts)


def _reason(attempt: Any) -> str:
    try:
        attempt()
    except LabError as error:
        return f"no: {error}"
    return ""


def _linear(model: Any) -> bool:
    return model.traits.head == "linear" and getattr(model.get_output_embeddings(), "bias", None) is None and len(layers_of(model)) > 0


def _adapting(model: Any) -> str:
    """Whether an adapter fits, and how much of the layers it covers."""
    try:
        maps: dict[str, Any] = dict(lora.maps_of(model))
    except LabError as error:
        return f"no: {error}"
    share = sum(part.weight.numel() for part in maps.values()) / max(1, lora.weights_in(body_of(model)))
    return f"yes, on {share:.0%} of the weights of its layers" + ("" if share > 0.995 else "; the rest is stored or read in another form")


def _memory(model: Any) -> str:
    """Bytes to load and train it; activations and the batch come on top."""
    weights = parameters(model)
    maps: list[Any] = [] if _reason(lambda: lora.maps_of(model)) else list(lora.maps_of(model).values())
    adapter = sum(RANK * sum(part.weight.shape) for part in maps)
    head = vocabulary_of(model) * 4
    told = [
        f"{_size(WEIGHT * weights)} as a teacher",
        f"{_size(STATE * weights)} as a student",
        f"{_size(4 * weights + STATE * adapter)} with an adapter of rank {RANK}",
    ]
    return f"{', '.join(told)}; activations and {_size(head)} of logits for each answer token come on top"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
