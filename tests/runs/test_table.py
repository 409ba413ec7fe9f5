"""`RunTable`: selecting, deriving, showing, writing."""

import os
import re

import numpy as np
import pandas as pd
import pytest

from workbench.runs.load import load
from workbench.runs.table import RunTable


@pytest.fixture
def runs():
    frame = pd.DataFrame(
        {
            "run": ["a", "b", "c", "d"],
            "Model Size": [44e6, 1e9, 16.2e9, 1e8],
            "training tokens": [1e9, 2e10, 3e11, 1e9],
            "loss": [4.0, 3.0, 2.0, -1.0],
            "results[c4].loss": [4.1, 3.1, 2.1, 1.1],
            "arch": ["gpt", "gpt", "moe", "gpt"],
        }
    )
    return load(frame)


def test_columns_in_order_with_units_and_notes(runs):
    assert list(runs.frame.columns) == [
        "run", "params", "tokens", "flops", "tokens_per_param", "loss", "results[c4].loss", "arch", "problem",
    ]  # fmt: skip
    assert runs.units["flops"] == "FLOP" and runs.units["loss"] == "nats/token" and runs.units["params"] == ""
    assert runs.notes["params"] == "from 'Model Size'" and "loss" not in runs.notes
    assert len(runs) == 4 and runs.ids == ["a", "b", "c", "d"] and "params" in runs


def test_getting_a_column(runs):
    assert runs["loss"].tolist() == [4.0, 3.0, 2.0, -1.0]
    with pytest.raises(KeyError, match=r"did you mean 'params'.*the columns are run, params"):
        runs["param"]


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        ("params > 1e8", "bc"),
        ("params > 1e7 and arch == 'gpt'", "abd"),
        ("`results[c4].loss` < 3", "cd"),
        ("arch.str.startswith('m')", "c"),
        ("1e9 <= tokens < 1e11", "abd"),
        ("params < 0", ""),
        ([True, False, False, True], "ad"),
        (np.array([False, True, False, False]), "b"),
        (pd.Series([False, True, False, False], index=[7, 8, 9, 10]), "b"),
        (lambda f: f["loss"] > 2, "ab"),
    ],
)
def test_where(runs, condition, left):
    chosen = runs.where(condition)
    assert chosen.ids == list(left)
    assert isinstance(chosen, RunTable) and chosen.notes == runs.notes
    assert list(chosen.frame.index) == list(range(len(left)))
    assert len(runs) == 4


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("parms > 1", "no column 'parms'; did you mean 'params'"),
        ("params >", "cannot evaluate"),
        ("params * 2", "true or false"),
        ("@os.getcwd() == ''", "neither @"),
        ("params.__class__ == 1", "neither @"),
        ("os.getcwd() == ''", "no column 'os'"),
        ("", "cannot evaluate"),
        ("arch > 3", "cannot evaluate"),
        ([True], "1 values for 4 runs"),
        ([1.0, 2.0, 3.0, 4.0], "true or false"),
    ],
)
def test_where_that_cannot_work_says_why(runs, condition, says):
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        runs.where(condition)
    assert "\n" not in str(error.value)


def test_a_condition_sees_nothing_of_the_program(runs):
    secret = [True] * 4
    with pytest.raises(ValueError, match="no column 'secret'"):
        runs.where("secret")
    assert secret


def test_derive(runs):
    more = runs.derive(
        flops="6 * params * tokens", half=lambda f: f["loss"] / 2, seed=[1, 2, 3, 4], width=8, twice="2 * half"
    )
    assert more["flops"].tolist() == (6 * runs["params"] * runs["tokens"]).tolist()
    assert more["twice"].tolist() == runs["loss"].tolist()
    assert more["seed"].dtype == float and more["width"].tolist() == [8.0] * 4
    assert more.notes["flops"] == "derived: 6 * params * tokens"
    assert list(more.frame.columns).index("width") < list(more.frame.columns).index("loss")
    assert "half" not in runs
    for bad in (
        {"x": "nope + 1"},
        {"x": [1, 2]},
        {"run": "loss"},
        {"problem": "loss"},
        {"params": ["a", "b", "c", "d"]},
    ):
        with pytest.raises(ValueError):
            runs.derive(**bad)


def test_good_and_drop(runs):
    assert runs.good.ids == ["a", "b", "c"]
    assert runs.drop("b").ids == ["a", "c", "d"] and runs.drop(["a", "d"]).ids == ["b", "c"]
    with pytest.raises(KeyError, match="no run 'e'; the runs are a, b, c, d"):
        runs.drop("e")
    assert runs.with_attributes(optimizer="adam").attributes == {"optimizer": "adam"} and runs.attributes == {}


def test_curves_follow_the_selection():
    frame = pd.DataFrame({"run": ["a", "a", "b", "b"], "step": [1, 2, 1, 2], "loss": [4.0, 3.0, 5.0, 2.0]})
    table = load(frame)
    assert list(table.where("loss > 2.5").curves) == ["a"]
    assert list(table.drop("a").curves) == ["b"]
    with pytest.raises(KeyError, match="no curve for run 'z'"):
        table.curves["z"]


def test_summary(runs):
    summary = runs.summary()
    row = summary.loc["params"]
    assert (row["n"], row["min"], row["median"], row["max"]) == (4, 44e6, 5.5e8, 16.2e9)
    assert summary.loc["loss", "unit"] == "nats/token" and summary.loc["flops", "note"].startswith("derived")
    assert len(load(pd.DataFrame()).summary()) == 0


def test_repr_is_one_deterministic_paragraph(runs):
    assert repr(runs) == (
        "RunTable: 4 runs; params 44M to 16.2B; tokens 1B to 300B; flops 2.64e+17 to 2.92e+22 FLOP; "
        "loss -1 to 4 nats/token; 1 marked with a problem"
    )


def test_html_escapes_everything_that_comes_from_a_log(tmp_path):
    evil = "<script>alert(1)</script>"
    path = tmp_path / f"{evil.replace('/', '')}.csv"
    path.write_text(f"run,N,loss,{evil},{evil}\n{evil},1e6,3,{evil},<b>\nx,{evil},2,y,z\nx,1e6,2,y,z\n")
    table = load(path, columns={"loss": "loss"})
    html = table._repr_html_()
    assert "<script" not in html and "<b>" not in html and "&lt;script&gt;" in html
    assert "⚠" in html


def test_html_is_short_and_marks_what_was_derived():
    n = 500
    table = load(
        pd.DataFrame({"N": np.geomspace(1e6, 1e9, n), "D": 1e9, "loss": 3.0, **{f"m{i}": 1.0 for i in range(40)}})
    )
    html = table._repr_html_()
    assert html.count("<tr") <= 15 and "488 more runs" in html and len(html) < 10_000
    assert "flops†" in html and "derived: 6 x params x tokens" in html
    assert not re.search(r"#[0-9a-f]{3,6}\b|rgb\(|:\s*(white|black)\b", html)  # no colour of its own


def test_csv_round_trip(runs, tmp_path):
    odd = runs.derive(third="params / 3", tiny="1e-300 / params")
    again = load(odd.to_csv(tmp_path / "t.csv"))
    pd.testing.assert_frame_equal(again.frame, odd.frame, check_exact=True)
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_csv_appears_whole_or_not_at_all(runs, tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text("old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        runs.to_csv(path)
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(FileNotFoundError, match="create it first"):
        runs.to_csv(tmp_path / "nowhere" / "t.csv")
