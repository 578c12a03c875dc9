"""Models: sizes, tokenizers, loading, generation. Pretrained ones, adapters, pruning and draft heads have files of their own."""

from labkit.models.load import (
    ADAPTED,
    CHAT,
    EOS,
    LONGER,
    LONGEST_ANSWER,
    AtlasTokenizer,
    Rows,
    Written,
    answer_states,
    config,
    draw,
    fingerprint,
    pad,
    parameters,
    save,
    student,
    teacher,
    tokenizer,
    tokenizer_of,
    write,
)
