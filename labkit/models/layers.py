"""Which of a student's layers goes with which of its teacher's, and a student that starts from the teacher's own layers.

A *layer map* pairs layers: (3, 6) says that the student after its 3rd layer is to look like the teacher after its 6th; 0 is
the embedding.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

from labkit.base.errors import LabError

LayerMap = tuple[tuple[int, int], ...]


def layer_map(spec: str, student_layers: int, teacher_layers: int) -> LayerMap:
    """The pairs (student layer, teacher layer) of "uniform", "last", or an explicit list such as "1:2,3:6".

    uniform: every student layer, the teacher's as evenly spread as they go, the last with the last (DistilBERT, PKD-skip).
    last: only the last with the last (MiniLM). Raises `LabError` for a list that cannot be read or a layer that does not exist.
    """
    if spec == "uniform":
        return tuple((i, math.ceil(i * teacher_layers / student_layers)) for i in range(1, student_layers + 1))
    if spec == "last":
        return ((student_layers, teacher_layers),)
    pairs = []
    for part in spec.split(","):
        own, colon, theirs = part.partition(":")
        if not (colon and own.strip().isdigit() and theirs.strip().isdigit()):
            raise LabError(f"layers={spec!r} cannot be read at {part!r}: write uniform, last, or pairs as in 1:2,3:6.")
        pairs.append((int(own), int(theirs)))
    for who, last, layers in (("student", student_layers, [p[0] for p in pairs]), ("teacher", teacher_layers, [p[1] for p in pairs])):
        if max(layers) > last:
            raise LabError(f"layers={spec!r} asks for the {who}'s layer {max(layers)}, and it has {last} (0 is its embedding).")
    return tuple(pairs)


@torch.no_grad()
def copy_layers(student: LlamaForCausalLM, teacher: LlamaForCausalLM) -> None:
    """Start a student from its teacher's embedding, final norm and evenly spread layers (DistilBERT, arXiv 1910.01108, section 3).

    Raises `LabError` if their widths differ.
    """
    own, theirs = student.config, teacher.config
    if (own.hidden_size, own.intermediate_size, own.num_attention_heads) != (
        theirs.hidden_size,
        theirs.intermediate_size,
        theirs.num_attention_heads,
    ):
        raise LabError(
            f"start='copied' needs a student as wide as its teacher, and {own.hidden_size} is not {theirs.hidden_size}: "
            "choose student='1.5m' with teacher='atlas-3m', or start='warm'."
        )
    student.model.embed_tokens.load_state_dict(teacher.model.embed_tokens.state_dict())
    student.model.norm.load_state_dict(teacher.model.norm.state_dict())
    for to, source in layer_map("uniform", own.num_hidden_layers, theirs.num_hidden_layers):
        student.model.layers[to - 1].load_state_dict(teacher.model.layers[source - 1].state_dict())
