"""Every part of every room: it meets all it may meet, is described, and keeps the promises where it meets."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import fields
from typing import Any

import pytest
import torch

from workbench.probes import Probe
from workbench.probes.measures.base import measures
from workbench.probes.models.base import models
from workbench.probes.optimizers.base import optimizers
from workbench.probes.spec import Run
from workbench.probes.tasks.base import tasks
from workbench.probes.trainer import train
from workbench.testing.tasks import same_records

#: Small settings of each part. What is not listed runs with its defaults.
TASKS: dict[str, dict[str, Any]] = {
    "bigram": {"vocab": 13, "context": 7},
    "context_free": {},
    "gaussian_mixture": {"classes": 3, "dimension": 5, "train_size": 40, "test_size": 30},
    "hidden_markov": {"vocab": 11, "context": 6, "states": 3},
    "in_context_regression": {},
    "modular_arithmetic": {"modulus": 7},
    "parity": {"bits": 6, "relevant": 2, "subtasks": 3, "test_size": 64},
    "random_feature_law": {"test_size": 64},
    "signals": {"test_size": 60, "train_size": 40},
    "single_index": {"test_size": 64},
    "teacher_student": {"test_size": 64},
    "text": {"context": 16},
    "time_series": {"context": 9},
    "xor_clusters": {"dimension": 9, "train_size": 24, "test_size": 32},
}
MODELS: dict[str, dict[str, Any]] = {
    name: {"width": 6, "depth": 1, "heads": 2, "experts": 3, "train_size": 30} for name in models()
}
#: Where reading the data takes seconds, one model tries them.
SLOW = {"text": "transformer"}


def fields_of(part) -> set[str]:
    return {one.name for one in fields(part)}


def small(task: str, model: str, **more: Any) -> Probe:
    """A probe of three steps."""
    known = fields_of(models()[model])
    chosen = {**TASKS.get(task, {}), **{k: v for k, v in MODELS[model].items() if k in known}, **more}
    built = tasks()[task](**{k: v for k, v in chosen.items() if k in fields_of(tasks()[task])})
    batch = 5 * built.positions
    return Probe(task, model, **{"batch_tokens": batch, "tokens": 3 * batch, "evals": 1, **chosen})


def pairs() -> list[tuple[str, str]]:
    """Task and model that can meet, with settings as above."""
    found = []
    for task, model in itertools.product(tasks(), models()):
        try:
            small(task, model)
        except ValueError:
            continue
        found.append((task, model))
    return found


PAIRS = pairs()


def test_every_part_meets_some_other():
    assert {task for task, _ in PAIRS} == set(tasks()) and {model for _, model in PAIRS} == set(models())


def tried() -> list[tuple[str, ...]]:
    """Every task and every model in each precision at least once, in turn with every optimizer and measure."""
    turns = zip(itertools.cycle(optimizers()), itertools.cycle(measures()))
    chosen, seen = [], set()
    for precision, (task, model) in itertools.product(("fp32", "bf16"), PAIRS):
        if SLOW.get(task, model) != model or {(precision, task), (precision, model)} <= seen:
            continue
        seen |= {(precision, task), (precision, model)}
        chosen.append((task, model, precision, *next(turns)))
    return chosen


def test_everything_is_tried():
    columns = [set(column) for column in zip(*tried(), strict=True)]
    assert columns == [set(tasks()), set(models()), {"fp32", "bf16"}, set(optimizers()), set(measures())]


@pytest.mark.parametrize(("task", "model", "precision", "optimizer", "measure"), tried())
def test_a_stack_of_two_is_two_solo_runs(task, model, precision, optimizer, measure):
    probe = small(task, model, optimizer=optimizer, measure=[measure], precision=precision, lr=0.003)
    probes = [probe, probe.replace(seed=1, lr=0.001)]
    for one, stacked in zip(probes, train(probes, "cpu"), strict=True):
        (alone,) = train([one], "cpu")
        assert alone.status == "finished" and alone.records[-1]["step"] == 3
        assert same_records(alone.records, stacked.records)
        assert torch.equal(alone.weights, stacked.weights)


def test_names_of_fields_are_unique_where_parts_meet():
    reserved = {"task", "model", "optimizer", *fields_of(Run)}
    for task, model in PAIRS:
        for optimizer in optimizers():
            owners = [fields_of(tasks()[task]), fields_of(models()[model]), fields_of(optimizers()[optimizer])]
            for one, other in itertools.combinations([reserved, *owners], 2):
                assert not one & other, (task, model, optimizer, one & other)
            # a field must not hide what a probe says itself
            assert not set.union(*owners) & set(dir(Probe)), (task, model, optimizer)


def test_the_probe_names_every_task_and_model():
    assert [name for name in (*tasks(), *models()) if f"``{name}``" not in Probe.__doc__] == []


@pytest.mark.parametrize("part", [Run, *tasks().values(), *models().values(), *optimizers().values()])
def test_every_field_says_what_it_is(part):
    assert part.__doc__ and part.__doc__.strip()
    for one in fields(part):
        doc = one.metadata["doc"]
        assert len(doc) > 5 and not doc.endswith("."), one.name
        assert one.metadata["kind"] in ("number", "whole", "choice", "flag", "own")


@pytest.mark.parametrize(("task", "model"), PAIRS)
def test_probes_are_described_and_survive_json(task, model):
    for optimizer in optimizers():
        text = Probe.describe(task, model, optimizer)
        parts = (Run, tasks()[task], models()[model], optimizers()[optimizer])
        words = {line.split()[0] for line in text.splitlines()}
        assert words == {"run", "task", "model", "optimizer", *(one.name for part in parts for one in fields(part))}
        probe = small(task, model, optimizer=optimizer)
        again = Probe.from_json(probe.to_json())
        assert again == probe and again.id == probe.id and repr(again) == repr(probe)


def test_no_part_imports_torch():
    code = (
        "import sys\n"
        "from workbench.probes import Probe, Sweep\n"
        "from workbench.probes.measures.base import measures\n"
        "from workbench.probes.models.base import models\n"
        "from workbench.probes.optimizers.base import optimizers\n"
        "from workbench.probes.tasks.base import tasks\n"
        "for room in (measures, models, optimizers, tasks): assert room()\n"
        "Probe.describe(); Sweep.grid(Probe(), seed=range(2)).buckets()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
