"""The edge of stability, against the exact limit of a parabola."""

import numpy as np
import pandas as pd
import pytest

from workbench.phenomena import find
from workbench.phenomena.stability.edge_of_stability import largest_rates
from workbench.testing.phenomena import PhenomenonContract


class TestEdgeOfStability(PhenomenonContract):
    phenomenon = find("edge_of_stability")


def test_frozen_features_bear_two_over_their_curvature() -> None:
    """The control's largest rate is that of a parabola, 2 / sharpness, to within a step of the grid."""
    phenomenon = find("edge_of_stability")
    runs = phenomenon.experiment("control", "cpu", 0, lambda done: None)
    curvature = runs[runs["part"] == "edge"].groupby("seed")["sharpness"].mean()
    without = largest_rates(runs).query("warmup == 0").set_index("seed")["rate"]
    for seed, sharpness in curvature.items():
        assert without[seed] <= 2 / sharpness * 1.02 and without[seed] * 2**0.25 >= 2 / sharpness * 0.98


def test_a_rate_counts_only_if_all_smaller_ones_learned() -> None:
    rows = [(0, 0.0, lr, good) for lr, good in ((0.1, 1), (0.2, 0), (0.4, 1))]
    rows += [(0, 0.5, lr, 1) for lr in (0.1, 0.2)] + [(1, 0.0, 0.1, 0)]
    runs = pd.DataFrame(rows, columns=["seed", "warmup", "lr", "learned"]).assign(part="limit")
    found = largest_rates(runs.sample(frac=1, random_state=0)).set_index(["seed", "warmup"])["rate"]
    assert found[0, 0.0] == pytest.approx(0.1) and found[0, 0.5] == pytest.approx(0.2) and np.isnan(found[1, 0.0])
