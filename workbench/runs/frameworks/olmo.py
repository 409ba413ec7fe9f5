"""OLMo: the configuration of the first trainer, and of OLMo-core what a step trains on."""

from __future__ import annotations

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, sequences

__all__ = ["OLMo", "OLMoCore"]


class OLMo(Framework):
    """Keys of OLMo's ``TrainConfig``; `mlp_ratio` and `mlp_hidden_size` count gate and value of a SwiGLU together."""

    name = "OLMo"
    of_model = ("model.d_model", "model.n_layers", "model.n_heads", "model.mlp_ratio")
    of_training = ("global_train_batch_size",)

    def architecture(self, config: Config) -> Architecture | None:
        layers, width = config.whole("model.n_layers"), config.whole("model.d_model")
        heads, activation = config.whole("model.n_heads"), config.word("model.activation_type")
        hidden = config.whole("model.mlp_hidden_size")
        if hidden is None and width and config.number("model.mlp_ratio"):
            hidden = int(config.number("model.mlp_ratio") * width)
        bias, affine = config.truth("model.include_bias"), config.truth("model.layer_norm_with_affine", True)
        stated = (layers, width, heads, hidden, bias, config.truth("model.weight_tying"))
        if None in stated or not activation:
            return None
        rotary = config.truth("model.rope") or config.truth("model.alibi")
        groups = config.whole("model.n_kv_heads") or (1 if config.truth("model.multi_query_attention") else heads)
        gated = activation == "swiglu"
        normed = config.truth("model.attention_layer_norm") and config.truth(
            "model.attention_layer_norm_with_affine", True
        )
        biased = config.truth("model.bias_for_layer_norm", bias)
        if normed and (biased or not affine):  # norms of two kinds
            return None
        return Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=groups,
            ffn=hidden // 2 if gated else hidden,
            gated=gated,
            vocab=config.whole("model.embedding_size", "model.vocab_size"),
            positions=0 if rotary else config.whole("model.max_sequence_length"),
            tied=config.truth("model.weight_tying"),
            bias=bias if config.truth("model.weight_tying") or not bias else ("qkv", "out", "ffn", "head"),
            norm="none" if not affine else "layer" if biased else "gain",
            qk_norm="width" if normed else "none",
            embedding_norm=bool(config.truth("model.embedding_layer_norm", False)),
        )

    def training(self, config: Config) -> dict[str, Counted]:
        context = config.whole("model.max_sequence_length")
        found = sequences(config, config.whole("global_train_batch_size"), "global_train_batch_size", context)
        duration = str(config.get("max_duration") or "")
        if duration.endswith("T") and _number(duration[:-1]):  # their T stands for tokens
            found["tokens"] = Counted(_number(duration[:-1]), f"max_duration {duration!r}, as planned")
        elif _number(duration):
            found["steps"] = Counted(_number(duration), "max_duration, as planned")
        return found


class OLMoCore(Framework):
    """Keys of OLMo-core's data loader, whose batch is counted in tokens."""

    name = "OLMo-core"
    of_training = ("data_loader.global_batch_size",)

    def training(self, config: Config) -> dict[str, Counted]:
        tokens, context = config.whole("data_loader.global_batch_size"), config.whole("dataset.sequence_length")
        found = sequences(
            config, tokens // context if tokens and context else None, "tokens of a batch / its length", context
        )
        if tokens:
            found["batch_tokens"] = Counted(tokens, "from 'data_loader.global_batch_size'")
        return found


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < float("inf") else None
