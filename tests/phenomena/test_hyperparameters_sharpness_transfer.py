"""Sharpness and width: the contract, the curvature that a step feels, and the rates that learned."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from workbench.phenomena import find
from workbench.phenomena.hyperparameters.sharpness_transfer import largest_rates, step_per_rate
from workbench.probes import Probe
from workbench.probes.backend import choose_backend, numerics, select_device
from workbench.probes.ensemble import Ensemble
from workbench.probes.measures.base import find_measure
from workbench.probes.parametrization import scales
from workbench.testing.phenomena import PhenomenonContract


class TestSharpnessTransfer(PhenomenonContract):
    phenomenon = find("sharpness_transfer")


def _network(arm: str, width: int) -> Probe:
    return next(p for p in find("sharpness_transfer").sweep(arm, "cpu", 5) if p.measure).replace(width=width)


def test_the_arms_differ_in_the_root_of_the_width_and_nothing_else():
    effect, control = (
        scales(one, one.model_settings.weights(one.task_settings))
        for one in (_network(arm, 16) for arm in ("effect", "control"))
    )
    for name, scale in effect.items():
        root = 4.0 if name == "head" else 1.0
        assert scale.std == pytest.approx(control[name].std) and scale.lr == pytest.approx(16 * control[name].lr)
        assert scale.multiplier == pytest.approx(control[name].multiplier / root)
    sweeps = (find("sharpness_transfer").sweep(arm, "cpu", 0) for arm in ("effect", "control"))
    assert all(a.replace(parametrization=b.parametrization) == b for a, b in zip(*sweeps, strict=True))


@pytest.mark.parametrize("arm", ["effect", "control"])
def test_sharpness_is_that_of_the_written_out_network(arm):
    """The whole Hessian by automatic differentiation in double precision, of the formula in the class's docstring."""
    width = 8
    probe = _network(arm, width)
    backend = choose_backend(probe, select_device("cpu"))
    with numerics(backend.matmul, backend.threads):
        ensemble = Ensemble([probe], backend)
        ensemble.weights.refresh()
        measured = float(find_measure("sharpness")(ensemble)["sharpness"][0]) * step_per_rate(probe)
        x, y = (one[0].double() for one in ensemble.batch(0))
        start = {name: w[0].double() for name, w in ensemble.weights.master.items()}
    gamma = math.sqrt(width) if arm == "effect" else 1.0

    def loss(flat):
        parts, begin = {}, 0
        for name, w in start.items():
            parts[name], begin = flat[begin : begin + w.numel()].view(w.shape), begin + w.numel()
        h = torch.tanh(x @ parts["0.weight"] / math.sqrt(x.shape[1]) + parts["0.bias"])
        h = torch.tanh(h @ parts["1.weight"] / math.sqrt(width) + parts["1.bias"])
        return (h @ parts["head"] / math.sqrt(width) / gamma - y).square().mean()

    hessian = torch.autograd.functional.hessian(loss, torch.cat([w.flatten() for w in start.values()]))
    exact = float(torch.linalg.eigvalsh(hessian)[-1]) * gamma**2
    assert measured == pytest.approx(exact, rel=0.01)  # the measure's are differences of float32 gradients


def test_rates_that_differ_by_layer_are_refused():
    with pytest.raises(ValueError, match="'mup' gives layers different learning rates; use 'umup'"):
        step_per_rate(_network("effect", 32).replace(parametrization="mup", base_width=16))


def test_a_rate_counts_only_if_all_smaller_ones_learned():
    rows = [(0, 8, lr, good) for lr, good in ((0.1, 1), (0.2, 0), (0.4, 1))]
    rows += [(0, 16, lr, good) for lr, good in ((0.1, 1), (0.2, 1), (0.4, 0))]
    rows += [(1, 8, lr, 0) for lr in (0.1, 0.2, 0.4)] + [(1, 16, lr, 1) for lr in (0.1, 0.2, 0.4)]
    runs = pd.DataFrame(rows, columns=["seed", "width", "lr", "learned"]).assign(part="limit")
    found = largest_rates(runs.sample(frac=1, random_state=0))
    np.testing.assert_allclose(found.to_numpy(), [[0.1, 0.2], [math.nan, 0.4]])
    assert found.index.tolist() == [0, 1] and found.columns.tolist() == [8, 16]


@pytest.mark.parametrize("exponent", [0.0, -1.0])
def test_exponents_of_a_made_up_experiment_are_found(exponent):
    rows = []
    for seed in range(6):
        for width in (16, 32, 64, 128):
            rise = 0.8 * (width / 16) ** exponent
            start = 0.4 + 0.01 * seed
            rows += [("sharpness", width, seed, 0.3, step, start * math.exp(rise * (step > 0))) for step in (0, 100)]
    runs = pd.DataFrame(rows, columns=["part", "width", "seed", "lr", "step", "edge"])
    hidden = pd.DataFrame({"width": [16, 128] * 6, "seed": np.repeat(range(6), 2)}).assign(part="features", lr=0.3)
    hidden["change"] = 0.3 * hidden["width"] ** (exponent / 2)
    limit = pd.concat([hidden.assign(part="limit", lr=lr, learned=good) for lr, good in ((0.5, 1.0), (1.0, 0.0))])
    found = find("sharpness_transfer").measure(pd.concat([runs, hidden, limit], ignore_index=True))
    assert found["exponent in width of how far sharpness rises"].value == pytest.approx(exponent, abs=1e-9)
    assert found["exponent in width of how far the hidden layer moves"].value == pytest.approx(exponent / 2, abs=1e-9)
    rate = found["exponent in width of the largest learning rate"]
    # the rate that learned is 0.5 and the next one 1: it may grow by up to a factor 2 over a factor 8 in width
    assert (rate.low, rate.value, rate.high) == pytest.approx((-1 / 3, 0, 1 / 3), abs=1e-9)
