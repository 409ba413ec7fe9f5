"""levanter: a model under `model.`, its training under `trainer.`."""

from __future__ import annotations

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["Levanter"]

_LLAMAS = ("llama", "mistral", "mixtral", "qwen")


class Levanter(Framework):
    """GPT-2 and the Llama family. The vocabulary is the tokenizer's and is not in the configuration."""

    name = "levanter"
    of_model = ("model.hidden_dim", "model.num_layers", "model.num_heads")
    of_training = ("trainer.train_batch_size",)

    def architecture(self, config: Config) -> Architecture | None:
        layers, width = config.whole("model.num_layers"), config.whole("model.hidden_dim")
        heads, kind = config.whole("model.num_heads"), config.word("model.type")
        if None in (layers, width, heads):
            return None
        vocab = config.whole("model.vocab_size", "vocab_size")
        if kind == "gpt2":
            bias, scale = config.truth("model.use_bias", True), config.number("model.mlp_scale") or 4
            return Architecture(
                layers=layers, width=width, heads=heads, ffn=int(scale * width), vocab=vocab, bias=bool(bias),
                positions=config.whole("model.seq_len", "model.max_seq_len"), norm="layer",
            )  # fmt: skip
        hidden, groups = config.whole("model.intermediate_dim"), config.whole("model.num_kv_heads")
        if kind not in _LLAMAS or hidden is None or groups is None:
            return None
        experts = config.whole("model.n_routed_experts") or 0
        if (kind == "mixtral") != bool(experts) or config.truth("model.use_layer_norm_weight", True) is False:
            return None
        return Architecture(
            layers=layers,
            width=width,
            heads=heads,
            kv_heads=groups,
            head_dim=config.whole("model.head_dim"),
            ffn=hidden,
            gated=True,
            vocab=vocab,
            tied=bool(config.truth("model.tie_word_embeddings", False)),
            bias=("qkv",) if kind == "qwen" else bool(config.truth("model.use_bias", False)),
            norm="layer" if config.truth("model.use_bias") else "rms",
            experts=experts,
            experts_per_token=config.whole("model.num_experts_per_tok") or 0,
        )

    def training(self, config: Config) -> dict[str, Counted]:
        context = config.whole("train_seq_len", "model.seq_len", "model.max_seq_len")
        found = sequences(config, config.whole("trainer.train_batch_size"), "trainer.train_batch_size", context)
        return found | planned(config, "trainer.num_train_steps")
