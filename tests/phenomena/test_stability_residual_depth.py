"""Depth with and without residual branches, against Jacobians, differences, mean-field rates and the probes' start."""

import math

import numpy as np
import pandas as pd
import pytest

from workbench.phenomena import find
from workbench.phenomena.stability.residual_depth import GUESS, KINDS, REMEDIES, growth
from workbench.probes import Probe
from workbench.probes.trainer import train
from workbench.testing.phenomena import PhenomenonContract


class TestResidualDepth(PhenomenonContract):
    phenomenon = find("residual_depth")


def blocks(kind: str, depth: int, weights: list[np.ndarray], variance: float):
    """A block as a function of its input and layer, written down anew."""
    a = {"none": 1.0, "plain": 1.0, "inverse_sqrt": depth**-0.5, "rezero": 0.0, "fixup": 0.0}[kind]

    def block(x, layer):
        branch = a * math.sqrt(variance / len(x)) * (weights[layer] @ np.maximum(x, 0))
        return branch if kind == "none" else x + branch

    return block


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_are_those_of_the_network_and_of_its_derivative(kind: str) -> None:
    width, depths, variance = 12, (1, 3, 6), 1.7
    weights = list(np.random.default_rng(3).standard_normal((max(depths), width, width)))
    sizes, gradients = growth(kind, depths, weights, variance, np.random.default_rng(4))
    rng = np.random.default_rng(4)
    start, g = rng.standard_normal(width), rng.standard_normal(width)
    for depth, size, gradient in zip(depths, sizes, gradients, strict=True):
        block = blocks(kind, depth, weights, variance)

        def output(x, block=block, depth=depth):
            for layer in range(depth):
                x = block(x, layer)
            return x

        assert size == pytest.approx(math.log(np.sum(output(start) ** 2) / np.sum(start**2)), abs=1e-9)
        # the network is linear between the corners of ReLU, so that central differences are exact there
        steps = 1e-6 * np.eye(width)
        back = np.array([g @ (output(start + e) - output(start - e)) for e in steps]) / 2e-6
        assert gradient == pytest.approx(math.log(np.sum(back**2) / np.sum(g**2)), abs=1e-5)


@pytest.mark.parametrize("variance", [1.0, 1.5, 2.0])
@pytest.mark.parametrize("kind", ["none", "plain", "inverse_sqrt"])
def test_averages_grow_at_the_mean_field_rate(kind: str, variance: float) -> None:
    """The average of the square, not of its logarithm: theory then has no drift but order 1 / n."""
    width, depth, rng = 100, 4, np.random.default_rng(5)
    found = [growth(kind, (depth,), rng.standard_normal((depth, width, width)), variance, rng) for _ in range(600)]
    branch = variance / 2 / (depth if kind == "inverse_sqrt" else 1)
    theory = (branch if kind == "none" else 1 + branch) ** depth
    for values in np.exp(np.array(found)[..., 0]).T:
        error = values.std(ddof=1) / len(values) ** 0.5
        assert error < 0.03 * theory  # so that what is asked means something
        assert values.mean() == pytest.approx(theory, abs=4 * error + 0.02 * theory)


@pytest.mark.parametrize(
    ("residual", "theory"), [("plain", 1.0), ("inverse_sqrt", 1 / 30), ("rezero", 0), ("fixup", 0)]
)
def test_probes_start_as_the_theory_has_them(residual: str, theory: float) -> None:
    """What is trained has branches of two matrices; before the first step their sizes grow as the stream does."""
    probe = Probe(
        task="gaussian_mixture", classes=10, dimension=16, train_size=64, test_size=50, model="residual_mlp", width=64,
        residual=residual, depth=30, batch_tokens=64, tokens=64, evals=1, measure=("activations",),
    )  # fmt: skip
    firsts = [one.records[0] for one in train([probe.replace(seed=s) for s in range(12)], "cpu")]
    first, last = ([one[f"act_rms.{layer}.branch"] ** 2 for one in firsts] for layer in (0, 29))
    if theory == 0:
        assert max(first) == max(last) == 0
    else:
        rate = np.log(np.array(last) / first) / 29
        assert rate.mean() == pytest.approx(math.log1p(theory), abs=4 * rate.std(ddof=1) / 12**0.5 + 0.3 / 29)


def test_what_diverges_counts_as_a_guess() -> None:
    one, rng = find("residual_depth"), np.random.default_rng(6)
    rows = []
    for kind in KINDS:
        for depth in (4, 64):
            for repetition in range(3):
                rows += [(part, kind, depth, repetition, rng.normal()) for part in ("signal", "gradient")]
                loss = math.nan if depth == 64 else GUESS / 4 * math.exp(0.01 * rng.normal())
                rows.append(("training", kind, depth, repetition, loss))
    table = pd.DataFrame(rows, columns=["part", "kind", "depth", "repetition", "value"])
    found = one.measure(table)
    ratios = [value for name, value in found.items() if "over that at the smallest" in name]
    assert len(ratios) == len(REMEDIES) and all(r.value == pytest.approx(4, rel=0.03) for r in ratios)
    table.loc[(table["part"] == "training") & (table["depth"] == 64), "value"] = 1e9  # finished, and far above a guess
    assert one.measure(table) == found
