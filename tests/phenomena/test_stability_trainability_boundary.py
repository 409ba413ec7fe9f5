"""The boundary of trainability: box counting on known shapes, training against automatic gradients."""

import math

import numpy as np
import pytest

from workbench.phenomena import find
from workbench.phenomena.stability.trainability_boundary import (
    UNITS,
    boundary,
    box_counts,
    dimension,
    losses,
    picture,
    unpacked,
)
from workbench.testing.phenomena import PhenomenonContract


class TestTrainabilityBoundary(PhenomenonContract):
    phenomenon = find("trainability_boundary")


def test_dimensions_of_known_shapes() -> None:
    i, j = np.indices((64, 64))
    assert dimension((i & j) == 0) == pytest.approx(math.log2(3))  # Sierpinski's triangle
    assert dimension(i == j) == pytest.approx(1)
    assert dimension(i < 100) == pytest.approx(2)
    assert dimension((i == 7) & (j == 9)) == 0
    assert math.isnan(dimension(i > 100))
    assert box_counts(i == 0) == [64, 32, 16, 8]


def test_the_boundary_lies_between_unlike_neighbours() -> None:
    half = np.zeros((8, 8), bool)
    half[:, :3] = True
    assert np.argwhere(boundary(half)).tolist() == [[k, 2] for k in range(8)]
    assert not boundary(np.ones((8, 8), bool)).any()


def test_training_follows_automatic_gradients() -> None:
    torch = pytest.importorskip("torch")
    seed, steps = 5, 25
    rng = np.random.default_rng(seed)
    h0, v0, target = rng.standard_normal(UNITS), rng.standard_normal(UNITS), rng.standard_normal()
    x, y = np.array([-0.5, 0.4, 1.0]), np.array([0.2, -0.3, 0.6])
    found = losses(x, y, seed, False, steps)
    for k in range(3):
        h, v = (torch.tensor(start, requires_grad=True) for start in (h0, v0))
        seen = []
        for _ in range(steps):
            loss = (v @ torch.tanh(h) / math.sqrt(UNITS) - target) ** 2
            seen.append(loss.item())
            g, pull = torch.autograd.grad(loss, (h, v))
            with torch.no_grad():
                h -= 10 ** x[k] * g
                v -= 10 ** y[k] * pull
        assert found[k] == pytest.approx(np.mean(seen[-20:]) / seen[0], rel=1e-6)


def test_the_convex_problem_has_a_known_boundary() -> None:
    """The convex problem trains exactly where a weighted sum of the two rates is below 2 over the curvature."""
    seed = 3
    rng = np.random.default_rng(seed)
    h0, v0 = rng.standard_normal(UNITS), rng.standard_normal(UNITS)
    slope_h, slope_v = np.sum((v0 / np.cosh(h0) ** 2) ** 2) / UNITS, np.sum(np.tanh(h0) ** 2) / UNITS
    along = np.linspace(-2, 4, 60)
    x, y = (part.ravel() for part in np.meshgrid(along, along))
    with np.errstate(all="ignore"):
        trained = losses(x, y, seed, True) < 1
    # a step multiplies the error by 1 - 2 (rate_h slope_h + rate_v slope_v)
    step = 10**x * slope_h + 10**y * slope_v
    assert np.array_equal(trained, step < 1)


def test_numpy_and_torch_agree_away_from_the_boundary() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([-1.0, 0.5, 3.0], dtype=torch.float64)
    y = torch.tensor([-1.0, 0.2, 2.0], dtype=torch.float64)
    with np.errstate(all="ignore"):
        ours = losses(x.numpy(), y.numpy(), 1, False)
    np.testing.assert_allclose(losses(x, y, 1, False, lib=torch).numpy()[:2], ours[:2], rtol=1e-6)
    assert not ours[2] < 1 and not losses(x, y, 1, False, lib=torch)[2] < 1


def test_a_frame_survives_its_column() -> None:
    drawn = picture(1.0, 0.6, 1.0, 24, 0, False)
    assert drawn.any() and not drawn.all()
    assert np.array_equal(unpacked("p" + np.packbits(drawn).tobytes().hex()), drawn)
