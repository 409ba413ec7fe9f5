"""Gradient transforms against their definitions, and what theory says of momentum and of weights' lengths."""

import pytest
import torch

from workbench.probes.trainer import train
from workbench.testing.optimizers import OptimizerContract, Quadratic, torch_steps


class Transformed(OptimizerContract):
    """The contract with SGD behind a transform, so that nothing else is between gradient and weights."""

    optimizer, good_lr = "sgd", 0.02
    transform: str

    def probe(self, **settings):
        return super().probe(**{"transform": self.transform, **settings})


class TestGrokfast(Transformed):
    transform = "grokfast"
    settings = {"lr": 0.02, "weight_decay": 0.1, "transform_decay": 0.8, "transform_gain": 1.5}
    members = ({}, {"transform_decay": 0.5}, {"transform_gain": 0.5}, {"transform_gain": 0.0})

    def reference(self, probe, weights):
        plain, slow = torch_steps(torch.optim.SGD, weights, lr=probe.lr, weight_decay=probe.weight_decay), {}

        def step(grads):
            for name, g in grads.items():
                old = slow.get(name, g)  # starts at the first gradient
                slow[name] = probe.transform_decay * old + (1 - probe.transform_decay) * g
            plain({name: g + probe.transform_gain * slow[name] for name, g in grads.items()})

        return step


class TestPerpGrad(Transformed):
    transform = "perpgrad"
    settings = {"lr": 0.02, "weight_decay": 0.1}

    def reference(self, probe, weights):
        plain = torch_steps(torch.optim.SGD, weights, lr=probe.lr, weight_decay=probe.weight_decay)

        def step(grads):
            turned = {}
            for name, g in grads.items():
                w = weights[name].flatten()
                q, _ = torch.linalg.qr(w[:, None])  # an orthonormal basis of the radial direction
                side = g.flatten() - q[:, 0] * (q[:, 0] @ g.flatten())
                turned[name] = (side * g.norm() / side.norm()).view_as(g)
            plain(turned)

        return step

    def test_it_descends_a_quadratic(self):
        """It cannot reach the minimum: lengths only grow. Its first steps go down nevertheless."""
        problem = Quadratic([self.probe(lr=0.01)])
        before = problem.loss()
        problem.advance(5)
        assert (problem.loss() < before).all()

    def test_gradients_of_zero_do_no_harm(self):
        problem = Quadratic([self.probe(lr=0.1)])
        problem.target = dict(problem.start)
        problem.advance(3)
        assert not problem.loss().any()


def test_perpgrad_moves_at_right_angles_to_every_weight():
    probe = TestPerpGrad().probe(lr=0.01)
    problem = Quadratic([probe])
    before = {name: w.clone() for name, w in problem.weights.master.items()}
    problem.advance(1)
    for name, w in problem.weights.master.items():
        moved = w - before[name]
        cosine = (moved * before[name]).sum() / (moved.norm() * before[name].norm())
        assert abs(float(cosine)) < 1e-5, name


@pytest.mark.parametrize(("optimizer", "expected"), [("momentum", 1 / (1 - 0.9)), ("nesterov", 1 / (1 - 0.9))])
def test_a_constant_force_is_amplified_by_one_over_one_minus_momentum(optimizer, expected):
    # theory of heavy ball: the terminal velocity under a constant gradient g is lr g / (1 - momentum)
    class Constant(Quadratic):
        def gradient(self, name, w):
            return torch.full_like(w, 0.5)

    class Any(OptimizerContract):
        pass

    Any.optimizer = optimizer
    problem = Constant([Any().probe(lr=0.01, tokens=35 * 400)])
    problem.advance(300)
    before = problem.weights.data.clone()
    problem.advance(1)
    velocity = (before - problem.weights.data)[:, : problem.weights.size]
    assert float(velocity.mean()) == pytest.approx(0.01 * 0.5 * expected, rel=1e-3)


def test_the_first_update_of_lion_and_adam_is_the_sign_of_the_gradient():
    for name in ("lion", "adamw", "adam_atan2"):

        class Any(OptimizerContract):
            optimizer = name

        problem = Quadratic([Any().probe(lr=0.01)])
        start = {key: w.clone() for key, w in problem.weights.master.items()}
        problem.advance(1)
        for key, w in problem.weights.master.items():
            sign = problem.gradient(key, start[key]).sign()
            torch.testing.assert_close(start[key] - w, 0.01 * sign, rtol=2e-3, atol=1e-7)


def test_a_run_learns_under_every_transform():
    probe = TestPerpGrad().probe(lr=0.02, tokens=35 * 200).replace(optimizer="adamw")
    for transform in ("none", "grokfast", "perpgrad"):
        (result,) = train([probe.replace(transform=transform)], "cpu")
        assert result.loss < result.records[0]["loss"] - 0.05, transform
