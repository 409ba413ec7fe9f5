"""Weights & Biases: exports as its web page saves them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench
from tests.runs.sparse_contract import Sparse
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.wandb_export import WandbPanel, WandbTable

SHARED = Path(__file__).parents[3] / "shared" / "runs" / "wandb_export"


class TestRunsTable(Sparse):
    """The table of runs; the columns of a table published in a public repository, every cell quoted."""

    reader = WandbTable
    suffix = ".csv"

    def write(self, path, frame):
        frame = frame.rename(columns={"run": "Name"})
        for i, (name, value) in enumerate(
            {"State": "finished", "Notes": "-", "User": "me", "Tags": "", "Created": "2025-11-13T09:48:11.000Z",
             "Runtime": "9910", "Sweep": ""}.items(), 1
        ):  # fmt: skip
            frame.insert(i, name, value)
        frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL, lineterminator="\n")


def put(path, text):
    path.write_text(text, encoding="utf-8")
    return path


TABLE = (
    '"Name","State","Notes","User","Tags","Created","Runtime","Sweep","epochs","learning_rate","name","size",'
    '"_step","lr","tokens","val_loss"\n'
    '"big","finished","-","me","a, b","2025-01-01","9910","","3","0.001","x","8","99","0.0001","1000","2.5"\n'
    '"small","crashed","","me","","2025-01-01","1h 1m 10s","","3","0.002","y","4","50","0.001","500","NaN"\n'
)


def test_runs_table_with_settings_and_summary(tmp_path):
    runs = workbench.load(put(tmp_path / "t.csv", TABLE))
    assert runs.ids == ["big", "small"] and runs["lr"].tolist() == [0.001, 0.002]
    assert runs["seconds"].tolist() == [9910, 3670] and runs["steps"].tolist() == [99, 50]
    assert runs["loss"][0] == 2.5 and runs["tokens"].tolist() == [1000, 500] and runs["epochs"].tolist() == [3, 3]
    assert runs["problem"][0] == "" and runs["problem"][1].startswith("its state is 'crashed'")
    assert runs.frame["name"].tolist() == ["x", "y"]  # a setting called name is no run's name


PANEL = (
    '"epoch","a - b - _step","a - b - _step__MIN","a - b - _step__MAX","a - b - loss","a - b - loss__MIN",'
    '"a - b - loss__MAX","c - loss","c - loss__MIN","c - loss__MAX","c - loss","c - loss__MIN","c - loss__MAX"\n'
    '"1","10","10","10","3.5","3.25","3.75","","","","","",""\n'
    '"2","20","20","20","3.25","3.25","3.25","3.0","3.0","3.0","NaN","NaN","NaN"\n'
)


def test_panel_with_another_axis_gaps_envelopes_and_two_runs_of_a_name(tmp_path):
    path = put(tmp_path / "p.csv", PANEL)
    assert isinstance(find(path), WandbPanel)
    runs = workbench.load(path)
    assert runs.ids == ["a - b", "c", "c#2"] and runs["loss"].tolist()[:2] == [3.25, 3.0]
    first, second, third = (runs.curves[run] for run in runs.ids)
    assert first["step"].tolist() == [10, 20] and first["loss"].tolist() == [3.5, 3.25]
    assert first["loss__MIN"].tolist() == [3.25, 3.25] and first["loss__MAX"].tolist() == [3.75, 3.25]
    assert second["step"].tolist() == [2] and len(third) == 1 and "loss__MIN" not in second
    assert any("'epoch'" in message for message in runs.messages)


def test_panel_cut_off_anywhere_invents_nothing(tmp_path):
    for size in [*range(0, len(PANEL), 5), *range(len(PANEL) - 30, len(PANEL))]:
        try:
            runs = workbench.load(put(tmp_path / "p.csv", PANEL[:size]))
        except LoadError:
            continue
        for curve in runs.curves.values():
            values = {float(v) for column in curve for v in curve[column].dropna()}
            assert values <= {1, 2, 10, 20, 3.5, 3.25, 3.75, 3.0}, size
        first = PANEL.index("\n", PANEL.index("\n") + 1) + 1
        # a lone quote behind a line leaves open whether that line went on
        if size >= first and size != first + 1:
            assert len(runs.curves["a - b"]) >= 1, size


def test_ordinary_tables_are_not_taken_for_exports(tmp_path):
    for text in (
        "Name,State,loss\na,finished,2\n", "Step,loss\n1,2\n2,3\n", '"Step","a - b","c - d"\n"1","2","3"\n',
        "Name,Created,Runtime,x\na,b,1,2\n",
    ):  # fmt: skip
        assert find(put(tmp_path / "t.csv", text)).name == "CSV"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public run logs are not there")
def test_public_panel_export():
    path = SHARED / "wandb_export_wikitext.csv"
    runs = workbench.load(path)
    assert runs.ids == [f"k_is_{k}" for k in range(10, 0, -1)]
    # the set's README gives 10 rows, and the last values of k = 10 and k = 1
    assert {len(curve) for curve in runs.curves.values()} == {10}
    final = dict(zip(runs.ids, runs["test-tokens/avg_loss"], strict=True))
    assert final["k_is_10"] == pytest.approx(6.7934, abs=5e-5) and final["k_is_1"] == pytest.approx(7.3521, abs=5e-5)
    raw = pd.read_csv(path)
    for run, curve in runs.curves.items():
        np.testing.assert_array_equal(curve["step"], raw["Step"])
        np.testing.assert_array_equal(curve["test-tokens/avg_loss"], raw[f"Group: {run} - test-tokens/avg_loss"])
        assert not any(column.endswith(("__MIN", "__MAX")) for column in curve)  # equal to the value throughout
    assert any("means over groups" in message for message in runs.messages)
