"""Stacks of probes for tests, on the CPU, off the trainer."""

import torch

from workbench.probes.backend import Backend
from workbench.probes.ensemble import Ensemble

CPU = torch.device("cpu")


def stack(probes, fused=False):
    return Ensemble(probes, Backend(CPU, "highest", 1, fused))


def split(tokens):
    """Inputs and targets of sequences [E, B, T + 1]."""
    return tokens[..., :-1], tokens[..., 1:].flatten(1)


def shapes(probe):
    """Name and shape of every weight."""
    return {name: w.shape for name, w in probe.model_settings.weights(probe.task_settings).items()}
