"""Which of a student's layers goes with which of its teacher's, and a student that starts from the teacher's own layers.

A *layer map* pairs layers: (3, 6) says that the student after its 3rd layer is to look like the teacher after its 6th; 0 is
the embedding.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

LayerMap = tuple[tuple[int, int], ...]


def layer_map(spec: str, student_layers: int, teacher_layers: int) -> LayerMap:
    """The pairs (student layer, teacher layer) of "uniform", "last", or an explicit list such as "1:2,3:6" (see the knob `layers`).

    uniform: every student layer, the teacher's as evenly spread as they go, the last with the last (DistilBERT, PKD-skip).
    last: only the last with the last (MiniLM).
    """
    if spec == "uniform":
        return tuple((i, math.ceil(i * teacher_layers / student_layers)) for i in range(1, student_layers + 1))
    if spec == "last":
        return ((student_layers, teacher_layers),)
    pairs = (pair.split(":") for pair in spec.split(","))
    return tuple((int(own), int(theirs)) for own, theirs in pairs)


@torch.no_grad()
def copy_layers(student: LlamaForCausalLM, teacher: LlamaForCausalLM) -> None:
    """Start a student from its teacher's embedding, final norm and evenly spread layers (DistilBERT, arXiv 1910.01108, section 3);
    they must be as wide."""
    own, theirs = student.config, teacher.config
    student.model.embed_tokens.load_state_dict(teacher.model.embed_tokens.state_dict())
    student.model.norm.load_state_dict(teacher.model.norm.state_dict())
    for to, source in layer_map("uniform", own.num_hidden_layers, theirs.num_hidden_layers):
        student.model.layers[to - 1].load_state_dict(teacher.model.layers[source - 1].state_dict())
