"""The price of a sweep: operations against hand counts, memory against an allocator, refits against known truth."""

import dataclasses

import numpy as np
import pytest
import torch

from workbench.probes import Probe, Sweep
from workbench.probes.backend import Backend
from workbench.probes.cost import price, refit
from workbench.probes.counting import count_prediction, count_step
from workbench.probes.ensemble import Ensemble
from workbench.probes.machine import Machine
from workbench.probes.trainer import train

PROBE = Probe(
    vocab=32, width=16, depth=2, heads=2, context=16, batch_tokens=128, tokens=128 * 6, evals=2, positions="none"
)
MACHINE = Machine(
    "made up", False, 2.0**34, 1e-5, 1e-6, {2**18: 2e10, 2**25: 1e10}, 5e9, {8: 1e10, 64: 5e10, 256: 1e11}
)


def hand_flops(probe):
    """Of the products of one step: each forward, twice backward; attention without the triangle's saving."""
    d, t, tokens = probe.width, probe.context, probe.batch_tokens
    matrices = probe.depth * 12 * d * d + d * probe.vocab
    attention = probe.depth * 2 * t * d  # scores and their product with the values
    return 6.0 * tokens * (matrices + attention)


@pytest.mark.parametrize("changed", [{}, {"width": 64, "batch_tokens": 1024, "tokens": 4096}, {"precision": "bf16"}])
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("on_cuda", [False, True])
def test_products_are_counted_as_by_hand(changed, members, on_cuda):
    probe = PROBE.replace(**changed)
    if on_cuda and probe.precision == "bf16":
        probe = probe.replace(norm="layer")  # what the kernels leave to the plain path
    found = count_step(probe, members, on_cuda).flops.sum()
    assert found == pytest.approx(members * hand_flops(probe), rel=1e-12)


def test_a_multilayer_perceptron_is_counted_as_by_hand():
    probe = Probe(model="mlp", task="teacher_student", width=24, depth=2, batch_tokens=64, tokens=640)
    shapes = [w.shape for w in probe.model_settings.weights(probe.task_settings).values() if len(w.shape) == 2]
    forward = [2.0 * 64 * a * b for a, b in shapes]
    # the inputs have no gradient; a product by a vector is done with two columns
    found = count_step(probe, 1, False).flops.sum()
    assert 3 * sum(forward) - forward[0] <= found <= 3 * sum(forward) + forward[-1] * 3


def test_evaluation_is_the_forward_pass():
    assert count_prediction(PROBE, 2, False).flops.sum() == pytest.approx(2 * hand_flops(PROBE) / 3, rel=1e-12)


@pytest.mark.parametrize("probe", [PROBE, PROBE.replace(precision="bf16"), PROBE.replace(optimizer="lion")])
def test_bytes_and_memory_grow_linearly_with_the_stack(probe):
    one, two, four = (count_step(probe, members, True) for members in (1, 2, 4))
    for name in ("bytes", "memory"):
        sizes = [float(np.sum(getattr(step, name))) for step in (one, two, four)]
        assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.02)
        assert sizes[1] > 1.8 * sizes[0]


@pytest.mark.parametrize(
    ("probe", "members"),
    [
        (PROBE.replace(width=32, batch_tokens=1024, tokens=4096), 4),
        (PROBE.replace(width=64, batch_tokens=1024, tokens=4096), 2),
        (Probe(model="mlp", task="teacher_student", width=128, batch_tokens=2048, tokens=8192), 4),
    ],
)
def test_memory_is_what_the_allocator_sees(probe, members):
    backend = Backend(torch.device("cpu"), "highest", 1, False)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        ensemble = Ensemble([probe.replace(seed=seed) for seed in range(members)], backend)
        made = torch.empty(12345)  # tells the loops apart
        ensemble.advance(2)
    del made
    level = peak = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    # data, schedules and the copies made while starting are not in the count
    assert 0.6 * peak < count_step(probe, members, False).memory < 1.3 * peak


def test_refit_finds_known_factors():
    probes = [(PROBE, 1), (PROBE, 16), (PROBE.replace(width=128, batch_tokens=2048, tokens=8192), 2)]
    probes += [(PROBE.replace(width=256, depth=1), 2), (PROBE.replace(vocab=512, batch_tokens=1024, tokens=4096), 4)]
    truth = dataclasses.replace(MACHINE, factors=(2.0, 0.5, 3.0), launch=0.0)
    steps = [count_step(probe, members, False) for probe, members in probes]
    start = dataclasses.replace(MACHINE, launch=0.0)
    measured = [(step, sum(truth.seconds(step).values())) for step in steps]
    fitted = start
    for _ in range(60):  # each refit is drawn a little towards where it starts
        fitted = fitted.refit(measured)
    assert sum(fitted.seconds(steps[-1]).values()) == pytest.approx(measured[-1][1], rel=0.05)
    for (step, seconds), before in zip(measured, steps, strict=True):
        now = abs(sum(fitted.seconds(step).values()) / seconds - 1)
        assert now < 0.1 < abs(sum(start.seconds(before).values()) / seconds - 1)


