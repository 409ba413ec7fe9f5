"""Random labels: the contract, how capacity is read off, and that the labels are what they are said to be."""

import numpy as np

from workbench.phenomena import find
from workbench.phenomena.generalization.random_labels import CLASSES, RANDOM, capacity
from workbench.testing.phenomena import PhenomenonContract


class TestRandomLabels(PhenomenonContract):
    phenomenon = find("random_labels")


def test_capacity_is_the_largest_set_that_is_fitted():
    ratios = np.array([1.4, 0.25, 0.5, 0.35])
    assert capacity(ratios, np.array([0.6, 1.0, 0.7, 0.99])) == 0.35
    assert capacity(ratios, np.ones(4)) == 1.4
    assert capacity(ratios, np.full(4, 0.9)) == 0.0


def test_replacing_labels_by_wrong_ones_at_this_rate_makes_all_equally_likely():
    """A wrong label with probability 1 - 1/K, drawn alike among K - 1, and the right one else: each has 1/K."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, 200_000)
    wrong = (truth + rng.integers(1, CLASSES, truth.size)) % CLASSES
    label = np.where(rng.random(truth.size) < RANDOM, wrong, truth)
    for k in range(CLASSES):
        assert abs((label[truth == k][:, None] == np.arange(CLASSES)).mean(0) - 1 / CLASSES).max() < 0.01
