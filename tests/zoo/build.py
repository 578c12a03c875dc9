"""Tiny random models of every causal-LM type of `transformers`, as folders with a tokenizer, all made on the spot.

    make("gemma3_text", folder)          # folder/target, folder/draft (the target and some noise), folder/other (another seed)

`SIZES` gives a small value for each name that configurations use for a size. `SETTINGS` has what a type needs beside that, `VARIANTS` other
settings that are worth a row of their own. A type without settings is built from `SIZES` alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 320
PAD, BEGIN, END, STOP, TURN = range(5)  # the special tokens; END is the tokenizer's, and generation_config.json has STOP too
WIDTH, DEEP, WINDOW, CONTEXT = 32, 4, 8, 256
LARGEST = 4_000_000  # parameters; a type with more has a size that is not in `SIZES`


def _each(value: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(), value)


SIZES = {
    **_each(VOCABULARY, "vocab_size vocab_size_per_layer_input n_vocab"),
    **_each(
        WIDTH, "hidden_size n_embd d_model embed_dim n_embed dim attention_hidden_size lru_width word_embed_proj_dim embedding_size emb_dim"
    ),
    **_each(DEEP, "num_hidden_layers n_layer n_layers num_layers decoder_layers encoder_layers"),
    **_each(4, "num_attention_heads n_head n_heads num_heads decoder_attention_heads encoder_attention_heads"),
    **_each(2, "num_key_value_heads num_kv_heads linear_num_key_heads linear_num_value_heads"),
    **_each(8, "head_dim linear_key_head_dim linear_value_head_dim qk_nope_head_dim qk_rope_head_dim v_head_dim dim_head"),
    **_each(64, "intermediate_size ffn_dim decoder_ffn_dim encoder_ffn_dim shared_intermediate_size dff dim_ff"),
    **_each(32, "moe_intermediate_size shared_expert_intermediate_size expert_intermediate_size"),
    **_each(16, "q_lora_rank kv_lora_rank index_head_dim"),
    **_each(4, "rotary_dim mamba_dt_rank time_step_rank num_experts num_local_experts n_routed_experts moe_num_experts index_topk"),
    **_each(2, "num_experts_per_tok num_experts_per_token moe_k moe_topk top_k_experts index_n_heads"),
    **_each(1, "query_pre_attn_scalar mamba_n_groups n_groups mamba_ngroups"),
    **_each(1, "n_group topk_group num_expert_group first_k_dense_replace num_dense_layers"),
    **_each(8, "mamba_d_state state_size ssm_state_size mamba_d_head mamba_head_dim mamba_n_heads mamba_num_heads n_mamba_heads"),
    **_each(16, "mamba_chunk_size chunk_size block_size"),
    **_each(64, "mamba_d_ssm"),
    **_each(WINDOW, "sliding_window attention_window_size window_size local_attention sliding_window_size"),
    **_each(CONTEXT, "max_position_embeddings n_positions n_ctx max_seq_len context_length max_target_positions max_source_positions"),
    **_each(0, "num_nextn_predict_layers num_kv_shared_layers"),
    **_each(
        0.0, "dropout attention_dropout activation_dropout hidden_dropout embedding_dropout residual_dropout resid_dropout ffn_dropout"
    ),
    **_each(
        0.0,
        "resid_pdrop embd_pdrop attn_pdrop hidden_dropout_prob attention_probs_dropout_prob layerdrop decoder_layerdrop emb_dropout_prob",
    ),
    **_each(END, "eos_token_id"),
    **_each(BEGIN, "bos_token_id decoder_start_token_id"),
    **_each(PAD, "pad_token_id"),
}
PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers", "layers_block_type")  # lists that the default configuration has made

CAP = 5.0  # on logits; the usual 30 changes small models too little to be noticed
OWN = object()  # leave the configuration its own value
DECODER = {"is_decoder": True}
LATENT = {"num_key_value_heads": 4, "head_dim": OWN}  # multi-head latent attention
LINEAR = {"layer_types": ["linear_attention", "full_attention"] * 2}
SLIDING = {"layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
SETTINGS: dict[str, dict[str, Any]] = {
    **_each(
        DECODER,
        "bert bert-generation camembert data2vec-text electra ernie megatron-bert roberta roberta-prelayernorm roformer "
        "xlm-roberta xlm-roberta-xl",
    ),
    **_each(LATENT, "axk1 axk2 deepseek_v2 deepseek_v3 deepseek_v32 glm4_moe_lite glm_moe_dsa youtu"),
    **_each(LINEAR, "qwen3_next qwen3_5_text qwen4_exp_text olmo_hybrid minimax"),
    **_each(SLIDING, "gemma3_text gemma4_text"),
    "bailing_hybrid": {**LATENT, "layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "big_bird": {**DECODER, "attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    "cohere_compass_text": {
        **SLIDING, "rope_parameters": _each({"rope_type": "default", "rope_theta": 1e4}, "full_attention sliding_attention"),
    },
    "dots1": {"n_shared_experts": 1},
    "falcon": {"new_decoder_architecture": True, "head_dim": OWN},
    "gemma2": {"attn_logit_softcapping": CAP, "final_logit_softcapping": CAP},
    "gemma3n_text": {
        **SLIDING, "laurel_rank": 4, "hidden_size_per_layer_input": 8, "altup_num_inputs": 2, "intermediate_size": [64] * DEEP,
        "activation_sparsity_pattern": [0.0] * DEEP,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2, "layers_block_type": OWN},
    "inkling_text": {"logits_mup_width_multiplier": 0.25},
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1, "use_mamba_kernels": False,
    },
    "kimi_linear": {**LATENT, "linear_head_dim": 8, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "llama4_text": {"attention_chunk_size": 16, "intermediate_size_mlp": 64, "interleave_moe_layer_step": 2},
    "longcat_flash": {**LATENT, "head_dim": 8, "num_layers": 2, "zero_expert_num": 1, "expert_ffn_hidden_size": 32, "ffn_hidden_size": 64},
    "mamba2": {"num_heads": 8},
    "minicpm3": {**LATENT, "dim_model_base": 32},
    "nemotron_h": {"hybrid_override_pattern": "M*M-", "layers_block_type": OWN},
    "prophetnet": {"num_encoder_layers": 2, "num_decoder_layers": DEEP, "num_encoder_attention_heads": 4, "num_decoder_attention_heads": 4},
    "qwen2": {"vocab_size": VOCABULARY + 16},  # `AutoTokenizer` gives this type and the next one a token more
    "qwen3_5_moe_text": {**LINEAR, "vocab_size": VOCABULARY + 16},
    "qwen4_exp_text": {
        **LINEAR, "hc_count": 2, "hc_lowrank": 4, "indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 16,
        "indexer_compress_ratio": 4,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "logits_soft_cap": CAP},
    "reformer": {**DECODER, "axial_pos_embds_dim": [8, 24], "axial_pos_shape": [16, 16]},
    "rembert": {**DECODER, "input_embedding_size": 32, "output_embedding_size": 32},
    "roc_bert": {**DECODER, "pronunciation_vocab_size": 8, "shape_vocab_size": 8, "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    "smollm3": {"no_rope_layer_interval": 2, "use_sliding_window": False},
    "vaultgemma": {"final_logit_softcapping": CAP},
    "xmod": {**DECODER, "default_language": "en_XX"},
    "zamba2": {
        "layers_block_type": ["mamba", "hybrid"] * 2, "hybrid_layer_ids": [1, 3], "num_mem_blocks": 1, "adapter_rank": 4,
        "attention_hidden_size": OWN, "attention_head_dim": 16, "use_mamba_kernels": False,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}  # fmt: skip
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {  # rows of the table beside the types
    "falcon, ALiBi": (
        "falcon",
        {"alibi": True, "new_decoder_architecture": False, "multi_query": True, "num_kv_heads": 1, "head_dim": OWN},
    ),
    "falcon_h1, multiplier": ("falcon_h1", {"lm_head_multiplier": 0.25}),
    "gemma4, cap": ("gemma4", {"final_logit_softcapping": CAP}),
    "granite, scaled": ("granite", {"logits_scaling": 2.0}),
    "llama, tied": ("llama", {"tie_word_embeddings": True}),
    "mistral, no window": ("mistral", {"sliding_window": None}),
    "qwen2, window": ("qwen2", {"use_sliding_window": True, "max_window_layers": 2}),
    "qwen3, untied": ("qwen3", {"tie_word_embeddings": False}),
}


def kinds() -> list[str]:
    """The causal-LM types of this release of `transformers`, and the variants of them."""
    types = [name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING]
    return sorted({*types, *(name for name, (of, _) in VARIANTS.items() if of in types)})


def config(kind: str) -> Any:
    """The tiny configuration of a type or variant. A configuration with a nested text model gets a tiny one."""
    of, more = VARIANTS.get(kind, (kind, {}))
    cls = CONFIG_MAPPING[of]
    try:
        default = cls()
    except Exception:  # it needs arguments
        return cls(**SIZES, **SETTINGS.get(of, {}), **more)
    if getattr(default, "text_config", None) is not None:
        return _nested(cls, default, more)
    renamed = getattr(cls, "attribute_map", {})
    known = {*default.to_dict(), *renamed}
    values = {name: value for name, value in SIZES.items() if name in known and renamed.get(name) not in known & SIZES.keys()}
    made = {name: None for name in PER_LAYER if default.to_dict().get(name) is not None}
    given = {**SETTINGS.get(of, {}), **more}
    own = {name for name, value in given.items() if value is OWN}
    for wanted in ({**values, **made, **given}, {**values, **given}):
        try:
            return cls(**{name: value for name, value in wanted.items() if name not in own})
        except Exception as error:  # not every one takes None for a list that it makes
            problem = error
    raise problem


def _nested(cls: type, default: Any, more: dict[str, Any]) -> Any:
    text = config(default.text_config.model_type).to_dict() | more
    vision = getattr(default, "vision_config", None)
    tiny = {name: value for name, value in VISION.items() if hasattr(vision, name)}
    extra = {"mm_tokens_per_image": 4} if hasattr(default, "mm_tokens_per_image") else {}
    return cls(text_config=text, **({"vision_config": tiny} if vision is not None else {}), **extra)


VISION = {
    **_each(WIDTH, "hidden_size intermediate_size out_hidden_size vision_output_dim projector_input_dim projector_output_dim"),
    **_each(1, "num_hidden_layers depth"),
    **_each(2, "num_attention_heads num_heads"),
    **_each(28, "image_size"),
    **_each(14, "patch_size"),
}


# ---- the models ------------------------------------------------------------------------------------------------------------------------


def make(kind: str, folder: Path) -> None:
    """Three models of one type: `target`; `draft`, which is the target with some noise; and `other`, of another seed."""
    chat = tokenizer()
    with torch.device("meta"):
        if (size := sum(p.numel() for p in AutoModelForCausalLM.from_config(config(kind)).parameters())) > LARGEST:
            raise RuntimeError(f"{size:,} parameters are too many for a tiny model")
    target = _speaking(kind, chat, 0)
    _save(target, chat, folder / "target")
    _save(_speaking(kind, chat, 1), chat, folder / "other")
    _with_noise(target, 0.08)
    _save(target, chat, folder / "draft")


@torch.no_grad()
def _speaking(kind: str, chat: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A model whose greedy texts vary: the first of a few scales of the weights that gives such. Two of its texts end early."""
    ids, *others, stopped = (encoded(chat, question) for question in (*QUESTIONS, STOPPED))
    best, varied = None, 0
    for again, (matrices, embeddings) in itertools.product(range(TRIES), SCALES):
        model = _scaled(kind, seed + 100 * again, matrices, embeddings)
        spread = float(model(torch.tensor([ids]), use_cache=False).logits[0, -1].std())
        found = len(set(_greedy(model, ids))) if LEAST_SPREAD < spread < MOST_SPREAD else 0  # 0 for NaN too
        if found > varied:
            best, varied = model, found
        if found >= VARIED:
            break
    if best is None:
        raise RuntimeError("no scale of the weights gives usable logits")
    _end(best, ids, END, ())
    _end(best, stopped, STOP, {token for other in (ids, *others) for token in (*other, *_greedy(best, other))})
    return best


