"""Neural collapse: the contract, and its formulas against convex optimization and a general minimizer."""

import numpy as np
import pytest
from scipy.optimize import minimize

from workbench.phenomena import find
from workbench.phenomena.generalization.neural_collapse import critical_size, squared_lengths, train
from workbench.testing.phenomena import PhenomenonContract

SIZES = np.array([30, 12, 5, 2])


class TestNeuralCollapse(PhenomenonContract):
    phenomenon = find("neural_collapse")


def loss(w, h, sizes, decay_head, decay_features):
    labels = np.eye(len(sizes))[:, np.repeat(np.arange(len(sizes)), sizes)]
    return (
        ((w @ h - labels) ** 2).sum() / (2 * sizes.sum())
        + decay_head * (w**2).sum() / 2
        + decay_features * (h**2).sum() / 2
    )


@pytest.mark.parametrize(("decay_head", "decay_features"), [(0.01, 0.002), (0.05, 0.03)])
def test_lengths_are_those_of_a_general_minimizer(decay_head, decay_features):
    """The second pair of decays is beyond the threshold of the smallest class: it must vanish there too."""
    classes, total, width = len(SIZES), SIZES.sum(), 6
    labels = np.eye(classes)[:, np.repeat(np.arange(classes), SIZES)]

    def value_and_gradient(flat):
        w, h = flat[: classes * width].reshape(classes, width), flat[classes * width :].reshape(width, total)
        residual = (w @ h - labels) / total
        gradient = [residual @ h.T + decay_head * w, w.T @ residual + decay_features * h]
        return loss(w, h, SIZES, decay_head, decay_features), np.concatenate([g.ravel() for g in gradient])

    starts = [np.random.default_rng(s).standard_normal(classes * width + width * total) for s in range(3)]
    options = {"maxiter": 5000, "ftol": 0, "gtol": 1e-9}
    tried = [minimize(value_and_gradient, s, jac=True, method="L-BFGS-B", options=options) for s in starts]
    found = min(tried, key=lambda one: one.fun)
    w = found.x[: classes * width].reshape(classes, width)
    expected = squared_lengths(SIZES, decay_head, decay_features)
    assert (w**2).sum(1) == pytest.approx(expected, abs=2e-4)
    gone = critical_size(total, decay_head, decay_features) >= SIZES
    assert list(gone) == list(expected == 0) and gone.any() == (decay_head == 0.05)
    ours = train(SIZES, decay_head, decay_features, width, np.random.default_rng(7))
    assert loss(*ours, SIZES, decay_head, decay_features) == pytest.approx(found.fun, abs=1e-8)


def test_the_minimum_is_soft_thresholding_of_the_labels():
    """min over W, H of the decays is the nuclear norm of W H (Srebro et al. 2004), so the optimum is known in Z."""
    decay_head, decay_features = 0.02, 0.004
    labels = np.eye(4)[:, np.repeat(np.arange(4), SIZES)]
    u, s, v = np.linalg.svd(labels, full_matrices=False)
    kept = np.maximum(0, s - SIZES.sum() * np.sqrt(decay_head * decay_features))
    w, h = train(SIZES, decay_head, decay_features, 8, np.random.default_rng(1))
    assert w @ h == pytest.approx((u * kept) @ v, abs=1e-5)


def test_without_decay_labels_are_met_and_features_stay_apart():
    w, h = train(SIZES, 0.0, 0.0, 8, np.random.default_rng(2))
    labels = np.repeat(np.arange(4), SIZES)
    assert w @ h == pytest.approx(np.eye(4)[:, labels], abs=1e-5)
    assert np.linalg.norm(h[:, :30] - h[:, :30].mean(1, keepdims=True)) > 1
