"""Models: sizes, tokenizers, loading, generation. Pretrained models, LoRA adapters, pruning and draft heads are in their own files."""

from labkit.models.generate import Written, draw, write
from labkit.models.load import (
    ADAPTED,
    CHAT,
    EOS,
    LONGER,
    LONGEST_ANSWER,
    AtlasTokenizer,
    Rows,
    answer_states,
    causal,
    config,
    fingerprint,
    pad,
    parameters,
    save,
    student,
    teacher,
    tokenizer,
    tokenizer_of,
    weights_hash,
)
from labkit.models.parts import body_of, config_of, layers_of, logits_of, traits_of, vocabulary_of
