"""Hugging Face transformers: ``config.json`` of the families counted here, TrainingArguments, the Trainer's state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["HuggingFace"]

_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "num_heads", "n_heads")
_WIDTH = ("hidden_size", "n_embd", "n_embed", "dim")
_FFN = ("intermediate_size", "n_inner", "ffn_dim", "hidden_dim")
_CONTEXT = ("block_size", "sequence_length", "seq_length", "seq_len")


def _attention(config: Config) -> tuple[str, ...]:
    return ("qkv", "out") if config.truth("attention_bias", False) else ()


def _llama(config: Config) -> tuple[str, ...]:
    return _attention(config) + (("ffn",) if config.truth("mlp_bias", False) else ())


def _neox(config: Config) -> tuple[str, ...]:
    return ("qkv", "out", "ffn") if config.truth("attention_bias", True) else ("ffn",)


def _switch(key: str, *biases: str) -> Callable[[Config], tuple[str, ...]]:
    return lambda config: biases if config.truth(key, False) else ()


@dataclass(frozen=True)
class _Family:
    """What a model type fixes, beside the numbers in its configuration.

    `bias` is what has one, or a function of the configuration; `tied` and `ffn` (in widths) hold where the
    configuration leaves them out; `kv` says whether heads of keys and values must be stated; `refused` names keys
    under which the model is another one.
    """

    norm: str = "rms"
    gated: bool = True
    bias: tuple[str, ...] | Callable[[Config], tuple[str, ...]] = ()
    tied: bool = False
    ffn: int | None = None
    kv: bool = False
    positions: tuple[str, int] | None = None
    norms: int = 2
    qk_norm: str = "none"
    embedding_norm: bool = False
    experts: tuple[str, ...] = ()
    encoder: bool = False
    refused: tuple[str, ...] = ()


_ALL = ("qkv", "out", "ffn")
_ENCODER = _Family(
    "layer", False, _ALL, True, positions=("max_position_embeddings", 0), embedding_norm=True, encoder=True,
    refused=("is_decoder", "add_cross_attention"),
)  # fmt: skip
_FAMILIES = {
    "gpt2": _Family("layer", False, _ALL, True, 4, positions=("n_positions", 0), refused=("add_cross_attention",)),
    "gpt_neo": _Family("layer", False, ("out", "ffn"), True, 4, positions=("max_position_embeddings", 0)),
    "gpt_neox": _Family("layer", False, _neox),
    "gptj": _Family("layer", False, ("ffn", "head"), False, 4, norms=1),
    "opt": _Family("layer", False, _ALL, True, positions=("max_position_embeddings", 2)),
    "bloom": _Family("layer", False, _ALL, True, 4, embedding_norm=True),
    "phi": _Family("layer", False, (*_ALL, "head"), norms=1, refused=("qk_layernorm",)),
    "phi3": _Family(kv=True),
    "llama": _Family(bias=_llama),
    "mistral": _Family(kv=True),
    "mixtral": _Family(kv=True, experts=("num_local_experts",)),
    "qwen2": _Family(bias=("qkv",), kv=True),
    "qwen3": _Family(bias=_attention, kv=True, qk_norm="head"),
    "qwen3_moe": _Family(bias=_attention, kv=True, qk_norm="head", experts=("num_experts", "num_local_experts")),
    "gemma": _Family(bias=_attention, tied=True, kv=True),
    "gemma2": _Family(bias=_attention, tied=True, kv=True, norms=4),
    "gemma3_text": _Family(bias=_attention, tied=True, kv=True, norms=4, qk_norm="head"),
    "olmo": _Family("none", bias=_attention),
    "olmo2": _Family(bias=_attention, qk_norm="width"),
    "olmoe": _Family(bias=_attention, qk_norm="width", experts=("num_experts",)),
    "stablelm": _Family("layer", bias=_switch("use_qkv_bias", "qkv"), refused=("qk_layernorm",)),
    "starcoder2": _Family("layer", False, _switch("use_bias", *_ALL), True, kv=True),
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "distilbert": _ENCODER,
}
#: Families whose heads are wider than width / heads unless stated, so that the width must be stated.
_OWN_HEADS = ("qwen3", "gemma", "gemma2", "gemma3_text")


class HuggingFace(Framework):
    """Models by `model_type`; a class with another head than a language model's (`architectures`) is not counted.

    A batch is counted only where `world_size` is logged. The length of training sequences is `block_size` of the
    language-modelling scripts, or the maximal length where sequences are packed: `max_position_embeddings` is what
    a model could read, not what it read.
    """

    name = "Hugging Face"
    of_model = ("model_type",)
    of_training = ("per_device_train_batch_size", "total_flos", "num_input_tokens_seen")

    def architecture(self, config: Config) -> Architecture | None:
        kind = config.word("model_type")
        family = _FAMILIES.get(kind)
        layers, heads, width = config.whole(*_LAYERS), config.whole(*_HEADS), config.whole(*_WIDTH)
        if family is None or None in (layers, heads, width) or any(config.truth(key) for key in family.refused):
            return None
        head = self._head(config, family)
        ffn = config.whole(*_FFN) or (family.ffn * width if family.ffn else None)
        groups = config.whole("num_key_value_heads") or (None if family.kv else heads)
        experts = config.whole(*family.experts) if family.experts else 0
        if head is None or None in (ffn, groups, experts) or not self._usual(kind, config, width):
            return None
        norms, normed = family.norms, family.norm
        if kind == "stablelm" and config.truth("use_parallel_residual", False):
            norms = 1
        if kind == "opt" and not config.truth("layer_norm_elementwise_affine", True):
            normed = "none"
        bias = family.bias(config) if callable(family.bias) else family.bias
        if family.encoder:
            bias = (*bias, "head") if head else bias
        positions = 0 if family.positions is None else config.whole(family.positions[0])
        return Architecture(
            kind="encoder" if family.encoder else "decoder",
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=groups,
            head_dim=config.whole("head_dim"),
            ffn=ffn,
            gated=family.gated,
            vocab=config.whole("vocab_size"),
            positions=positions + family.positions[1] if positions and family.positions else positions,
            segments=config.whole("type_vocab_size") or 0 if family.encoder and kind != "distilbert" else 0,
            head=head,
            head_layer=family.encoder and head,
            tied=bool(config.truth("tie_word_embeddings", family.tied)),
            bias=bias,
            norm=normed,
            norms=norms,
            final_norm=not family.encoder and config.truth("_remove_final_layer_norm", False) is False,
            embedding_norm=family.embedding_norm,
            qk_norm=family.qk_norm,
            experts=experts,
            experts_per_token=config.whole("num_experts_per_tok") or 0,
            expert_ffn=config.whole("moe_intermediate_size"),
            pooler=family.encoder and not head and kind != "distilbert",
        )

    @staticmethod
    def _head(config: Config, family: _Family) -> bool | None:
        """Whether there is a vocabulary head; None for a class with another head, or where it is not known."""
        said = config.get("architectures")
        names = said if isinstance(said, list | tuple) else [] if said is None else str(said).strip("[]").split(",")
        name = str(names[0]).strip(" '\"") if names else ""
        if name.endswith(("ForMaskedLM",)):
            return True if family.encoder else None
        if name.endswith(("ForCausalLM", "LMHeadModel")) or not name:
            return None if family.encoder else True
        return False if name.endswith("Model") and "Double" not in name else None

    @staticmethod
    def _usual(kind: str, config: Config, width: int) -> bool:
        """Whether nothing is stated that this count does not know."""
        if kind in _OWN_HEADS and config.whole("head_dim") is None:
            return False
        if kind == "opt":
            usual = config.whole("word_embed_proj_dim") in (None, width)
            return usual and config.truth("enable_bias", True) and config.truth("do_layer_norm_before", True)
        if kind == "qwen3_moe":
            only = str(config.get("mlp_only_layers") or "[]").strip("[] ")
            return not only and config.whole("decoder_sparse_step") in (None, 1)
        return True

    def training(self, config: Config) -> dict[str, Counted]:
        parts = ("per_device_train_batch_size", "gradient_accumulation_steps", "world_size")
        sizes = [config.whole(key) for key in parts]
        batch = None if None in sizes else sizes[0] * sizes[1] * sizes[2]
        packed = ("max_seq_length", "max_length") if config.truth("packing", False) else ()
        found = sequences(config, batch, " x ".join(parts), config.whole(*_CONTEXT, *packed))
        found |= planned(config, "max_steps")
        if config.number("num_input_tokens_seen"):  # 0 where it was not counted
            found["tokens"] = Counted(config.number("num_input_tokens_seen"), "from 'num_input_tokens_seen'")
        if config.number("total_flos"):
            how = "from 'total_flos': 6 x non-embedding parameters x tokens read, by the Trainer"
            found["flops"] = Counted(config.number("total_flos"), how)
        return found
