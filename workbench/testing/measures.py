"""`MeasureContract`: what every measurement of a run promises.

Use it in two lines::

    class TestMyMeasure(MeasureContract):
        measure, columns = "my_measure", {"my_column"}
"""

from __future__ import annotations

from typing import ClassVar

import torch

from workbench.probes import Probe
from workbench.probes.measures.base import find_measure
from workbench.probes.trainer import train
from workbench.testing.tasks import same_records

__all__ = ["MeasureContract"]


class MeasureContract:
    """Every measurement runs through these. Subclasses set:

    Attributes:
        measure: its name.
        columns: names of the columns that it adds to the records of `probe`.
        probe: a short run of a task and model that it has something to say about.
    """

    measure: ClassVar[str]
    columns: ClassVar[set[str]]
    probe: ClassVar[Probe] = Probe(
        vocab=19, width=6, depth=1, heads=3, context=7, batch_tokens=35, tokens=35 * 4, evals=2
    )

    def test_it_is_found_and_documented(self) -> None:
        found = find_measure(self.measure)
        assert found.name == self.measure and found.doc.endswith(".")

    def test_it_adds_its_columns_changes_no_training_and_sees_no_neighbour(self) -> None:
        asked = [self.probe.replace(seed=seed, lr=0.01 * (seed + 1), measure=[self.measure]) for seed in range(3)]
        for probe, stacked in zip(asked, train(asked, "cpu"), strict=True):
            (blind,), (alone,) = train([probe.replace(measure=())], "cpu"), train([probe], "cpu")
            assert set(stacked.records[-1]) - set(blind.records[-1]) == self.columns
            assert torch.equal(blind.weights, stacked.weights) and blind.loss == stacked.loss
            assert same_records(alone.records, stacked.records)
