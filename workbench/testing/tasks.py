"""`TaskContract`: what every task of a probe promises.

Use it in a few lines::

    class TestMyTask(TaskContract):
        probe = Probe(task="my_task", model="mlp", width=16, tokens=2**12, batch_tokens=64, evals=2)
        members = ({}, {"seed": 1}, {"seed": 2, "noise": 0.5})
        refused = (({"noise": -1.0}, "noise"),)
        learns, trivial = {"tokens": 2**15, "lr": 0.02}, 1.0
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.tasks.base import INPUTS, Data, Predict, find_task
from workbench.probes.trainer import train

__all__ = ["TaskContract", "same_records"]

_CPU = torch.device("cpu")


def same_records(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether two curves are equal bit for bit; seconds aside, and NaN (an empty group) equal to itself."""
    plain = [[{k: repr(v) for k, v in record.items() if k != "seconds"} for record in curve] for curve in (one, other)]
    return plain[0] == plain[1]


class TaskContract:
    """Every task runs through these. Subclasses set:

    Attributes:
        probe: a small probe of the task, a few steps long, with a model that can read it.
        members: changes that make members of one stack of it; at least two, and every member field of the
            task differs somewhere.
        refused: (changes, pattern): fields that are refused, and what the sentence says.
        learns: changes under which `probe` learns within seconds.
        trivial: loss that any model reaches without looking at its input, in the task's loss; the training
            under `learns` must end below it.
        precision: allowed distance of evaluated from known losses.
        apart: changes under which two inputs are never equal by chance, for the comparison of training with
            evaluation.
    """

    probe: ClassVar[Probe]
    members: ClassVar[Sequence[Mapping[str, Any]]]
    refused: ClassVar[Sequence[tuple[Mapping[str, Any], str]]] = ()
    learns: ClassVar[Mapping[str, Any]]
    trivial: ClassVar[float]
    precision: ClassVar[float] = 2e-6
    apart: ClassVar[Mapping[str, Any]] = {}

    def optimal(self, data: Data, probes: Sequence[Probe]) -> tuple[Predict, list[float]] | None:
        """The best possible predictor and the loss that theory gives it for each member; None if unknown."""
        return None

    def heldout(self, data: Data) -> set[bytes]:
        """The inputs that the loss is evaluated on, each as bytes; what `evaluate` asks about unless told."""
        asked: list[torch.Tensor] = []

        def predict(x: torch.Tensor) -> torch.Tensor:
            asked.append(x)
            return zeros(probes, x)

        probes = self.stack
        data.evaluate(predict)
        return {row for x in asked for row in _rows(x)}

    @property
    def stack(self) -> list[Probe]:
        return [self.probe.replace(**change) for change in self.members]

    @staticmethod
    def build(probes: Sequence[Probe]) -> Data:
        return probes[0].task_settings.build(probes, _CPU)

    def test_it_is_registered_and_documented(self) -> None:
        task = type(self.probe.task_settings)
        assert find_task(self.probe.task) is task
        assert task.__doc__ and all(one.metadata["doc"] for one in fields(task))
        assert self.probe.task_settings.inputs.kind in INPUTS

    def test_json_keeps_the_probe(self) -> None:
        for probe in self.stack:
            again = Probe.from_json(probe.to_json())
            assert again == probe and again.id == probe.id

    def test_members_can_be_stacked_and_every_member_field_is_tried(self) -> None:
        probes = self.stack
        assert len({probe.shape for probe in probes}) == 1 and len({probe.id for probe in probes}) == len(probes) > 1
        for one in fields(self.probe.task_settings):
            values = {getattr(probe, one.name) for probe in probes}
            assert (len(values) > 1) == one.metadata["member"], one.name

    def test_bad_fields_are_refused_in_one_sentence(self) -> None:
        for change, pattern in self.refused:
            with pytest.raises((ValueError, TypeError), match=pattern) as caught:
                self.probe.replace(**change)
            assert "\n" not in str(caught.value)

    def test_batches_have_the_promised_shapes_and_ranges(self) -> None:
        probes, task = self.stack, self.probe.task_settings
        data = self.build(probes)
        x, y = data.batch(*(rows[0] for rows in data.block(0, 1)))
        e, b, inputs = len(probes), self.probe.batch, task.inputs
        scored = 1
        if inputs.kind in ("tokens", "sequences"):
            scored = inputs.context if task.scored is None else len(task.scored)
        expected = {
            "tokens": (inputs.context,),
            "vectors": (inputs.size,),
            "signals": (inputs.context, inputs.size),
            "sequences": (inputs.context, inputs.size),
        }[inputs.kind]
        assert x.shape == (e, b, *expected)
        if inputs.kind == "tokens":
            assert x.dtype == torch.int64 and int(x.min()) >= 0 and int(x.max()) < inputs.size
        else:
            assert x.dtype == torch.float32 and bool(x.isfinite().all())
        if task.loss != "squared":
            assert y.shape == (e, b * scored) and y.dtype == torch.int64
            assert int(y.min()) >= 0 and int(y.max()) < task.outputs
        else:
            assert y.shape == (e, b * scored, task.outputs) and y.dtype == torch.float32
            assert bool(y.isfinite().all())

    def test_the_stream_depends_on_no_chunk_and_no_neighbour(self) -> None:
        probes = self.stack
        data = self.build(probes)
        whole = data.block(0, 6)
        pieces = zip(*(data.block(first, count) for first, count in ((0, 1), (1, 3), (4, 2))), strict=True)
        for rows, parts in zip(whole, pieces, strict=True):
            assert rows.shape[:2] == (6, len(probes))
            assert torch.equal(rows, torch.cat(parts))
        # what is trained on, member for member, alone and in another order
        batches = [data.batch(*(rows[step] for rows in whole)) for step in range(6)]
        turned = self.build(probes[::-1])
        for index, probe in enumerate(probes):
            alone = self.build([probe])
            for step, expected in enumerate(batches):
                for other, place in ((alone, 0), (turned, len(probes) - 1 - index)):
                    got = other.batch(*(rows[0] for rows in other.block(step, 1)))
                    assert all(torch.equal(a[place], b[index]) for a, b in zip(got, expected, strict=True))

    def test_other_seeds_see_other_data(self) -> None:
        one = self.build([self.probe, self.probe.replace(seed=self.probe.seed + 1)])
        x, y = one.batch(*(rows[0] for rows in one.block(0, 1)))
        assert not (torch.equal(x[0], x[1]) and torch.equal(y[0], y[1]))

    def test_evaluation_shows_nothing_that_is_trained_on(self) -> None:
        data = self.build([probe.replace(**self.apart) for probe in self.stack])
        heldout = self.heldout(data)
        assert heldout
        for step in range(20):
            x, _ = data.batch(*(rows[0] for rows in data.block(step, 1)))
            assert not heldout & _rows(x)

    def test_metrics_are_finite_doubles_and_the_uniform_predictor_knows_nothing(self) -> None:
        probes, task = self.stack, self.probe.task_settings
        metrics = self.build(probes).evaluate(lambda x: zeros(probes, x))
        assert all(values.shape == (len(probes),) and values.dtype == torch.float64 for values in metrics.values())
        assert all(values.device == _CPU for values in metrics.values())
        assert bool(metrics["loss"].isfinite().all())
        if task.loss != "squared":
            assert metrics["loss"].tolist() == pytest.approx([math.log(task.outputs)] * len(probes), abs=self.precision)

    def test_the_best_predictor_reaches_the_known_floor(self) -> None:
        probes = self.stack
        data = self.build(probes)
        known = self.optimal(data, probes)
        if known is None:
            pytest.skip("no best predictor is known for this task")
        predict, floors = known
        assert data.evaluate(predict)["loss"].tolist() == pytest.approx(floors, abs=self.precision)

    def test_facts_are_json_and_the_members_own(self) -> None:
        probes = self.stack
        data = self.build(probes)
        for index, probe in enumerate(probes):
            facts = data.facts(index)
            assert json.loads(json.dumps(facts, allow_nan=False)) == facts == self.build([probe]).facts(0)

    def test_a_member_of_a_stack_is_the_solo_run_bit_for_bit(self) -> None:
        probes = self.stack
        for probe, stacked in zip(probes, train(probes, "cpu"), strict=True):
            (solo,) = train([probe], "cpu")
            assert same_records(stacked.records, solo.records)
            assert torch.equal(stacked.weights, solo.weights)

    def test_a_short_training_learns(self) -> None:
        (result,) = train([self.probe.replace(**self.learns)], "cpu")
        assert result.status == "finished"
        assert result.loss < self.trivial, f"the loss ended at {result.loss}, not below {self.trivial}"


def zeros(probes: Sequence[Probe], x: torch.Tensor) -> torch.Tensor:
    """The outputs of a model that says nothing: zeros in the shape that `Predict` promises."""
    task = probes[0].task_settings
    leading = x.shape[1:3] if task.inputs.kind in ("tokens", "sequences") else x.shape[1:2]
    return torch.zeros(len(probes), *leading, task.outputs)


def _rows(x: torch.Tensor) -> set[bytes]:
    """Every input of [G, b, ...] as bytes."""
    return {row.numpy().tobytes() for row in x.flatten(0, 1).contiguous()}
