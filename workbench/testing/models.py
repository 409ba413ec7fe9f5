"""`ModelContract`: what every model of probes promises.

Use it with an ordinary module of the same mathematics::

    class TestMyModel(ModelContract):
        model = "my_model"
        cases = (("bigram", {}), ("tiny_vectors", {"width": 5, "depth": 3}))
        refused = ("tiny_signals",)

        def reference(self, probe, weights):
            return MyModule(probe, weights)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
import torch

from workbench.probes.backend import Backend
from workbench.probes.component import registry
from workbench.probes.ensemble import Ensemble
from workbench.probes.models.base import ROLES, find_model
from workbench.probes.ops import Ops
from workbench.probes.spec import Probe
from workbench.probes.tasks.base import Task
from workbench.testing.tiny_tasks import TINY_TASKS

__all__ = ["ModelContract"]

_CPU = torch.device("cpu")
_BIGRAM = {"vocab": 11, "context": 7}
_ANY_CONTEXT = {"batch_tokens": 42, "tokens": 42}  # a whole number of contexts of every task here


class ModelContract:
    """Every model runs through these. Subclasses set:

    Attributes:
        model: the model's name.
        cases: pairs (task, settings of the model) to go through. Tasks: ``bigram``, or one of ``tiny_vectors``,
            ``tiny_signals``, ``tiny_sequences``, ``tiny_last`` (one scored position), ``tiny_recall`` (tokens, one
            scored position). Odd widths are the hard ones.
        refused: names of tasks that the model cannot read.
        bf16_error: largest difference of a loss of order 1 between bf16 and fp32.

    and define `reference`.
    """

    model: ClassVar[str]
    cases: ClassVar[tuple[tuple[str, Mapping[str, Any]], ...]]
    refused: ClassVar[tuple[str, ...]] = ()
    bf16_error: ClassVar[float] = 0.05

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cases" in cls.__dict__:
            names = [
                "-".join([task, *(f"{key}={value}" for key, value in settings.items())]) for task, settings in cls.cases
            ]
            cls.pytestmark = [pytest.mark.parametrize("case", cls.cases, ids=names)]

    def reference(self, probe: Probe, weights: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        """An ordinary module that starts from `weights` (of one member, by name).

        Its trained parameters are those of the model, one for one; called with inputs [B, ...] it returns
        outputs [B, T, K] (tokens, sequences; [B, 1, K] if it gives one output an input) or [B, K].
        """
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def tiny_tasks(self, monkeypatch):
        found = registry("workbench.probes.tasks", Task)
        for name, task in TINY_TASKS.items():
            monkeypatch.setitem(found, name, task)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def probe(self, case: tuple[str, Mapping[str, Any]], batch: int = 5, **changes: Any) -> Probe:
        """A short run of the case; five inputs fill no vector of a processor."""
        task, settings = case
        probe = Probe(task=task, model=self.model, **self._of_task(task), **settings, **_ANY_CONTEXT)
        return probe.replace(**_run(probe, batch, 12), lr=0.01, warmup=0.0, **changes)

    def members(self, case, **changes) -> list[Probe]:
        """Four probes of one shape."""
        base = self.probe(case, **changes)
        return [base.replace(seed=1), base.replace(seed=2, lr=0.03), base.replace(seed=1, lr=0.002), base]

    def test_is_found_and_described(self, case):
        probe = self.probe(case)
        model = probe.model_settings
        assert type(model) is find_model(self.model) and type(model).__doc__
        assert Probe.from_json(probe.to_json()) == probe
        weights = model.weights(probe.task_settings)
        assert all(w.role in ROLES and w.std >= 0 and w.inputs >= 1 for w in weights.values())
        assert "head" in weights or model.tied_head in weights
        assert 0 < probe.params_active <= probe.params and probe.flops > 0
        assert probe.task_settings.inputs.kind in model.accepts

    def test_parameters_are_counted_as_a_module_counts_them(self, case):
        probe = self.probe(case)
        stack = _stack([probe])
        module = self.reference(probe, _member(stack, 0))
        described = probe.model_settings.weights(probe.task_settings).values()
        assert probe.params == sum(p.numel() for p in module.parameters() if p.requires_grad)
        assert stack.weights.size == sum(math.prod(w.shape) for w in described)

    def test_outputs_agree_with_an_ordinary_module(self, case):
        stack = _stack(self.members(case))
        _disturb(stack)
        inputs, _ = stack.batch(0)
        with torch.no_grad():
            for e, probe in enumerate(stack.probes):
                expected = self.reference(probe, _member(stack, e))(inputs[e])
                got = stack.predict(inputs)[e]
                torch.testing.assert_close(got, expected.expand(got.shape), rtol=2e-4, atol=2e-5)
                assert got.std() > 1e-3  # not an empty comparison

    def test_gradients_agree_with_differences(self, case):
        """In float64, along one random direction for every weight."""
        stack = _stack(self.members(case)[:2])
        _disturb(stack)
        inputs, _ = stack.batch(0)
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        weights = {name: value.double().requires_grad_() for name, value in stack.weights.master.items()}
        generator = torch.Generator().manual_seed(5)
        mix: list[torch.Tensor] = []

        def value(weights):
            ops = Ops(weights, stack.multipliers, torch.float64, training=True)
            features = stack.model.hidden(ops, inputs)
            if not mix:
                mix.append(torch.randn(features.shape, generator=generator, dtype=torch.float64))
            return (features * mix[0]).sum() + torch.as_tensor(ops.extra_loss).sum()

        trained = [name for name in weights if name != "head"]
        total = value(weights)
        grads = torch.autograd.grad(total, [weights[name] for name in trained]) if total.requires_grad else ()
        described = stack.model.weights(stack.task)
        for name, grad in zip(trained, grads, strict=False):
            if described[name].role == "frozen":
                assert not grad.any()
                continue
            direction = torch.randn(grad.shape, generator=generator, dtype=torch.float64)
            with torch.no_grad():
                up, down = (value({**weights, name: weights[name] + s * 1e-6 * direction}) for s in (1, -1))
            assert grad.any()
            assert float((grad * direction).sum()) == pytest.approx(float(up - down) / 2e-6, rel=1e-5, abs=1e-7), name

    @pytest.mark.parametrize(("precision", "batch"), [("fp32", 1), ("fp32", 67), ("bf16", 67)])
    def test_a_stack_is_its_members_bit_for_bit(self, case, precision, batch):
        probes = self.members(case, precision=precision, batch=batch)
        stacked, grads = _loss_and_gradients(probes)
        assert all(g.isfinite().all() for g in grads)
        for order in ((2, 0, 3, 1), (0,), (3,)):
            loss, others = _loss_and_gradients([probes[i] for i in order])
            for place, member in enumerate(order):
                assert torch.equal(loss[place], stacked[member])
                for mine, theirs in zip(grads, others, strict=True):
                    assert torch.equal(mine[member], theirs[place])

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_training_in_a_stack_is_training_alone_and_survives_a_stop(self, case, precision):
        probes = self.members(case, precision=precision)
        whole = _stack(probes)
        whole.advance(12)
        losses = whole.take_train_loss()
        half = _stack(probes)
        half.advance(5)
        saved, count = {name: tensor.clone() for name, tensor in half.state().items()}, half.loss_count
        order = [2, 0, 1]
        resumed = _stack([probes[i] for i in order])
        resumed.restore(5, {name: tensor[order] for name, tensor in saved.items()}, count)
        resumed.advance(12)
        solo = _stack(probes[3:])
        solo.advance(12)
        assert torch.equal(resumed.weights.rows(), whole.weights.rows()[order])
        assert resumed.take_train_loss() == [losses[i] for i in order]
        assert torch.equal(solo.weights.rows()[0], whole.weights.rows()[3])
        assert solo.take_train_loss()[0] == losses[3]
        evaluated, alone = whole.evaluate()["loss"], solo.evaluate()["loss"]
        assert torch.equal(evaluated[3], alone[0])
        start = _stack(probes)
        for name, weight in whole.model.weights(whole.task).items():
            same = torch.equal(start.weights.master[name], whole.weights.master[name])
            assert same == (weight.role == "frozen"), name

    def test_it_learns(self, case):
        probe = self.probe(case).replace(schedule="constant")
        stack = _stack([probe.replace(**_run(probe, 16, 80))])
        before = stack.evaluate()["loss"]
        stack.advance(80)
        assert float(stack.evaluate()["loss"]) < 0.98 * float(before)

    def test_bf16_is_close_to_fp32(self, case):
        losses = []
        for precision in ("fp32", "bf16"):
            stack = _stack([self.probe(case, precision=precision)])
            _disturb(stack)
            losses.append(float(stack.loss(*stack.batch(0)).detach()))
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=self.bf16_error, abs=self.bf16_error)

    def test_it_is_seen_without_a_trace(self, case):
        stack = _stack(self.members(case))
        _disturb(stack)
        batch = stack.batch(0)
        seen: dict[str, torch.Tensor] = {}
        watched = stack.loss(*batch, observe=lambda name, x: seen.setdefault(name, x))
        assert torch.equal(watched, stack.loss(*batch))
        assert all(len(x) == 4 and x.isfinite().all() for x in seen.values())

    def test_other_tasks_are_refused_in_one_sentence(self, case):
        for task in self.refused:
            with pytest.raises(ValueError, match=rf"task='{task}'.*\.$"):
                Probe(task=task, model=self.model, **self._of_task(task), **case[1], **_ANY_CONTEXT)

    @staticmethod
    def _of_task(task: str) -> dict[str, int]:
        return _BIGRAM if task == "bigram" else {}


def _run(probe: Probe, batch: int, steps: int) -> dict[str, int]:
    """Settings of `steps` batches of `batch` inputs."""
    tokens = batch * probe.task_settings.positions
    return {"batch_tokens": tokens, "tokens": tokens * steps}


def _stack(probes: list[Probe]) -> Ensemble:
    return Ensemble(probes, Backend(_CPU, "highest", 1, False))


def _member(stack: Ensemble, e: int) -> dict[str, torch.Tensor]:
    return {name: value[e].clone() for name, value in stack.weights.master.items()}


def _disturb(stack: Ensemble) -> None:
    """Move every weight off its start, each member by its own seed: zeros would leave little to compare."""
    described = stack.model.weights(stack.task)
    for e, probe in enumerate(stack.probes):
        generator = torch.Generator().manual_seed(1000 + probe.seed)
        for name, value in stack.weights.master.items():
            noise = torch.randn(value[e].shape, generator=generator)
            value[e] += noise * 0.5 / math.sqrt(described[name].inputs)
    stack.weights.refresh()


def _loss_and_gradients(probes: list[Probe]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    stack = _stack(probes)
    _disturb(stack)
    loss = stack.loss(*stack.batch(0))
    stack.weights.backward(loss.sum())
    return loss.detach(), [view.clone() for view in stack.weights.named(stack.weights.grad).values()]
