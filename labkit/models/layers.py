"""Layer maps between student and teacher, and a student that starts from copied layers of its teacher.

A *layer map* pairs layers: (3, 6) compares the student after its 3rd layer with the teacher after its 6th; 0 is the embedding.
"""

from __future__ import annotations

import math

import torch
from transformers import LlamaForCausalLM

LayerMap = tuple[tuple[int, int], ...]


def layer_map(spec: str, student_layers: int, teacher_layers: int) -> LayerMap:
    """The pairs (student layer, teacher layer) of a layer map.

    spec: the value of the knob `layers`. "uniform" pairs every student layer with evenly spread teacher layers, the last with the last
        (DistilBERT, PKD-skip); "last" pairs only the last layers (MiniLM); or explicit pairs, as in "1:2,3:6".
    student_layers, teacher_layers: the number of layers.
    """
    if spec == "uniform":
        return tuple((i, math.ceil(i * teacher_layers / student_layers)) for i in range(1, student_layers + 1))
    if spec == "last":
        return ((student_layers, teacher_layers),)
    pairs = (pair.split(":") for pair in spec.split(","))
    return tuple((int(student_layer), int(teacher_layer)) for student_layer, teacher_layer in pairs)


@torch.no_grad()
def copy_layers(student: LlamaForCausalLM, teacher: LlamaForCausalLM) -> None:
    """Copy the teacher's embedding, final norm and evenly spread layers to a student of the same width.

    Source: DistilBERT, arXiv 1910.01108, section 3.
    """
    student.model.embed_tokens.load_state_dict(teacher.model.embed_tokens.state_dict())
    student.model.norm.load_state_dict(teacher.model.norm.state_dict())
    for to, source in layer_map("uniform", student.config.num_hidden_layers, teacher.config.num_hidden_layers):
        student.model.layers[to - 1].load_state_dict(teacher.model.layers[source - 1].state_dict())
