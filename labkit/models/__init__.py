"""Models: sizes, tokenizers, loading, generation. Pretrained models, LoRA adapters, pruning and draft heads are in their own files."""

from labkit.models.generate import Written, draw, ids_of, refuse_long, write
from labkit.models.load import (
    ADAPTED,
    CHAT,
    LONGER,
    LONGEST_ANSWER,
    AtlasTokenizer,
    config,
    fingerprint,
    save,
    student,
    teacher,
    tokenizer,
    tokenizer_of,
    weights_hash,
)
from labkit.models.parts import (
    EOS,
    Rows,
    answer_states,
    body_of,
    causal,
    config_of,
    layers_of,
    logits_of,
    pad,
    parameters,
    traits_of,
    vocabulary_of,
)
