"""litgpt: one model class for many families, its parts named in the configuration."""

from __future__ import annotations

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["LitGPT"]

_GATED = {"gptneoxmlp": False, "llamamlp": True, "gemmamlp": True, "llamamoe": True}


class LitGPT(Framework):
    """`Config` of litgpt, dumped with its defaults, and the ``train.`` arguments of its scripts."""

    name = "litgpt"
    of_model = ("n_layer", "n_embd", "n_head", "mlp_class_name", "norm_class_name", "padded_vocab_size")
    of_training = ("train.global_batch_size",)

    def architecture(self, config: Config) -> Architecture | None:
        layers, heads, width = (config.whole(key) for key in ("n_layer", "n_head", "n_embd"))
        gated, bias = _GATED.get(config.word("mlp_class_name")), config.truth("bias")
        norm = {"rmsnorm": "rms", "layernorm": "layer"}.get(config.word("norm_class_name"))
        hidden = config.whole("intermediate_size") or (4 * width if width and gated is False else None)
        if None in (layers, heads, width, gated, bias, norm, hidden) or "latent_attention" in config:
            return None
        if norm == "layer" and "olmo" in config.word("name"):
            norm = "none"
        biases = ("qkv", "out", "ffn") if bias else ()
        biases += ("qkv",) if config.truth("attn_bias") else ()
        biases += ("head",) if config.truth("lm_head_bias") else ()
        normed = config.truth("norm_qk", False)
        if normed and config.word("norm_qk_type") not in ("", "default", "olmo2"):
            return None
        switched = ("norm_1", True), ("norm_2", True), ("post_attention_norm", False), ("post_mlp_norm", False)
        norms = sum(bool(config.truth(key, default)) for key, default in switched)
        experts = (config.whole("n_expert") or 0) if config.word("mlp_class_name") == "llamamoe" else 0
        if "n_shared_expert" in config and config.whole("n_shared_expert"):
            return None
        return Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=config.whole("n_query_groups") or heads,
            head_dim=config.whole("head_size"),
            ffn=hidden,
            gated=gated,
            vocab=config.whole("padded_vocab_size"),
            tied=bool(config.truth("train.tie_embeddings", False)),
            bias=biases,
            norm=norm,
            norms=norms - bool(config.truth("shared_attention_norm")),
            qk_norm=("width" if config.word("norm_qk_type") == "olmo2" else "head") if normed else "none",
            experts=experts,
            experts_per_token=config.whole("n_expert_per_token") or 0,
            expert_ffn=config.whole("moe_intermediate_size"),
        )

    def training(self, config: Config) -> dict[str, Counted]:
        batch, context = config.whole("train.global_batch_size"), config.whole("train.max_seq_length", "block_size")
        found = sequences(config, batch, "train.global_batch_size", context)
        if config.number("train.max_tokens"):
            found["tokens"] = Counted(config.number("train.max_tokens"), "train.max_tokens, as planned")
        return found | planned(config, "train.max_steps")
