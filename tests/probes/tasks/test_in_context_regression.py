"""In-context regression: the best answers against textbook ridge regression and least squares."""

import math

import numpy as np
import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.in_context_regression import posterior, shown_counts
from workbench.testing.tasks import TaskContract

CPU = torch.device("cpu")
TINY = Probe(task="in_context_regression", features=3, examples=6, width=8, batch_tokens=8, tokens=32, evals=2)


def ridge(x, y, point, penalty):
    return point @ np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


class TestInContextRegression(TaskContract):
    probe = TINY
    members = ({}, {"seed": 1}, {"seed": 2, "noise": 0.5})
    refused = (({"noise": -1.0}, "noise"), ({"features": 0}, "features"), ({"examples": 0}, "examples"))
    # without a look at the examples the loss is 1 + noise^2
    learns, trivial = {"tokens": 2**13, "batch_tokens": 64, "lr": 0.01, "width": 32, "depth": 2, "heads": 2,
                       "features": 1}, 0.8  # fmt: skip

    def optimal(self, data, probes):
        def predict(x):
            out = torch.zeros(len(probes), *x.shape[1:3], 1)
            for e, probe in enumerate(probes):
                part = x[e if len(x) > 1 else 0].double().numpy()
                for b, prompt in enumerate(part):
                    points, answers = prompt[::2, :3], prompt[1::2, 3]
                    for k in range(6):
                        penalty = 3 * probe.noise**2
                        out[e, b, 2 * k, 0] = float(ridge(points[:k], answers[:k], points[k], penalty))
            return out

        floors = []
        for e, probe in enumerate(probes):
            points = data.heldout[e if len(data.heldout) > 1 else 0][:, ::2, :3].double().numpy()
            variances = [
                probe.noise**2 + p[k] @ np.linalg.inv(3 * np.eye(3) + p[:k].T @ p[:k] / probe.noise**2) @ p[k]
                for p in points for k in range(6)
            ]  # fmt: skip
            floors.append(float(np.mean(variances)))
        return predict, floors


@pytest.mark.parametrize("noise", [0.0, 0.02, 1.0])
def test_the_posterior_is_ridge_regression(noise):
    rng = np.random.default_rng(0)
    n, k, d = 20, 12, 5
    x, w = rng.standard_normal((n, k, d)), rng.standard_normal((n, d)) / math.sqrt(d)
    y = np.einsum("nkd,nd->nk", x, w) + noise * rng.standard_normal((n, k))
    mean, variance = posterior(x, y, noise)
    for i in range(n):
        for j in range(k):
            if noise:
                expected = ridge(x[i, :j], y[i, :j], x[i, j], d * noise**2)
                spread = np.linalg.inv(d * np.eye(d) + x[i, :j].T @ x[i, :j] / noise**2)
                left = noise**2 + x[i, j] @ spread @ x[i, j]
            else:  # least squares of least norm; what is left is the part of x outside the span of those seen
                solution = np.linalg.lstsq(x[i, :j], y[i, :j], rcond=None)[0] if j else np.zeros(d)
                expected = x[i, j] @ solution
                inside = np.linalg.pinv(x[i, :j]) @ x[i, :j] if j else np.zeros((d, d))
                left = x[i, j] @ (np.eye(d) - inside) @ x[i, j] / d
            assert mean[i, j] == pytest.approx(expected, abs=1e-7)
            assert variance[i, j] == pytest.approx(left, abs=1e-7)


def test_prompts_hold_what_they_say():
    data = TINY.task_settings.build([TINY], CPU)
    x, y = data.batch(*(rows[0] for rows in data.block(0, 1)))
    assert bool((x[:, :, ::2, 3] == 0).all()) and bool((x[:, :, 1::2, :3] == 0).all())
    assert torch.equal(x[0, :, 1::2, 3], y.view(8, 6)[:, :-1])  # told after it was asked for
    quiet = TINY.replace(noise=0.0, examples=9)
    data = quiet.task_settings.build([quiet], CPU)
    x, y = data.block(0, 500)
    x, y = x.view(-1, 9, 3).double().numpy(), y.view(-1, 9).double().numpy()
    w = np.einsum("ndk,nk->nd", np.linalg.pinv(x), y)  # nine equations, three unknowns, no noise
    assert np.abs(np.einsum("nkd,nd->nk", x, w) - y).max() < 1e-4
    assert np.cov(w.T) == pytest.approx(np.eye(3) / 3, abs=5 * math.sqrt(2 / len(w)) / 3)
    assert np.mean(x**2) == pytest.approx(1.0, abs=5 * math.sqrt(2 / x.size))


def test_baselines_are_those_of_theory():
    probe = TINY.replace(features=4, examples=12, noise=0.5)
    data = probe.task_settings.build([probe], CPU)
    facts = data.facts(0)
    assert shown_counts(4, 12) == [0, 2, 4, 8, 11]
    assert facts["optimal_loss_after_0"] == pytest.approx(1.25, abs=5 * math.sqrt(2 / 4 / 512))
    assert facts["least_squares_loss_after_0"] == facts["optimal_loss_after_0"]
    # noise^2 (1 + d / (k - d - 1)) for k > d + 1 normal examples (Breiman & Freedman 1983); heavy-tailed, so loose
    assert facts["least_squares_loss_after_11"] == pytest.approx(0.25 * (1 + 4 / 6), rel=0.1)
    for k in (2, 4, 8, 11):
        assert facts[f"optimal_loss_after_{k}"] < facts[f"least_squares_loss_after_{k}"]
    metrics = data.evaluate(lambda x: torch.zeros(1, *x.shape[1:3], 1))
    for k in shown_counts(4, 12):
        assert float(metrics[f"loss_after_{k}"]) == pytest.approx(1.25, abs=0.25)
    assert float(metrics["loss"] - metrics["loss_excess"]) == pytest.approx(facts["optimal_loss"], rel=1e-12)
