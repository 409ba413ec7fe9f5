"""Laws of routing, formats and shape: the contract, published numbers, brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.laws import get
from workbench.laws.architecture import compound, depth_to_width, float_quantization, routed
from workbench.testing.laws import LawContract


class TestRouted(LawContract):
    law, truth = "routed", routed.PUBLISHED["rl-r"]
    grid = {"N": np.geomspace(1.5e7, 1.3e9, 7), "E": 2.0 ** np.arange(10)}
    tolerance = 1e-3


class TestFloatQuantization(LawContract):
    law, truth = "float_quantization", float_quantization.PUBLISHED
    grid = {
        "N": np.geomspace(4e7, 7e8, 4), "D": np.geomspace(1e10, 1e11, 4), "E": np.arange(1.0, 6.0),
        "M": np.arange(1.0, 6.0), "B": np.array([32.0, 128.0, 512.0]),
    }  # fmt: skip
    tolerance = 1e-3


class TestWidthDepth(LawContract):
    law, truth = "width_depth", {"E": 1.9, "A": 30.0, "B": 1.2, "a": 0.7, "b": 0.9}
    grid = {"n": np.geomspace(32, 4096, 8), "l": np.array([1.0, 2, 3, 4, 6, 8, 12, 16, 24, 48])}


class TestTrainableParams(LawContract):
    law, truth, grid = "trainable_params", {"E": 1.8, "A": 300.0, "alpha": 0.3}, {"N_t": np.geomspace(1e6, 1e10, 40)}


class TestTotalParams(LawContract):
    law, truth, grid = "total_params", {"E": 1.8, "A": 300.0, "alpha": 0.3}, {"N_a": np.geomspace(1e6, 1e10, 40)}


class TestTrainableOrTotal(LawContract):
    law, truth = "trainable_or_total", {"E": 1.8, "A": 300.0, "a": 0.28, "b": 0.05}
    grid = {"N_t": np.geomspace(1e5, 1e9, 9), "N_a": np.geomspace(1e6, 1e10, 9)}


class TestDepthToWidth(LawContract):
    law, truth, grid = "depth_to_width", {"a": 5.039, "b": 0.0555}, {"l": np.arange(6.0, 49.0, 2)}


def test_experts_saturate_between_their_two_ends():
    ends = routed.saturated_experts(np.array([1.0, 1e12]), 1.88, 470.0)
    np.testing.assert_allclose(ends, [1.88, 470.0], rtol=1e-6)


@pytest.mark.parametrize(("technique", "published"), [("s-base", 937e9), ("rl-r", 85e9), ("hash", 83e9)])
def test_published_cutoffs_agree_with_the_rounded_coefficients(technique, published):
    """b and c are printed to three decimals; the cutoff printed beside them lies within what rounding allows."""
    p = routed.PUBLISHED[technique]
    low = routed.cutoff({"b": p["b"] + 5e-4, "c": p["c"] + 5e-4})
    high = routed.cutoff({"b": p["b"] - 5e-4, "c": p["c"] - 5e-4})
    assert low < published < high
    assert low < routed.cutoff(p) < high


def test_at_the_cutoff_experts_make_no_difference():
    p = routed.PUBLISHED["s-base"]
    losses = get("routed").predict(p, {"N": np.full(3, routed.cutoff(p)), "E": np.array([1.0, 16.0, 256.0])})
    np.testing.assert_allclose(losses, losses[0])
    assert routed.cutoff({"b": -0.1, "c": 0.0}) == np.inf


def test_effective_params_give_the_same_loss_in_a_dense_model():
    p = routed.PUBLISHED["hash"]
    params, experts = np.array([1e7, 1e8, 1e9]), np.array([4.0, 64.0, 512.0])
    dense = routed.effective_params(params, experts, p)
    law = get("routed")
    np.testing.assert_allclose(
        law.predict(p, {"N": dense, "E": np.ones(3)}), law.predict(p, {"N": params, "E": experts}), rtol=1e-10
    )
    assert (dense > params).all()
    np.testing.assert_allclose(routed.effective_params(params, 1, p), params)


@pytest.mark.parametrize(("bits", "published"), [(4, (2, 1)), (8, (4, 3)), (16, (8, 7))])
def test_best_formats_are_those_published(bits, published):
    """E2M1, E4M3 and E8M7 (Sun et al. 2025)."""
    assert float_quantization.best_split(bits) == published


@pytest.mark.parametrize("bits", range(2, 17))
def test_best_split_is_that_of_brute_force(bits):
    rng = np.random.default_rng(bits)
    for _ in range(5):
        p = {**float_quantization.PUBLISHED, "delta": rng.uniform(0.3, 6), "nu": rng.uniform(0.3, 6)}
        every = np.array([(e, bits - 1 - e) for e in range(bits)], dtype=float)
        columns = {"N": np.full(bits, 1e8), "D": np.full(bits, 1e11), "B": np.full(bits, 128.0)}
        losses = get("float_quantization").predict(p, {**columns, "E": every[:, 0], "M": every[:, 1]})
        assert float_quantization.best_split(bits, p) == tuple(every[np.argmin(losses)])


def test_beyond_the_critical_tokens_more_data_does_harm():
    at = {"E": 2.0, "M": 1.0, "B": 128.0}
    critical = float(float_quantization.critical_tokens(1e9, 2, 1, 128))
    tokens = critical * np.geomspace(0.01, 100, 20_001)
    columns = {"N": np.full(tokens.size, 1e9), "D": tokens, **{k: np.full(tokens.size, v) for k, v in at.items()}}
    losses = get("float_quantization").predict(float_quantization.PUBLISHED, columns)
    assert tokens[np.argmin(losses)] == pytest.approx(critical, rel=1e-3)
    assert float_quantization.critical_tokens(1e9, 2, 1, 1) == np.inf
    with pytest.raises(ValueError, match="at least 2"):
        float_quantization.best_split(1)


def test_a_format_without_mantissa_bits_can_be_fitted():
    rows = pd.DataFrame(
        [(n, d, e, m, 128.0) for n in (1e8, 3e8, 1e9) for d in (1e10, 1e11) for e in (2, 3, 4) for m in (0, 1, 3)],
        columns=["params", "tokens", "exponent_bits", "mantissa_bits", "scale_block"],
    ).astype(float)
    law = get("float_quantization")
    columns = dict(zip("NDEMB", rows.to_numpy().T, strict=True))
    rows["loss"] = law.predict(float_quantization.PUBLISHED, columns)
    fitted = workbench.fit(rows, law, starts=128)
    assert fitted.n_runs == len(rows)
    assert fitted.params["nu"] == pytest.approx(float_quantization.PUBLISHED["nu"], rel=1e-3)


def counted(width, depth, resolution, kernel, channels):
    """Cost of a stack by walking over every layer, position, output, input and tap, padding counted."""
    flops = activations = 0
    inputs = channels
    for _ in range(depth):
        for _ in range(resolution * resolution):
            for _ in range(width):
                activations += 1
                flops += sum(1 for _ in range(inputs) for _ in range(kernel) for _ in range(kernel))
        inputs = width
    return flops, activations


def test_conv_stack_is_counted_exactly():
    cost = compound.conv_stack(3, 2, 5, kernel=3, channels=2)
    assert (cost.flops, cost.activations) == counted(3, 2, 5, 3, 2)
    assert cost.params == 2 * 3 * 9 + 3 * 3 * 9
    assert compound.conv_stack(4, 1, 9, stride=2).activations == 4 * 5 * 5
    for bad in ({"width": 0}, {"kernel": 2}, {"depth": 1.5}):
        with pytest.raises(ValueError, match="give"):
            compound.conv_stack(**({"width": 2, "depth": 2, "resolution": 4} | bad))


@pytest.mark.parametrize(("width", "depth", "resolution"), [(2, 1, 1), (1, 2, 1), (1, 1, 2), (3, 2, 4)])
def test_powers_of_cost_are_those_of_the_exact_count(width, depth, resolution):
    small = compound.conv_stack(8, 5, 16)
    large = compound.conv_stack(8 * width, 5 * depth, 16 * resolution)
    factors = compound.growth(compound.Scaling(depth, width, resolution))
    for name, factor in factors.items():
        assert getattr(large, name) == factor * getattr(small, name)


@pytest.mark.parametrize("a", [0.0, 1 / 3, 0.8, 1.0])
def test_fast_scaling_spends_s_flops_and_s_to_the_one_minus_half_a_activations(a):
    factors = compound.growth(compound.fast(16.0, a))
    assert factors["flops"] == pytest.approx(16.0)
    assert factors["activations"] == pytest.approx(16.0 ** (1 - a / 2))
    assert factors["params"] == pytest.approx(16.0 ** ((1 + a) / 2))


def test_efficientnet_nearly_doubles_each_step():
    """Tan and Le 2019 ask for alpha beta^2 gamma^2 = 2 and choose 1.2, 1.1, 1.15."""
    assert compound.growth(compound.compound(1))["flops"] == pytest.approx(1.2 * 1.1**2 * 1.15**2)
    assert compound.growth(compound.compound(1))["flops"] == pytest.approx(2, rel=0.05)
    exact = compound.compound(3, alpha=2.0, beta=1.0, gamma=1.0)
    assert compound.growth(exact)["flops"] == pytest.approx(8)


def test_a_trillion_parameters_want_a_width_of_30_thousand():
    """The abstract of Levine et al. 2020 says 30K; GPT-3, of 175 billion and 96 layers, it calls too deep."""
    depth, width = depth_to_width.best_shape(1e12)
    assert width == pytest.approx(30_000, rel=0.03)
    assert 12 * depth * width**2 == pytest.approx(1e12)
    assert depth_to_width.best_shape(175e9)[0] < 96
    assert depth_to_width.transition_params(depth) == pytest.approx(1e12)
    with pytest.raises(ValueError, match="one layer"):
        depth_to_width.best_shape(10)


@pytest.mark.parametrize("counts", ["trainable", "total"])
def test_the_joint_law_says_which_count_matters(counts):
    """Runs with frozen shares of 0 to 90 %, made by one of the two laws with noise, tell which one it was."""
    rng = np.random.default_rng(4)
    total, share = (v.ravel() for v in np.meshgrid(np.geomspace(1e6, 1e9, 8), [1.0, 0.5, 0.25, 0.1]))
    trained = total * share
    used = trained if counts == "trainable" else total
    loss = (1.8 + 300 * used**-0.3) * np.exp(rng.normal(0, 0.003, used.size))
    runs = pd.DataFrame({"params_trainable": trained, "params_total": total, "loss": loss})
    table = workbench.fit(runs, "trainable_or_total", objective="log-mse").intervals("jacobian", level=0.99)
    counted, other = ("a", "b") if counts == "trainable" else ("b", "a")
    assert table.low[counted] < 0.3 < table.high[counted] and table.low[counted] > 0.1
    assert table.low[other] < 0 < table.high[other]
    ranked = workbench.compare(runs, ["trainable_params", "total_params"], objective="log-mse")
    assert ranked.frame["law"].iloc[0] == f"{counts}_params"
    assert ranked.frame["delta_aicc"].iloc[1] > 20
