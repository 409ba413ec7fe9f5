"""Sweeps: random, low-discrepancy, and by size and horizon."""

import math

import numpy as np
import pytest
from scipy.stats import qmc

from workbench.probes import Probe, Sweep
from workbench.probes.sweep import Span

BASE = Probe(vocab=64, context=16, batch_tokens=256, tokens=2560)


def test_random_draws_lie_in_their_ranges_and_repeat_with_their_seed():
    draw = {"lr": Span(1e-3, 1e-1), "width": [8, 16, 32], "weight_decay": Span(0.0, 0.5, log=False), "seed": range(99)}
    sweep = Sweep.random(BASE, 200, draw_seed=3, **draw)
    assert len(sweep) == 200
    assert sweep == Sweep.random(BASE, 200, draw_seed=3, **draw) != Sweep.random(BASE, 200, draw_seed=4, **draw)
    logs = np.log10([p.lr for p in sweep])
    assert -3 <= logs.min() < logs.max() <= -1
    assert np.mean(logs) == pytest.approx(-2, abs=4 * 2 / math.sqrt(12 * 200))  # four standard errors of a uniform
    assert {p.width for p in sweep} == {8, 16, 32}
    assert max(p.weight_decay for p in sweep) <= 0.5


def test_sobol_fills_the_box_more_evenly_than_chance():
    def discrepancy(sweep):
        return qmc.discrepancy([[math.log10(p.lr / 1e-3) / 2, math.log10(p.eps / 1e-10) / 4] for p in sweep])

    axes = {"lr": Span(1e-3, 1e-1), "eps": Span(1e-10, 1e-6)}
    assert (
        discrepancy(Sweep.sobol(BASE, 64, draw_seed=0, **axes))
        < discrepancy(Sweep.random(BASE, 64, draw_seed=0, **axes)) / 3
    )
    # every quarter of each axis holds exactly a quarter of a balanced sequence
    lrs = np.log10([p.lr for p in Sweep.sobol(BASE, 64, **axes)])
    assert np.histogram(lrs, np.linspace(-3, -1, 5))[0].tolist() == [16] * 4
    assert len(Sweep.sobol(BASE, 10, **axes)) == 10


def test_whole_spans_give_whole_numbers():
    assert {p.width for p in Sweep.random(BASE, 50, width=Span(2, 5))} == {2, 3, 4, 5}


@pytest.mark.parametrize("target", [1e4, 1e5, 3e6])
def test_sizes_come_near_their_targets(target):
    sweep = Sweep.scale(BASE, [target], tokens_per_param=[1, 20], aspect=32, head_width=8)
    small, large = sweep
    assert 1 / 1.5 < small.params_non_embedding / target < 1.5
    assert small.heads == small.width // 8
    assert small.depth == max(1, round(small.width / 32))
    for probe, ratio in ((small, 1), (large, 20)):
        assert abs(probe.tokens - ratio * probe.params_non_embedding) <= 128
    # no neighbouring width is nearer
    off = abs(math.log(small.params_non_embedding / target))
    for width in (small.width - 8, small.width + 8):
        if width:
            other = small.replace(width=width, heads=width // 8, depth=max(1, round(width / 32)))
            assert abs(math.log(other.params_non_embedding / target)) >= off


def test_scaling_sweeps_multiply_out():
    sweep = Sweep.scale(BASE, [1e4, 4e4], tokens=[2560, 5120], seed=[0, 1, 2])
    assert len(sweep) == 12
    assert {p.tokens for p in sweep} == {2560, 5120}
    assert len({p.width for p in sweep}) == 2


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Sweep.scale(BASE, [1e4]), "either tokens"),
        (lambda: Sweep.scale(BASE, [1e4], tokens=[2560], tokens_per_param=[1]), "either tokens"),
        (lambda: Sweep.scale(BASE, [1e12], tokens=[2560]), "no width comes within"),
        (lambda: Span(2, 1), "low < high"),
        (lambda: Span(0.0, 1.0), "0 < low"),
    ],
)
def test_bad_sweeps_get_one_sentence(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_an_axis_is_a_span_or_a_list():
    with pytest.raises(TypeError, match="neither a Span"):
        Sweep.random(BASE, 3, lr=0.1)
    with pytest.raises(TypeError, match="no field 'colour'"):
        Sweep.random(BASE, 3, colour=[1])
