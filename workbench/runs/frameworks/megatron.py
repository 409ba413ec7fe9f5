"""Megatron-LM and Megatron-DeepSpeed: the arguments that they print and save."""

from __future__ import annotations

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["Megatron"]

_POSITIONS = {"rope": 0, "none": 0, "alibi": 0, "relative": None, "mrope": 0, "yarn": 0}


class Megatron(Framework):
    """All arguments with their defaults, known by `padded_vocab_size`, which Megatron computes itself.

    An argument that is not among them is one that version did not have, so that its later default holds: GELU,
    LayerNorm, biases, heads of their own for keys and values.
    """

    name = "Megatron"
    of_model = ("padded_vocab_size", "hidden_size", "num_layers", "num_attention_heads")
    of_training = ("global_batch_size", "consumed_train_samples")

    def architecture(self, config: Config) -> Architecture | None:
        layers, width = config.whole("num_layers"), config.whole("hidden_size")
        heads, vocab = config.whole("num_attention_heads"), config.whole("padded_vocab_size")
        latent = config.truth("multi_latent_attention") or config.truth("is_hybrid_model")
        if None in (layers, width, heads, vocab) or latent or "encoder_num_layers_per_decoder" in config:
            return None
        gated, linear = config.truth("swiglu", False), config.truth("add_bias_linear", True)
        bias = ("qkv", "out", "ffn") if linear else ("qkv",) if config.truth("add_qkv_bias") else ()
        positions = self._positions(config)
        experts = config.whole("num_experts") or 0
        if experts and (
            config.word("moe_layer_freq") not in ("", "1") or "moe_shared_expert_intermediate_size" in config
        ):
            return None
        grouped = config.truth("group_query_attention")
        return Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=config.whole("num_query_groups") if grouped else heads,
            head_dim=config.whole("kv_channels"),
            ffn=config.whole("ffn_hidden_size"),
            gated=bool(gated),
            vocab=vocab,
            positions=positions,
            tied=not config.truth("untie_embeddings_and_output_weights", False),
            bias=bias,
            norm="rms" if config.word("normalization") == "rmsnorm" else "layer",
            qk_norm="head" if config.truth("qk_layernorm") else "none",
            experts=experts if experts > 1 else 0,
            experts_per_token=config.whole("moe_router_topk") or (1 if experts > 1 else 0),
            expert_ffn=config.whole("moe_ffn_hidden_size"),
        )

    @staticmethod
    def _positions(config: Config) -> int | None:
        kind = config.word("position_embedding_type")
        if kind in _POSITIONS:
            return _POSITIONS[kind]
        if config.truth("use_rotary_position_embeddings"):
            return 0
        return config.whole("max_position_embeddings") if kind in ("", "learned_absolute", "absolute") else None

    def training(self, config: Config) -> dict[str, Counted]:
        if not config.names(("seq_length", "micro_batch_size")):  # OLMo-core counts a global_batch_size in tokens
            return {}
        context, samples = config.whole("seq_length"), config.whole("consumed_train_samples")
        # while the batch grows there is no one batch, and steps do not count tokens
        batch = None if "rampup_batch_size" in config else config.whole("global_batch_size")
        found = sequences(config, batch, "global_batch_size", context)
        found |= planned(config, "train_iters")
        if samples and context:
            found["tokens"] = Counted(float(samples) * context, "consumed_train_samples x seq_length")
        return found