def encoded(chat: PreTrainedTokenizerFast, question: str) -> list[int]:
    """The token ids of a question in the chat template."""
    return chat.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False)


@torch.no_grad()
def _end(model: PreTrainedModel, ids: list[int], mark: int, used: Collection[int]) -> None:
    """Let a text end early, if it has a token that can change places with the mark: one that is not in use elsewhere."""
    text, rows = _greedy(model, ids), model.get_input_embeddings().weight.shape[0]
    free = (token for i, token in enumerate(text) if i >= EARLY and token not in {*ids, *text[:i], *range(TURN + 1), *used})
    if (last := next(free, None)) is not None:
        for parameter in model.parameters():
            if parameter.dim() and parameter.shape[0] == rows:
                parameter[[mark, last]] = parameter[[last, mark]]


@torch.no_grad()
def _scaled(kind: str, seed: int, matrices: float, embeddings: float) -> PreTrainedModel:
    """A model from a seed. Its matrices have this standard deviation and its embeddings that one; all are exact in bf16."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config(kind), dtype=torch.float32).eval()
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    if (head := model.get_output_embeddings()) is not None:
        tables.add(id(head.weight))
    for parameter in model.parameters():
        if not torch.isfinite(parameter).all():
            parameter.normal_(std=0.1)  # memory that nothing has initialised
        if parameter.dim() < 2:
            parameter += 0.1 * torch.randn_like(parameter)  # norms and biases, which otherwise are all 1 or all 0
        elif abs(float(parameter.mean())) < 0.3 * (std := float(parameter.std())) or std == 0 == float(parameter.mean()):
            wanted = embeddings if id(parameter) in tables else matrices
            parameter.copy_(wanted * torch.randn_like(parameter) if std == 0 else wanted / std * parameter)
        parameter.copy_(parameter.bfloat16())
    return model


@torch.no_grad()
def _greedy(model: PreTrainedModel, ids: list[int]) -> list[int]:
    """A text without a cache."""
    text = list(ids)
    for _ in range(LENGTH):
        text.append(int(model(torch.tensor([text]), use_cache=False).logits[0, -1].argmax()))
    return text[len(ids) :]


@torch.no_grad()
def _with_noise(model: PreTrainedModel, share: float) -> None:
    """Add noise to the matrices, with this share of their standard deviation."""
    torch.manual_seed(2)
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter += share * parameter.std() * torch.randn_like(parameter)
            parameter.copy_(parameter.bfloat16())


def _save(model: PreTrainedModel, chat: PreTrainedTokenizerFast, folder: Path) -> None:
    model.generation_config = GenerationConfig(
        bos_token_id=BEGIN, eos_token_id=[END, STOP], pad_token_id=PAD, do_sample=True, temperature=0.7, top_p=0.9
    )
    model.save_pretrained(folder)
    chat.save_pretrained(folder)


QUESTIONS = (  # of different lengths; the answer to the first ends with END
    "What is the capital of Chad?",
    "Why?",
    "The capital of Chad is what? How many of the rooms in the house are larger than this one, and what is the sum of seven and eight?",
    "How many rooms are there?",
)
STOPPED = "What is seven and eight?"  # its answer ends with STOP
SCALES = ((0.25, 0.4), (1.0, 0.2), (0.6, 0.15), (1.0, 1.0), (0.3, 3.0))  # standard deviations of matrices and of embeddings
TRIES = 3
LEAST_SPREAD, MOST_SPREAD = 0.8, 8.0  # standard deviation of the logits
LENGTH, VARIED, EARLY = 12, 7, 2  # tokens of a text, of them different, and before the end mark


def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of `VOCABULARY` tokens with a chat template."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<pad>", "<begin>", "<end>", "<stop>", "<turn>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([TEXT] * 10, trainer)
    chat = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<begin>", eos_token="<end>", pad_token="<pad>")
    chat.chat_template = TEMPLATE
    assert len(chat) == VOCABULARY
    return chat


TEXT = (
    "The capital of Chad is N'Djamena, and the capital of Peru is Lima. What is the sum of seven and eight? It is fifteen. "
    "How many of the rooms in the house are larger than this one? None of them, as far as anybody here can say for certain."
)
TEMPLATE = (
    "<begin>{% for m in messages %}{{ m['role'] + ': ' + m['content'] + ('<end>' if m['role'] == 'assistant' else '<turn>') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
