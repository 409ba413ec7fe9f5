"""Statements about runs: asked once, kept beside them, found again, never taken for a log."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import workbench
from workbench.fits.card import NOT_STATED, QUESTIONS


@pytest.fixture
def csv(tmp_path):
    path = tmp_path / "runs.csv"
    rows = [{"run": f"r{i}", "flops": 10.0 ** (17 + i / 4), "loss": 2.0 + 30 * 10 ** (-i / 8)} for i in range(12)]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.mark.parametrize("whole_folder", [False, True])
def test_answers_are_found_at_the_next_load(csv, whole_folder):
    source = csv.parent if whole_folder else csv
    first = workbench.load(source)
    stated = first.state(training_data="C4, once", hardware='one "GPU"')
    assert stated.attributes["training_data"] == "C4, once"
    again = workbench.load(source)
    assert again.ids == first.ids and len(again) == 12, "the file of statements is no log"
    assert again.attributes["hardware"] == 'one "GPU"'
    rows = dict(workbench.fit(again, "power_constant").card().sections["Training setup"])
    assert rows[QUESTIONS["training_data"]] == "C4, once" and rows[QUESTIONS["metric"]] == NOT_STATED


def test_a_statement_can_be_added_changed_and_taken_back(csv):
    runs = workbench.load(csv).state(hardware="one GPU").state(schedule="cosine", hardware="two GPUs")
    assert workbench.load(csv).attributes == {"hardware": "two GPUs", "schedule": "cosine"}
    assert runs.state(hardware=None).attributes == {"schedule": "cosine"}
    assert workbench.load(csv).attributes == {"schedule": "cosine"}


def test_the_card_asks_for_what_is_missing_and_for_nothing_else(csv):
    runs = workbench.load(csv).state(**dict.fromkeys(QUESTIONS, "stated"))
    assert workbench.fit(runs, "power").card().ask() == ""
    asked = workbench.fit(runs.state(metric=None), "power").card().ask()
    assert asked.startswith("runs = runs.state(") and "metric=" in asked and "hardware=" not in asked


def test_runs_of_no_one_path_cannot_keep_statements(csv):
    with pytest.raises(ValueError, match="not loaded from one file or folder"):
        workbench.load(pd.read_csv(csv)).state(hardware="x")


def test_a_torn_file_of_statements_is_a_message_and_is_not_overwritten(csv):
    workbench.load(csv).state(hardware="one GPU")
    kept = csv.with_name("runs.csv.statements.json")
    kept.write_text(kept.read_text()[:10])
    runs = workbench.load(csv)
    assert len(runs) == 12 and any("statements" in m for m in runs.messages)
    with pytest.raises(ValueError, match="nothing was written"):
        runs.state(schedule="cosine")
    assert len(kept.read_text()) == 10


def test_what_is_no_json_is_refused_and_nothing_is_lost(csv):
    runs = workbench.load(csv).state(hardware="one GPU")
    with pytest.raises(ValueError, match="text or a number"):
        runs.state(schedule=object())
    assert json.loads(csv.with_name("runs.csv.statements.json").read_text()) == {"hardware": "one GPU"}
