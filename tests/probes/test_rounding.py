"""Simulated formats against torch's own eight-bit casts, the published value tables, and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch

from tests.probes.stacks import stack
from workbench.probes import Probe
from workbench.probes.checkpoint import Checkpoint
from workbench.probes.rounding import FORMATS, build_rounding, round_blocks
from workbench.probes.trainer import train

TINY = Probe(vocab=32, width=8, context=16, batch_tokens=256, tokens=256 * 30, lr=0.02, evals=3)

#: Non-negative values of the OCP Microscaling formats' element types (specification 1.0, section 5.3).
OCP = {
    "e2m1": [0, 0.5, 1, 1.5, 2, 3, 4, 6],
    "e2m3": [k / 8 for k in range(16)] + [2 + k / 4 for k in range(8)] + [4 + k / 2 for k in range(8)],
    "e3m2": [k / 16 for k in range(8)] + [2.0**e * (1 + k / 4) for e in range(-1, 5) for k in range(4)],
    "e1m2": [k / 2 for k in range(8)],
}


def numbers(largest):
    """Random numbers of every size up to `largest`, and below the smallest subnormal."""
    rng = np.random.default_rng(0)
    size = 2.0 ** rng.uniform(-24, math.log2(largest), 20000)
    return torch.tensor(np.concatenate([size, -size, [0.0, -0.0]]), dtype=torch.float32)


@pytest.mark.parametrize("name, dtype", [("e5m2", torch.float8_e5m2), ("e4m3", torch.float8_e4m3fn)])
def test_eight_bit_floats_are_those_of_torch(name, dtype):
    form = FORMATS[name]
    every = torch.arange(256, dtype=torch.uint8).view(dtype).float()
    every = every[every.isfinite()].sort().values
    assert every.max() == form.largest
    # all values, all midpoints between neighbours (ties), and numbers of every size, subnormal ones included
    middles = (every[1:] + every[:-1]) / 2
    x = torch.cat([every, middles, numbers(form.largest)])
    assert torch.equal(form.round(x), x.to(dtype).float())
    assert torch.equal(form.round(x).signbit(), x.signbit())


@pytest.mark.parametrize("name", FORMATS)
def test_beyond_the_range_formats_saturate_and_nan_stays(name):
    form = FORMATS[name]
    x = torch.tensor([form.largest * 1.01, 3e38, -3e38, math.inf, -math.inf, math.nan])
    top = form.largest
    assert form.round(x)[:5].tolist() == [top, top, -top, top, -top]
    assert form.round(x)[5].isnan()


@pytest.mark.parametrize("name", OCP)
def test_small_floats_round_to_the_nearest_of_the_published_values(name):
    form, table = FORMATS[name], np.array(OCP[name])
    assert table.max() == form.largest and len(table) == 2 ** (form.exponent + form.mantissa)
    middles = (table[1:] + table[:-1]) / 2
    x = np.concatenate([table, middles, numbers(1.5 * form.largest).numpy()]).astype(np.float32)
    distance = np.abs(np.abs(x)[:, None] - table[None])
    nearest = distance.argmin(1)
    # a tie goes to the even code, and codes count upwards through the table
    tie = np.isclose(np.sort(distance, 1)[:, 0], np.sort(distance, 1)[:, 1], rtol=0, atol=0)
    nearest = np.where(tie & (nearest % 2 == 1), nearest + 1, nearest)
    np.testing.assert_array_equal(form.round(torch.tensor(x)).numpy(), np.copysign(table[nearest], x))


@pytest.mark.parametrize("name", ["int8", "int4", "int2"])
def test_integers_by_brute_force(name):
    form = FORMATS[name]
    assert form.largest == {"int8": 127, "int4": 7, "int2": 1}[name]
    x = np.random.default_rng(0).uniform(-form.largest, form.largest, 5000).astype(np.float32)
    grid = np.arange(-form.largest, form.largest + 1)
    expected = grid[np.abs(x[:, None] - grid).argmin(1)]
    np.testing.assert_array_equal(form.round(torch.tensor(x)).numpy(), expected)


@pytest.mark.parametrize("dim, block", [(-1, 4), (-2, 4), (-1, 5), (-2, 5), (-1, 64), (-2, 64), (-1, 1), (-1, 0)])
@pytest.mark.parametrize("name", ["int4", "e2m1", "e4m3"])
def test_blocks_have_scales_of_their_own(name, dim, block):
    form = FORMATS[name]
    x = torch.randn(2, 12, 8, generator=torch.Generator().manual_seed(0))
    x[1, :5] = 0  # blocks of zeros
    got = round_blocks(x, form, block, dim)
    assert got.shape == x.shape and got.isfinite().all()
    for e, k in itertools.product(range(2), range(8 if dim == -2 else 12)):
        line, mine = (x[e, :, k], got[e, :, k]) if dim == -2 else (x[e, k], got[e, k])
        for start in range(0, len(line), block or len(line)):
            part, rounded = (t[start : start + (block or len(line))] for t in (line, mine))
            peak = (x[e] if block == 0 else part).abs().max()
            scale = float(peak) / form.largest or 1.0
            expected = form.round(part / scale) * scale
            torch.testing.assert_close(rounded, expected, rtol=1e-6, atol=0)
    if block == 1:  # a scale for every number loses nothing
        torch.testing.assert_close(got, x, rtol=1e-6, atol=0)


def test_scaling_by_a_power_of_two_changes_nothing():
    x = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(0))
    for form in FORMATS.values():
        assert torch.equal(round_blocks(x * 1024, form, 16), round_blocks(x, form, 16) * 1024)


@pytest.mark.parametrize("quantized", ["weights", "activations", "weights_activations", "all"])
def test_operands_are_chosen_and_gradients_go_straight_through(quantized):
    rounding = build_rounding(TINY.replace(precision="int4", quantized=quantized))
    form = FORMATS["int4"]
    chosen = {"weights_activations": {"weights", "activations"}, "all": {"weights", "activations"}}
    generator = torch.Generator().manual_seed(0)
    upstream = torch.randn(1, 40, 8, generator=generator)
    for role, dim in (("weights", -2), ("activations", -1)):
        x = torch.randn(1, 40, 8, generator=generator, requires_grad=True)
        y = rounding(x, role)
        changed = role in chosen.get(quantized, {quantized})
        assert torch.equal(y, round_blocks(x.detach(), form, 32, dim) if changed else x)
        (grad,) = torch.autograd.grad(y, x, upstream)
        assert torch.equal(grad, upstream)
    x = torch.randn(1, 40, 8, generator=generator, requires_grad=True)
    y = rounding(x, "gradients")
    (grad,) = torch.autograd.grad(y * 1.0, x, upstream)
    assert torch.equal(y, x)
    assert torch.equal(grad, round_blocks(upstream, form, 32) if quantized == "all" else upstream)


def test_a_linear_layer_multiplies_rounded_operands_with_rounded_gradients():
    probe = TINY.replace(precision="e2m1", quantized="all", block=4)
    ensemble = stack([probe])
    ops = ensemble.ops()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 6, 8, generator=generator, requires_grad=True)
    w, upstream = ops.weights["0.up"], torch.randn(1, 6, 32, generator=generator)
    form = FORMATS["e2m1"]
    a, b = round_blocks(x.detach(), form, 4), round_blocks(w.detach(), form, 4, -2)
    g = round_blocks(upstream, form, 4)
    y = ops.linear(x, "0.up")
    torch.testing.assert_close(y, a @ b)
    grads = torch.autograd.grad(y, (x, w), upstream)
    torch.testing.assert_close(grads[0], g @ b.mT)
    torch.testing.assert_close(grads[1], a.mT @ g)


def test_other_precisions_are_left_alone():
    for precision in ("fp32", "bf16"):
        assert build_rounding(TINY.replace(precision=precision)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "e4m3"},
        {"precision": "e2m1", "quantized": "all", "block": 5},
        {"precision": "int4", "block": 0},
        {"precision": "int8", "quantized": "weights", "depth": 2, "heads": 2},
    ],
)
def test_a_member_of_a_stack_is_the_solo_run_bit_for_bit(changes):
    base = TINY.replace(**changes)
    members = [base, base.replace(seed=1, lr=0.05), base.replace(seed=2, tau=1.0)]
    stacked = train(members, "cpu")
    for member, together in zip(members, stacked, strict=True):
        (solo,) = train([member], "cpu")
        assert torch.equal(solo.weights, together.weights)
        assert [r["loss"] for r in solo.records] == [r["loss"] for r in together.records]


def test_it_resumes_to_the_same_bits(tmp_path):
    probe = TINY.replace(precision="int4", quantized="all")
    looks = iter([False, False, True])
    (part,) = train([probe], "cpu", should_stop=lambda: next(looks))
    part.state.write(tmp_path / "state")
    (again,) = train([probe], "cpu", states=[Checkpoint.read(tmp_path / "state")])
    (whole,) = train([probe], "cpu")
    assert torch.equal(again.weights, whole.weights)


def test_e1m2_is_int4_with_another_scale():
    """Both are fifteen evenly spaced values."""
    base = TINY.replace(precision="e1m2")
    floats, integers = (train([probe], "cpu")[0] for probe in (base, base.replace(precision="int4")))
    assert torch.equal(floats.weights, integers.weights)


def test_fewer_bits_learn_worse():
    base = Probe(vocab=32, width=16, context=16, batch_tokens=512, tokens=512 * 150, lr=0.02, evals=1)
    loss = {}
    for precision in ("fp32", "int8", "int4", "int2"):
        results = train([base.replace(precision=precision, seed=seed) for seed in range(3)], "cpu")
        loss[precision] = np.array([result.loss for result in results])
    # paired seeds: same initial weights, same text
    assert np.abs(loss["int8"] - loss["fp32"]).max() < 0.02
    assert (loss["int4"] > loss["fp32"]).all()
    assert (loss["int2"] > loss["int4"] + 0.05).all()
