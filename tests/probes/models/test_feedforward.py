"""Multilayer perceptrons, random features, convolutions and the LSTM keep the contract of models."""

import math

import numpy as np
import pytest
import torch

from tests.probes.references import feedforward as reference
from workbench.probes.cells import lstm_cell, unfold
from workbench.probes.models.base import find_model
from workbench.probes.tasks.base import Inputs
from workbench.testing.models import ModelContract
from workbench.testing.tiny_tasks import TinySignals


class TestMLP(ModelContract):
    model = "mlp"
    cases = (
        ("tiny_vectors", {"width": 7, "depth": 3}),
        ("tiny_vectors", {"width": 7, "depth": 2, "activation": "tanh", "head_init": "zeros"}),
        ("tiny_vectors", {"width": 5, "depth": 3, "activation": "identity", "biases": False}),
        ("tiny_vectors", {"depth": 0}),
        ("tiny_signals", {"width": 9, "depth": 1, "activation": "silu"}),
        ("tiny_last", {"width": 9, "activation": "erf"}),
        ("tiny_recall", {"width": 16, "depth": 1, "activation": "quadratic", "biases": False}),
        ("tiny_recall", {"width": 16, "token_input": "embedding", "embedding_width": 5}),
    )
    refused = ("bigram", "tiny_sequences")

    def reference(self, probe, weights):
        return reference.MLP(probe, weights)


class TestResidualMLP(ModelContract):
    model = "residual_mlp"
    cases = (
        ("tiny_vectors", {"width": 6}),
        ("tiny_vectors", {"width": 6, "residual": "inverse_sqrt", "branch_layers": 1, "biases": False}),
        ("tiny_vectors", {"width": 7, "residual": "rezero", "branch_layers": 1, "activation": "tanh"}),
        ("tiny_vectors", {"width": 7, "residual": "fixup", "mlp_ratio": 2}),
        ("tiny_recall", {"width": 12, "depth": 2, "norm": "rms"}),
        ("tiny_signals", {"width": 6, "norm": "layer", "activation": "gelu"}),
    )
    refused = ("bigram", "tiny_sequences")

    def reference(self, probe, weights):
        return reference.ResidualMLP(probe, weights)


class TestRandomFeatures(ModelContract):
    model = "random_features"
    cases = (("tiny_vectors", {"width": 5}), ("tiny_vectors", {"width": 21, "activation": "erf", "feature_std": 2.0}))
    refused = ("bigram", "tiny_signals", "tiny_sequences")

    def reference(self, probe, weights):
        return reference.RandomFeatures(probe, weights)


class TestConvolution(ModelContract):
    model = "convolution"
    cases = (
        ("tiny_signals", {"width": 5, "depth": 2, "pooling": "flatten"}),
        ("tiny_vectors", {"width": 6, "depth": 2, "pooling": "flatten"}),
        ("tiny_signals", {"width": 6, "kernel": 5, "stride": 1, "activation": "gelu"}),
        ("tiny_signals", {"width": 5, "depth": 2, "grid": True, "pooling": "flatten", "biases": False}),
        ("tiny_signals", {"width": 6, "depth": 3, "grid": True, "stride": 1, "activation": "tanh"}),
    )
    refused = ("bigram", "tiny_last", "tiny_recall")

    def reference(self, probe, weights):
        return reference.Convolution(probe, weights)


class TestLSTM(ModelContract):
    model = "lstm"
    cases = (
        ("bigram", {"width": 7}),
        ("tiny_sequences", {"width": 6, "depth": 2, "head_init": "normal"}),
        ("tiny_signals", {"width": 5, "head_init": "normal"}),
        ("tiny_recall", {"width": 16}),
    )
    refused = ("tiny_vectors",)

    def reference(self, probe, weights):
        return reference.LSTM(probe, weights)


@pytest.mark.parametrize(("shape", "size", "stride"), [((2, 9, 3), 3, 2), ((2, 10, 3), 5, 3), ((1, 6, 7, 2), 3, 2)])
def test_windows_and_cells_by_hand_against_finite_differences(shape, size, stride):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: unfold(x, size, stride), x)
    gates = torch.randn(2, 3, 20, generator=generator, dtype=torch.float64, requires_grad=True)
    c = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lstm_cell, (gates, c))


def test_the_compute_of_a_convolution_is_counted_at_every_position():
    class Digits(TinySignals):
        name, given, answers = "digits_like", Inputs("signals", 1, 64), 10

    model = find_model("convolution")(width=4, depth=2, kernel=3, grid=True)
    # 8 x 8 positions of 9 taps, 1 channel and 4 biases; 4 x 4 of 9 taps, 4 channels; a head of the mean
    by_hand = 64 * (9 * 1 * 4 + 4) + 16 * (9 * 4 * 4 + 4) + 4 * 10
    assert model.flops_per_token(Digits()) == 6 * by_hand
    lstm = find_model("lstm")(width=4)
    assert lstm.flops_per_token(Digits()) == 6 * (64 * (1 * 16 + 4 * 16 + 16) + 4 * 10)


def test_signals_that_are_no_squares_are_no_images():
    class Long(TinySignals):
        given = Inputs("signals", 1, 40)

    with pytest.raises(ValueError, match="needs a square number"):
        find_model("convolution")(grid=True).check_task(Long())
    with pytest.raises(ValueError, match="use 3 or 5"):
        find_model("convolution")(kernel=4)


def test_deep_sums_of_branches_start_as_their_papers_say():
    """Size of the stream after 64 branches, relative to its start, in float64 from the definition of each start."""
    depth, d = 64, 128
    rng = np.random.default_rng(0)
    grown = {}
    for residual in ("plain", "inverse_sqrt", "rezero", "fixup"):
        model = find_model("residual_mlp")(width=d, depth=depth, residual=residual, biases=False)
        weights = model.weights(TinySignals())
        x = start = rng.normal(size=(200, d))
        for layer in range(depth):
            up, down = (rng.normal(size=(d, d)) * weights[f"{layer}.{name}"].std for name in ("up", "down"))
            branch = np.maximum(x @ up, 0) @ down
            scale = {"plain": 1.0, "inverse_sqrt": depth**-0.5, "rezero": 0.0, "fixup": 1.0}[residual]
            x = x + scale * branch
        grown[residual] = float((x**2).mean() / (start**2).mean())
    # every branch of a He start adds as much again as there is; 1 / sqrt(L) makes that (1 + 1 / L)^L = e
    assert grown["plain"] > 2**50
    assert grown["inverse_sqrt"] == pytest.approx(math.e, rel=0.35)
    assert grown["rezero"] == grown["fixup"] == 1.0
    fixup = find_model("residual_mlp")(width=d, depth=depth, residual="fixup").weights(TinySignals())
    assert fixup["0.up"].std == pytest.approx(math.sqrt(2 / d) / math.sqrt(depth))  # L^(-1 / (2 m - 2)), m = 2
    assert fixup["head"].std == 0
