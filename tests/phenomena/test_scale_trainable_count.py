"""Trainable and total parameters: the counts against the weights themselves."""

import numpy as np
import pandas as pd
import pytest

from workbench.phenomena import find
from workbench.phenomena.scale.trainable_count import trainable
from workbench.testing.phenomena import PhenomenonContract


class TestTrainableCount(PhenomenonContract):
    phenomenon = find("trainable_count")


def test_frozen_layers_stay_as_drawn_and_the_others_move():
    from workbench.probes.initial import initial_weights
    from workbench.probes.sweep import Sweep
    from workbench.probes.trainer import train_sweep

    sweep = find("trainable_count").sweep("effect", "cpu", 0)
    probe = next(p for p in sweep if p.width == 6 and len(p.layer_rates) == 2).replace(tokens=2560)
    (result,) = train_sweep(Sweep((probe,)), "cpu")
    start = initial_weights(probe)
    ends = np.cumsum([w.numel() for w in start.values()])[:-1]
    after = dict(zip(start, np.split(result.weights.numpy(), ends), strict=True))
    moved = {name: not np.allclose(after[name], w.cpu().numpy().ravel()) for name, w in start.items()}
    frozen = {"1.weight", "1.bias", "2.weight", "2.bias"}
    assert moved == {name: name not in frozen for name in start}


def test_the_count_is_the_sum_over_what_is_trained():
    # inputs 6, width 10: 6 * 10 + 10 into the first layer, twice 10 * 10 + 10, and 10 to the output
    runs = pd.DataFrame({"total": [70 + 2 * 110 + 10], "layer": [110], "frozen": [2]})
    assert trainable(runs).item() == 80


def test_a_law_of_trainable_parameters_alone_is_recognized():
    rows = []
    for repetition in range(3):
        for total, layer in ((132, 42), (672, 272), (4312, 1980)):
            for frozen in (0, 1, 2):
                loss = 5 * (total - frozen * layer) ** -0.5
                rows.append({"repetition": repetition, "total": total, "layer": layer, "frozen": frozen, "loss": loss})
    found = list(find("trainable_count").measure(pd.DataFrame(rows)).values())
    assert [one.value for one in found[1:]] == pytest.approx([0.5, 1.0, 0.0], abs=1e-9)
