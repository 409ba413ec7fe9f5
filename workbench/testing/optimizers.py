"""`OptimizerContract`: what every optimizer promises.

A subclass names the optimizer and writes its update once more, plainly and in float64::

    class TestSignDescent(OptimizerContract):
        optimizer = "sign_descent"

        def reference(self, probe, weights):
            def step(grads):
                for name, w in weights.items():
                    w -= probe.lr * grads[name].sign()
            return step
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.checkpoint import Checkpoint
from workbench.probes.flat import FlatWeights
from workbench.probes.optimizers.base import find_optimizer
from workbench.probes.optimizers.stack import StackOptimizer
from workbench.probes.parametrization import scales
from workbench.probes.trainer import train

__all__ = ["OptimizerContract", "Quadratic", "torch_steps"]

#: Odd sizes on purpose: rows that end inside a cache line, and matrices no vector unit divides.
_TINY = {"vocab": 19, "width": 6, "depth": 2, "heads": 3, "context": 7, "batch_tokens": 35, "evals": 1}
_STEPS = 20

Weights = dict[str, torch.Tensor]
Step = Callable[[Weights], None]


class Quadratic:
    """Members with the weights of a small model, each with its own loss sum_i h_i (w_i - c_i)^2 / 2.

    Args:
        probes: one per member, of one shape.
        seed: draws start, curvatures h in [0.1, 1] and targets c, the same for every member.

    Attributes:
        weights, optimizer: the stack and its optimizer.
    """

    def __init__(self, probes: Sequence[Probe], seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        described = probes[0].model_settings.weights(probes[0].task_settings)
        drawn = {name: torch.randn(w.shape, generator=generator) * 0.5 for name, w in described.items()}
        self.curvature = {name: 0.1 + 0.9 * torch.rand(w.shape, generator=generator) for name, w in drawn.items()}
        self.target = {name: torch.randn(w.shape, generator=generator) for name, w in drawn.items()}
        self.start = drawn
        self.weights = FlatWeights(
            {name: torch.stack([w] * len(probes)) for name, w in drawn.items()}, torch.device("cpu")
        )
        rates = {name: scale.lr for name, scale in scales(probes[0], described).items()}
        self.optimizer = StackOptimizer(self.weights, probes, rates)

    def gradient(self, name: str, w: torch.Tensor) -> torch.Tensor:
        """Of the loss in one weight, in the precision of `w`."""
        return self.curvature[name].to(w.dtype) * (w - self.target[name].to(w.dtype))

    def loss(self) -> torch.Tensor:
        """[E], float64."""
        terms = [
            (self.curvature[name] * (w - self.target[name]).double().square()).flatten(1).sum(1) / 2
            for name, w in self.weights.master.items()
        ]
        return torch.stack(terms).sum(0)

    def advance(self, steps: int) -> None:
        """Take steps, each with the exact gradient."""
        grads = self.weights.named(self.weights.grad)
        for _ in range(steps):
            self.weights.grad.zero_()
            for name, w in self.weights.master.items():
                grads[name].copy_(self.gradient(name, w))
            self.optimizer.update()


def torch_steps(optimizer: Callable[..., torch.optim.Optimizer], weights: Weights, **settings: Any) -> Step:
    """A reference step by an optimizer of torch.optim on `weights`, which it updates."""
    parameters = {name: torch.nn.Parameter(w) for name, w in weights.items()}  # shares memory with `weights`
    made = optimizer(list(parameters.values()), **settings)

    def step(grads: Weights) -> None:
        for name, parameter in parameters.items():
            parameter.grad = grads[name].clone()
        made.step()

    return step


class OptimizerContract:
    """Every optimizer runs through these. Subclasses set:

    Attributes:
        optimizer: its name.
        settings: fields of the probe for the comparison with `reference`, lr and decay among them.
        tolerance: absolute difference allowed after 20 steps that move weights by about 20 lr.
        members: fields in which stacked members differ; lr, decay, seed, clipping and schedule are added.
        good_lr: a constant lr at which 300 steps bring the quadratic well down.
    """

    optimizer: ClassVar[str]
    settings: ClassVar[Mapping[str, Any]] = {"lr": 0.01, "weight_decay": 0.3}
    tolerance: ClassVar[float] = 2e-6
    members: ClassVar[Sequence[Mapping[str, Any]]] = ({}, {}, {}, {})
    good_lr: ClassVar[float] = 0.03

    def reference(self, probe: Probe, weights: Weights) -> Step:
        """A function that takes gradients by name and updates `weights` (float64) in place, once a call."""
        raise NotImplementedError

    def probe(self, **settings: Any) -> Probe:
        """A small probe with this optimizer, constant lr, 20 steps."""
        shared = {**_TINY, "tokens": _TINY["batch_tokens"] * _STEPS, "warmup": 0.0, "schedule": "constant"}
        return Probe(optimizer=self.optimizer, **{**shared, **settings})

    def stacked(self) -> list[Probe]:
        """Members that differ in all they may differ in."""
        common = [
            {"seed": 1, "lr": self.good_lr},
            {"seed": 2, "lr": self.good_lr / 2, "weight_decay": 0.1, "schedule": "cosine"},
            {"seed": 1, "lr": self.good_lr, "clip": 0.3, "warmup": 0.2},
            {"seed": 5, "lr": self.good_lr / 3, "weight_decay": 0.5, "language_seed": 3},
        ]
        return [self.probe(**shared, **own) for shared, own in zip(common, self.members, strict=True)]

    def test_settings_are_documented(self):
        found = find_optimizer(self.optimizer)
        assert found.__doc__ and found.family in ("sgd", "adam", "matrix")
        assert all(one.metadata["doc"] and one.metadata["kind"] for one in fields(found))

    def test_it_agrees_with_an_independent_reference(self):
        self.agree(**self.settings)

    def agree(self, **settings: Any) -> None:
        """Fail unless 20 steps with these settings are the reference's."""
        probe = self.probe(**settings)
        problem = Quadratic([probe])
        weights = {name: w.double() for name, w in problem.start.items()}
        step = self.reference(probe, weights)
        for _ in range(_STEPS):
            step({name: problem.gradient(name, w) for name, w in weights.items()})
        problem.advance(_STEPS)
        moved = 0.0
        for name, w in problem.weights.master.items():
            torch.testing.assert_close(w[0].double(), weights[name], rtol=0, atol=self.tolerance)
            moved = max(moved, float((w[0] - problem.start[name]).abs().max()))
        assert moved > 100 * self.tolerance

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_a_member_of_a_stack_is_the_solo_run_bit_for_bit(self, precision):
        members = self.stacked()
        if precision == "bf16":
            # in much smaller shapes torch's bfloat16 products on a CPU depend on how many are batched
            shape = {"vocab": 32, "width": 16, "heads": 2, "context": 16, "batch_tokens": 256, "tokens": 256 * 10}
            members = [probe.replace(precision="bf16", **shape) for probe in members]
        order = (2, 0, 3, 1)
        whole, permuted = train(members, "cpu"), train([members[i] for i in order], "cpu")
        for place, index in enumerate(order):
            (solo,) = train([members[index]], "cpu")
            assert solo.status == "finished"
            for other in (whole[index], permuted[place]):
                assert torch.equal(other.weights, solo.weights)
                assert other.loss == solo.loss

    def test_resumed_it_is_the_undisturbed_run(self, tmp_path):
        members = [probe.replace(ema=0.9) for probe in self.stacked()]
        whole = train(members, "cpu")
        looks = itertools.count()
        parts = train(members, "cpu", should_stop=lambda: next(looks) >= 1)
        for probe, part in zip(members, parts, strict=True):
            assert 0 < part.state.step < _STEPS
            part.state.write(tmp_path / probe.id)
        states = [Checkpoint.read(tmp_path / probe.id) for probe in members]
        again = train(members[1:], "cpu", states=states[1:]) + train(members[:1], "cpu", states=states[:1])
        for expected, got in zip([*whole[1:], whole[0]], again, strict=True):
            assert torch.equal(got.weights, expected.weights)
            assert got.loss == expected.loss

    def test_it_descends_a_quadratic(self):
        steps = 300
        probe = self.probe(lr=self.good_lr, tokens=_TINY["batch_tokens"] * steps, schedule="linear")
        problem = Quadratic([probe, probe.replace(lr=self.good_lr / 2)])
        before = problem.loss()
        problem.advance(steps)
        assert (problem.loss() < 0.3 * before).all()

    def test_without_a_learning_rate_nothing_moves(self):
        problem = Quadratic([self.probe(lr=0.0, weight_decay=0.5)])
        problem.advance(3)
        for name, w in problem.weights.master.items():
            assert torch.equal(w[0], problem.start[name])

    def test_rates_of_layers_scale_their_updates_and_zero_holds_them_still(self):
        probe = self.probe(lr=0.01)
        slowed = probe.replace(layer_rates={"0.": 0.0, "head": 0.5}, weight_decay=0.4)
        full, part = Quadratic([probe]), Quadratic([slowed.replace(weight_decay=0.0)])
        decayed = Quadratic([slowed])
        for problem in (full, part, decayed):
            problem.advance(1)
        for name, start in full.start.items():
            moved, held = full.weights.master[name][0] - start, part.weights.master[name][0] - start
            assert moved.abs().max() > 0
            if name.startswith("0."):
                assert torch.equal(decayed.weights.master[name][0], start)
                assert torch.equal(part.weights.master[name][0], start)
            else:
                rate = 0.5 if name == "head" else 1.0
                torch.testing.assert_close(held, rate * moved, rtol=0, atol=2e-7)

    def test_gradients_of_zero_do_no_harm(self):
        problem = Quadratic([self.probe(lr=0.1)])
        problem.target = dict(problem.start)
        problem.advance(3)
        assert torch.isfinite(problem.weights.data).all()
        assert not problem.loss().any()
