"""nanoGPT: a GPT-2 whose biases can be switched off."""

from __future__ import annotations

from workbench.runs.calculator import Architecture
from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["NanoGPT"]


class NanoGPT(Framework):
    """The configuration of nanoGPT's ``train.py``, with `bias` for matrices and norms alike.

    It logs no vocabulary unless `vocab_size` is among its model arguments. Gradient accumulation is stated for all
    devices together; each takes its part of it.
    """

    name = "nanoGPT"
    of_model = ("n_layer", "n_head", "n_embd", "block_size", "bias")
    of_training = ("block_size",)

    def architecture(self, config: Config) -> Architecture | None:
        layers, heads, width = (config.whole(key) for key in ("n_layer", "n_head", "n_embd"))
        bias, context = config.truth("bias"), config.whole("block_size")
        # minGPT, GPT-2 of transformers and litgpt share these keys and say more
        others = ("model_type", "n_query_groups", "mlp_class_name")
        if None in (layers, heads, width, bias, context) or any(key in config for key in others):
            return None
        return Architecture(
            layers=layers,
            width=width,
            heads=heads,
            vocab=config.whole("vocab_size"),
            positions=context,
            bias=bias,
            norm="layer" if bias else "gain",
        )

    def training(self, config: Config) -> dict[str, Counted]:
        if not config.names(("n_embd", "max_iters")):
            return {}
        micro, accumulated = config.whole("batch_size"), config.whole("gradient_accumulation_steps")
        whole = micro * accumulated if micro and accumulated else None
        how = "batch_size x gradient_accumulation_steps"
        found = sequences(config, whole, how, config.whole("block_size"), misread=micro)
        return found | planned(config, "max_iters")
