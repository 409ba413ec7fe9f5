"""Draws from counters against the distributions they stand for."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats

from workbench.probes.tasks.draws import (
    _quantile,
    epoch_rows,
    integers,
    normal_rows,
    normals,
    permutation,
    uniform_rows,
    uniforms,
)
from workbench.probes.tasks.random import stream_key

KEYS = torch.tensor([stream_key(seed, 0) for seed in (3, 4)])


def test_quantiles_are_those_of_the_normal_distribution_into_the_tails():
    rng = np.random.default_rng(0)
    words = np.concatenate([rng.integers(0, 2**32, 3000), np.arange(300), 2**31 + np.arange(-300, 300), [2**32 - 1]])
    p = (2 * (words % 2**31) + 1) / 2**33
    expected = [NormalDist().inv_cdf(q) * (1 if w < 2**31 else -1) for q, w in zip(p, words, strict=True)]
    np.testing.assert_allclose(_quantile(torch.tensor(words)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("draw", "distribution"),
    [(normal_rows, "norm"), (uniform_rows, "uniform"), (normals, "norm"), (uniforms, "uniform")],
)
def test_draws_have_their_distribution_and_no_correlation(draw, distribution):
    last = torch.arange(60) if draw in (normals, uniforms) else 60
    keys, numbers = KEYS[:, None], torch.arange(1000)
    x = draw(keys[..., None], numbers[:, None], last) if draw in (normals, uniforms) else draw(keys, numbers, last)
    assert x.shape == (2, 1000, 60) and x.dtype == torch.float32
    flat = x.double().flatten().numpy()
    assert stats.kstest(flat, distribution).pvalue > 1e-3
    standard = (x.double() - x.double().mean()) / x.double().std()
    columns = torch.cat([*standard], 1)  # [1000, 120]: positions of both streams
    correlation = columns.T @ columns / 1000
    assert (correlation - torch.diag(correlation.diag())).abs().max() < 5.5 / 1000**0.5


def test_rows_do_not_depend_on_their_number_or_length():
    numbers = torch.arange(700)
    whole = normal_rows(KEYS[:, None], numbers, 41)
    assert torch.equal(whole[1:, 300:, :7], normal_rows(KEYS[1:, None], numbers[300:], 7))
    assert torch.equal(whole[:, 650:], normal_rows(KEYS[:, None], numbers[650:], 41))


def test_uniform_numbers_are_inside_the_interval():
    x = uniform_rows(KEYS[:, None], torch.arange(4000), 100)
    assert 0 < float(x.min()) < 1e-4 and 1 - 1e-4 < float(x.max()) < 1
    assert bool((x * 2**24 == (x * 2**24).round()).all())


def test_integers_are_alike_and_within_bounds():
    x = integers(KEYS[:1], torch.arange(60000), torch.tensor(5), 6)
    counts = np.bincount(x.numpy(), minlength=6)
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-3


def test_permutations_are_permutations_of_their_own():
    orders = permutation(KEYS[:, None], torch.arange(3), 50)
    assert orders.shape == (2, 3, 50)
    assert torch.equal(orders.sort(-1).values, torch.arange(50).expand(2, 3, 50))
    assert len({tuple(o) for o in orders.flatten(0, 1).tolist()}) == 6
    # every place is equally likely for row 0
    first = permutation(KEYS[:1, None], torch.arange(4000), 8)[0].argmin(-1)
    assert stats.chisquare(np.bincount(first.numpy(), minlength=8)).pvalue > 1e-3


def test_epochs_are_without_replacement_whatever_is_asked_for_at_once():
    sizes, batch = [12, 7], 5
    whole = epoch_rows(KEYS, sizes, 0, 84, batch)
    assert whole.shape == (84, 2, 5)
    for member, n in enumerate(sizes):
        epochs = whole[:, member].flatten().view(-1, n)  # 420 examples: 35 epochs of 12, 60 of 7
        assert torch.equal(epochs.sort(1).values, torch.arange(n).expand_as(epochs))
        assert len({tuple(e) for e in epochs.tolist()}) > 1
    parts = [epoch_rows(KEYS, sizes, first, count, batch) for first, count in ((0, 1), (1, 30), (31, 53))]
    assert torch.equal(whole, torch.cat(parts))


def test_a_full_batch_is_the_set_in_its_own_order():
    assert torch.equal(epoch_rows(KEYS, [6, 6], 4, 2, 6), torch.arange(6).expand(2, 2, 6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_draws_the_same_bits():
    numbers = torch.arange(3000)
    for draw in (normal_rows, uniform_rows):
        cuda = draw(KEYS.cuda()[:, None], numbers.cuda(), 33).cpu()
        assert torch.equal(draw(KEYS[:, None], numbers, 33), cuda)
