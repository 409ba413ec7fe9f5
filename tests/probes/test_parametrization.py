"""Parametrizations against their tables, and against what theory says of an update's effect."""

import math

import numpy as np
import pytest
import torch

from tests.probes.stacks import stack
from workbench.laws.hyperparameters.width_transfer import width_exponent
from workbench.probes import Probe
from workbench.probes.parametrization import Scale, multipliers, scales
from workbench.probes.trainer import train

TINY = Probe(vocab=32, width=16, depth=2, heads=2, context=8, batch_tokens=64, tokens=64 * 8, evals=2)
MLP = Probe(task="teacher_student", model="mlp", width=16, depth=3, batch_tokens=32, tokens=32 * 6, evals=2)
LAYERS = {"embedding": "embedding", "hidden": "1.up", "readout": "head"}


def found(probe):
    return scales(probe, probe.model_settings.weights(probe.task_settings))


def exponents(probe, field):
    """Slope of one field of every scale in log width, from widths 32 to 512."""
    small, large = (
        {name: getattr(scale, field) for name, scale in found(probe.replace(width=w)).items()} for w in (32, 512)
    )
    return {name: math.log(large[name] / small[name]) / math.log(16) for name in small if small[name]}


@pytest.mark.parametrize("kind", ["mup", "depth_mup"])
@pytest.mark.parametrize(
    "base",
    [
        TINY.replace(head_init="normal", gains=True),
        TINY.replace(tied=True),
        TINY.replace(optimizer="muon"),
        MLP,
        MLP.replace(optimizer="sgd", lr=0.01),
        MLP.replace(model="residual_mlp", residual="fixup"),
    ],
)
def test_at_the_base_shape_mup_is_the_standard_bit_for_bit(kind, base):
    twin = base.replace(parametrization=kind, base_width=base.width, base_depth=base.depth)
    assert found(twin) == found(base)
    a, b = (train([probe], "cpu")[0] for probe in (base, twin))
    assert torch.equal(a.weights, b.weights)
    other = train([twin.replace(base_width=base.width // 2)], "cpu")[0]
    assert not torch.equal(a.weights, other.weights)


# Table 8 of Yang et al. 2022, in exponents of the width: initial variance, multiplier, rate of SGD, rate of Adam
@pytest.mark.parametrize(
    "layer, variance, multiplier, sgd, adam",
    [("embedding", 0, 0, 1, 0), ("1.up", -1, 0, 0, -1), ("head", 0, -1, 1, 0), ("1.mlp_gain", None, 0, 1, 0)],
)
def test_mup_is_table_8(layer, variance, multiplier, sgd, adam):
    probe = TINY.replace(parametrization="mup", head_init="normal", gains=True)
    if variance is not None:
        assert 2 * exponents(probe, "std")[layer] == pytest.approx(variance)
    assert exponents(probe, "multiplier")[layer] == pytest.approx(multiplier)
    assert exponents(probe.replace(optimizer="sgd"), "lr")[layer] == pytest.approx(sgd)
    assert exponents(probe, "lr")[layer] == pytest.approx(adam)


@pytest.mark.parametrize("kind", ["standard", "ntk", "mup", "mean_field", "depth_mup"])
@pytest.mark.parametrize("optimizer, family", [("adamw", "adam"), ("lion", "adam"), ("sgd", "sgd")])
def test_effects_of_updates_follow_theory(kind, optimizer, family):
    """An update of a matrix W = multiplier w, summed over n aligned inputs, changes its outputs as width^p.

    With Adam p = A + multiplier + lr; with SGD p = A + 2 multiplier + lr + backward signal, which is the size of
    the readout's effective weights, initial ones or trained ones, whichever are larger. (A = 0 at the input.)
    """
    probe = TINY.replace(parametrization=kind, head_init="normal", optimizer=optimizer)
    std, multiplier, lr = (exponents(probe, field) for field in ("std", "multiplier", "lr"))
    for layer, name in LAYERS.items():
        aligned = 0 if layer == "embedding" else 1
        effect = aligned + multiplier[name] + lr[name]
        if family == "sgd":
            backward = max(std["head"] + multiplier["head"], -1)
            effect += multiplier[name] + (0 if layer == "readout" else backward)
        # standard and NTK leave one rate to all layers: what is missing is the law's exponent of the best rate
        expected = width_exponent(kind, family, layer) if kind in ("standard", "ntk") else 0
        assert effect == pytest.approx(expected), layer
    # sizes at the start: features of size 1 at every width, an output of size 1 or smaller
    assert std["1.up"] + multiplier["1.up"] == pytest.approx(-0.5)
    assert std["embedding"] + multiplier["embedding"] == pytest.approx(0)
    expected = -0.5 if kind in ("standard", "ntk") else -1
    assert std["head"] + multiplier["head"] == pytest.approx(expected)


@pytest.mark.parametrize(
    "changes, exponent",
    [
        ({"optimizer": "muon"}, 0),  # spectral norm of the update is right as it is
        ({"optimizer": "muon", "muon_scale": "match_rms"}, -0.5),  # it is sqrt(width) times larger
        ({"optimizer": "adafactor", "relative": True}, -0.5),  # the update is as small as the matrix, width^-1/2
        ({"optimizer": "adafactor", "relative": False}, -1),  # as Adam
    ],
)
def test_hidden_rates_of_other_optimizers_under_mup(changes, exponent):
    probe = TINY.replace(parametrization="mup", **changes)
    assert exponents(probe, "lr")["1.up"] == pytest.approx(exponent)
    assert exponents(probe, "lr")["embedding"] == 0


def test_ntk_starts_as_the_same_function_with_unit_weights():
    base = TINY.replace(head_init="normal", gains=True)
    plain, ntk = (stack([base.replace(parametrization=kind)]) for kind in ("standard", "ntk"))
    x, _ = plain.batch(0)
    torch.testing.assert_close(plain.predict(x), ntk.predict(x), rtol=1e-4, atol=1e-5)
    assert float(ntk.weights.master["1.up"].std()) == pytest.approx(1, rel=0.1)
    assert ntk.multipliers["1.up"] == 1 / 4 and ntk.multipliers["1.down"] == 1 / 8


def test_mean_field_of_two_layers_is_an_average_with_time_counted_by_width():
    probe = MLP.replace(depth=1, width=50, parametrization="mean_field", optimizer="sgd")
    where = found(probe)
    assert where["head"].multiplier == 1 / 50 and where["head"].std == pytest.approx(1)
    assert where["0.weight"].multiplier == 1
    assert {name: scale.lr for name, scale in where.items()} == {"0.weight": 50, "0.bias": 50, "head": 50}


def test_umup_is_table_2():
    probe = TINY.replace(parametrization="umup", width=64, depth=3)
    where = found(probe)
    assert {scale.std for scale in where.values()} == {1.0}
    branches = 6
    expected = {
        "embedding": (1, 64**-0.5),
        "1.qkv": (64**-0.5, (64 * branches) ** -0.5),
        "1.down": ((256 * branches) ** -0.5, (256 * branches) ** -0.5),
        "head": (1 / 64, 1),
    }
    for name, (multiplier, lr) in expected.items():
        assert (where[name].multiplier, where[name].lr) == pytest.approx((multiplier, lr)), name
    ensemble = stack([probe.replace(width=128)])
    x = torch.randn(1, 500, 128, generator=torch.Generator().manual_seed(0))
    y = ensemble.ops().linear(x, "0.up").detach()
    assert float(y.square().mean().sqrt()) == pytest.approx(1, rel=0.05)


def test_depth_mup_divides_branches_and_rates():
    base = TINY.replace(parametrization="depth_mup", base_width=16, base_depth=2, gains=True)
    shallow, deep = found(base), found(base.replace(depth=8))
    for name in ("7.down", "7.attention_out"):
        twin = shallow["1" + name[1:]]
        assert deep[name].std == twin.std  # GPT-2's own 1 / sqrt(depth) is not counted twice
        assert deep[name].multiplier == pytest.approx(0.5)
    assert deep["7.up"] == Scale(shallow["1.up"].std, 1.0, 0.5)
    assert deep["7.mlp_gain"].lr == 0.5
    assert deep["embedding"] == shallow["embedding"] and deep["head"] == shallow["head"]
    assert deep["last_gain"] == shallow["last_gain"]
    descent = found(base.replace(depth=8, optimizer="sgd"))
    assert descent["7.down"].multiplier == pytest.approx(0.5) and descent["7.down"].lr == 1.0
    assert found(MLP.replace(parametrization="depth_mup", depth=9)) == found(
        MLP.replace(parametrization="mup", depth=9)
    )


def test_depth_mup_keeps_the_stream_of_plain_branches_small():
    """Independent branches of equal size add up as sqrt(depth), unless each is divided by it."""
    sizes = {}
    for kind in ("standard", "depth_mup"):
        base = MLP.replace(model="residual_mlp", width=64, parametrization=kind, base_width=64, norm="rms", lr=0.01)
        for depth in (2, 32):
            seen = []
            ensemble = stack([base.replace(depth=depth)])
            ensemble.advance(3)
            with torch.no_grad():
                ensemble.loss(*ensemble.batch(0), observe=lambda name, x, seen=seen: seen.append((name, x)))
            stream = sum(x for name, x in seen if name.endswith("branch"))
            sizes[kind, depth] = float(stream.square().mean().sqrt())
    assert sizes["standard", 32] / sizes["standard", 2] > 3
    assert 0.6 < sizes["depth_mup", 32] / sizes["depth_mup", 2] < 1.6


def test_a_bias_of_a_branch_goes_with_its_matrix():
    probe = MLP.replace(model="residual_mlp", parametrization="depth_mup", depth=8, base_depth=2)
    weights = probe.model_settings.weights(probe.task_settings)
    by_name = multipliers(probe, weights)
    assert by_name["5.down_bias"] == by_name["5.down"] == pytest.approx(0.5)
    assert by_name["5.up_bias"] == by_name["5.up"] == 1


def test_a_tied_head_has_a_multiplier_of_its_own():
    probe = TINY.replace(tied=True, parametrization="mup", base_width=4)
    weights = probe.model_settings.weights(probe.task_settings)
    assert multipliers(probe, weights)["embedding.head"] == 1 / 4
    assert "embedding.head" not in multipliers(probe.replace(parametrization="standard"), weights)
    # entries of the table must not shrink with the width, as they do in the standard model
    assert found(probe)["embedding"].std == weights["embedding"].std * 2
    ensemble = stack([probe])
    x, _ = ensemble.batch(0)
    before = ensemble.predict(x)
    ensemble.multipliers["embedding.head"] = 1.0
    torch.testing.assert_close(before * 4, ensemble.predict(x))


def test_what_has_no_width_is_left_alone():
    linear = MLP.replace(depth=0, parametrization="mup", width=256)
    assert found(linear) == found(linear.replace(parametrization="standard"))
    features = Probe(task="teacher_student", model="random_features", width=256, parametrization="mup")
    frozen = found(features)["frozen"]
    assert frozen.lr == 0 and frozen == found(features.replace(parametrization="standard"))["frozen"]


def test_rates_of_layers_multiply_those_of_the_parametrization():
    probe = TINY.replace(parametrization="mup", base_width=4, layer_rates=[("1.", 0.5), ("1.up", 2.0), ("head", 0)])
    where = found(probe)
    assert where["0.up"].lr == 1 / 4 and where["1.down"].lr == 1 / 8 and where["1.up"].lr == 1 / 2
    assert where["head"].lr == 0


@pytest.mark.parametrize("kind", ["ntk", "mup", "mean_field", "umup", "depth_mup"])
def test_a_member_of_a_stack_is_the_solo_run_bit_for_bit(kind):
    base = TINY.replace(parametrization=kind, base_width=8)
    members = [base, base.replace(seed=1, lr=0.05), base.replace(seed=2, weight_decay=0.1)]
    for member, together in zip(members, train(members, "cpu"), strict=True):
        assert torch.equal(train([member], "cpu")[0].weights, together.weights)


def test_the_best_learning_rate_moves_under_the_standard_parametrization_and_stays_under_mup():
    base = Probe(vocab=64, context=16, batch_tokens=256, tokens=256 * 50, evals=1, schedule="constant", warmup=0.0)
    rates = 2.0 ** np.arange(-8, -3)
    best = {}
    for kind in ("standard", "mup"):
        for width in (16, 64):
            shape = base.replace(width=width, parametrization=kind, base_width=16)
            losses = [result.loss for result in train([shape.replace(lr=float(lr)) for lr in rates], "cpu")]
            best[kind, width] = int(np.argmin(losses))
    # powers of two: theory says width^-1, two steps, for the standard one (Yang et al. 2022, figure 1)
    assert best["standard", 16] == best["mup", 16]
    assert best["standard", 16] - best["standard", 64] >= 2
    assert abs(best["mup", 16] - best["mup", 64]) <= 1
