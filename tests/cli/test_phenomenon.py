"""``workbench probe phenomenon``."""

from __future__ import annotations

import json

import pandas as pd

from workbench.cli import main
from workbench.phenomena import find, phenomena


def test_without_a_name_all_are_listed(capsys):
    assert main(["probe", "phenomenon"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in phenomena())
    assert main(["probe", "phenomenon", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["phenomena"]] == list(phenomena())


def test_one_is_run_judged_and_kept(capsys, tmp_path):
    path = tmp_path / "runs.csv"
    assert main(["probe", "phenomenon", "model_collapse", "--seed", "3", "--table", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["holds"] is True and told["seed"] == 3
    again = find("model_collapse").report(pd.read_csv(path))
    assert again.to_dict()["measured"] == told["measured"]
    assert main(["probe", "phenomenon", "model_collapse"]) == 0
    assert "control:" in capsys.readouterr().out


def test_bad_words_are_one_sentence(capsys):
    assert main(["probe", "phenomenon", "cold_fusion"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["probe", "one.json", "two.json"]) == 2
    assert "one file too many" in capsys.readouterr().err