def test_refit_takes_results_and_leaves_out_what_says_nothing():
    results = train([PROBE, PROBE.replace(seed=1)], "cpu")
    fitted = refit(MACHINE, results)
    assert all(np.isfinite(fitted.factors))
    seconds = results[0].records[-1]["seconds"]
    assert refit(MACHINE, [(PROBE, 2, seconds), (PROBE, 2, seconds)]).factors == pytest.approx(fitted.factors)
    nothing = dataclasses.replace(results[0], records=())
    assert refit(MACHINE, [nothing, *results]).factors == pytest.approx(fitted.factors)
    with pytest.raises(ValueError, match="at least one finished stack"):
        refit(MACHINE, [nothing])


def test_a_bucket_is_cut_to_fit_the_memory():
    sweep = Sweep([PROBE.replace(seed=seed) for seed in range(8)])
    whole = price(sweep, "cpu", machine=MACHINE).buckets.iloc[0]
    small = dataclasses.replace(MACHINE, memory=count_step(PROBE, 8, False).memory / 2)
    cut = price(sweep, "cpu", machine=small).buckets.iloc[0]
    assert (whole["stacks"], cut["stacks"]) == (1, 3)  # of half the memory four fifths are planned with
    assert cut["memory_gib"] * 2**30 <= 0.8 * small.memory
    assert cut["seconds"] > whole["seconds"]


def test_more_work_costs_more():
    def seconds(**changed):
        buckets = price(Sweep([PROBE.replace(**changed)]), "cpu", machine=MACHINE).buckets
        return float(buckets["training"].sum())

    assert seconds(tokens=128 * 60) == pytest.approx(10 * seconds(), rel=0.2)
    assert seconds() < seconds(width=64) < seconds(width=256)
    assert seconds() < seconds(depth=6)


def test_the_total_is_the_sum_of_its_parts():
    sweep = Sweep.grid(PROBE, width=[8, 16], seed=[0, 1])
    cost = price(sweep, "cpu", machine=MACHINE)
    table = cost.buckets
    assert list(table["runs"]) == [2, 2]
    np.testing.assert_allclose(table["seconds"], table["training"] + table["evaluation"])
    assert cost.seconds == pytest.approx(table["seconds"].sum())
    assert price(sweep, "cpu", machine=MACHINE, slots=2).seconds == pytest.approx(table["seconds"].max(), rel=0.5)
    assert cost.flops == pytest.approx(sum(probe.flops for probe in sweep))
    assert set(table["binding"]) <= {"host", "launch", "bytes", "FLOPs"}
    assert "2 buckets on made up" in str(cost)
    assert cost.to_dict()["buckets"][0]["model"] == "transformer"


def test_the_kernels_on_cuda_are_priced_as_they_ran():
    """Tokens/s on one H200 (790 TFLOP/s, 4.3 TB/s): the two constants were chosen on these five."""
    h200 = Machine("H200", True, 1.5e11, 0.0, 1.2e-6, {2**28: 4.3e12}, 4e12, {64: 2e14, 1024: 7.9e14})
    for (width, depth, context, vocab, batch, members), rate in {
        (64, 2, 128, 256, 8, 256): 131e6,
        (128, 4, 128, 256, 16, 256): 32.7e6,
        (256, 4, 256, 1024, 32, 16): 11.3e6,
    }.items():
        tokens = batch * context
        probe = Probe(
            width=width, depth=depth, heads=max(1, width // 64), context=context, vocab=vocab, batch_tokens=tokens,
            tokens=tokens * 10, precision="bf16",
        )  # fmt: skip
        step = count_step(probe, members, True)
        assert step.width == width
        assert members * tokens / sum(h200.seconds(step).values()) == pytest.approx(rate, rel=0.2)


def test_bad_calls_get_one_sentence():
    with pytest.raises(ValueError, match="slots=0 must be at least 1"):
        price(Sweep([PROBE]), "cpu", machine=MACHINE, slots=0)
    with pytest.raises(ValueError, match="device="):
        price(Sweep([PROBE]), "tpu")
    with pytest.raises(ValueError, match="at least one finished stack"):
        refit(MACHINE, [])
