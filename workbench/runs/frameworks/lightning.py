"""PyTorch Lightning: the Trainer's arguments beside hyperparameters of the user's own naming."""

from __future__ import annotations

from workbench.runs.frameworks.base import Config, Counted, Framework, planned, sequences

__all__ = ["Lightning"]


class Lightning(Framework):
    """Sequences of an optimizer step: `batch_size` of one device times accumulated batches, devices and nodes.

    Only where all of these are stated; Lightning has no keys for a model.
    """

    name = "Lightning"
    of_training = ("accumulate_grad_batches",)

    def training(self, config: Config) -> dict[str, Counted]:
        parts = ("batch_size", "accumulate_grad_batches", "devices", "num_nodes")
        sizes = [config.whole(key) for key in parts]
        batch = None if None in sizes else sizes[0] * sizes[1] * sizes[2] * sizes[3]
        context = config.whole("block_size", "sequence_length", "seq_len", "seq_length", "max_seq_length")
        found = sequences(config, batch, " x ".join(parts), context, misread=sizes[0])
        return found | planned(config, "max_steps")
