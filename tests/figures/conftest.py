"""Runs and fits shared by the tests of figures."""

import pytest

import workbench
from workbench.testing.panels import example_runs


@pytest.fixture(scope="session")
def runs():
    return example_runs()


@pytest.fixture(scope="session")
def fit(runs):
    return workbench.fit(runs, "chinchilla", starts=64)


def rows(chart, name):
    """Rows of the layer called `name`, looked up in a chart's specification."""
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    for layer in spec.get("layer", [spec]):
        if layer.get("name") == name:
            return spec["datasets"][layer["data"]["name"]]
    raise AssertionError(f"no layer called {name}")


def layers(chart, mark):
    """Rows of every layer drawn with `mark`."""
    spec = chart.to_dict()
    found = []
    for layer in spec.get("layer", [spec]):
        if layer["mark"]["type"] == mark:
            found.append(spec["datasets"][layer["data"]["name"]])
    return found
