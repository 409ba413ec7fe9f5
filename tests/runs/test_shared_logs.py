"""Public logs (their own README gives the counts and values); skipped where they are not at hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import workbench

SHARED = Path(__file__).parents[3] / "shared" / "runs"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public run logs are not at {SHARED}")


def test_chinchilla_digitised_points():
    runs = workbench.load(SHARED / "chinchilla/digitised_points.csv")
    assert len(runs) == len(runs.good) == 245
    raw = pd.read_csv(SHARED / "chinchilla/digitised_points.csv")
    for name, header in {"params": "Model Size", "flops": "Training FLOP", "loss": "loss"}.items():
        np.testing.assert_array_equal(runs[name], raw[header].to_numpy())
    assert runs.notes["tokens"] == "derived: flops / (6 params)"
    np.testing.assert_allclose(6 * runs["params"] * runs["tokens"], runs["flops"], rtol=1e-14)


def test_kyo_takano_points_do_not_overflow():
    runs = workbench.load(SHARED / "chinchilla/kyo_takano_points.csv")
    assert len(runs) == len(runs.good) == 234 and runs.messages == ()
    again = runs.derive(six="6 * params * tokens")
    np.testing.assert_allclose(again["six"], runs["flops"], rtol=0.01)
    assert (runs["flops"] > 2**63).sum() > 117  # most of them


def test_over_training_models():
    runs = workbench.load(str(SHARED / "over_training/models/*.json"))
    assert len(runs) == len(runs.good) == 35
    small = runs.where("run == 'rpj-d=96_l=8_h=4-4.0'")
    assert small["params"][0] == 10_569_312 and small["params_non_embedding"][0] == 5_727_840
    assert small["tokens"][0] == 845_544_960 and small["lr"][0] == 0.003
    assert small["results[c4_val].loss"][0] == 4.8231177076673335
    assert runs.notes["tokens"] == "from 'hyperparameters.tokens'"
    # the loss has to be chosen, as there are eight
    assert "loss" not in runs and sum(c.endswith("].loss") for c in runs.frame.columns) == 8
    # M = 20 x multiplier tokens per parameter
    multiplier = runs["hyperparameters.chinchilla_multiplier"]
    np.testing.assert_allclose(runs["tokens_per_param"], 20 * multiplier, rtol=0.01)


def test_learning_rate_schedules_are_curves():
    runs = workbench.load(SHARED / "lr_schedules/csv_25")
    assert len(runs) == len(runs.curves) == 9
    assert (runs["lr"] == 3e-4).all()
    for path in (SHARED / "lr_schedules/csv_25").glob("*.csv"):
        raw = pd.read_csv(path)
        curve = runs.curves[path.stem]
        np.testing.assert_array_equal(curve[["step", "lr", "loss"]], raw[["step", "lr", "loss"]])
        row = runs.where(f"run == '{path.stem}'")
        assert row["loss"][0] == raw["loss"].iloc[-1] and row["steps"][0] == raw["step"].iloc[-1]
    both = workbench.load(SHARED / "lr_schedules")
    assert len(both) == 18 and "csv_100/cosine_24000" in both.ids


def test_everything_at_once_loads_what_it_can():
    runs = workbench.load(SHARED)
    # 245 and 234 points, 35 models with 35 evaluations, 18 schedules, 5 + 5 models of evaluations, 10 of the export,
    # 3 + 3 of TensorBoard, 4 of grokking and the text logs
    assert len(runs) > 650 and len(runs.curves) >= 60
    assert any("no reader knows" in message for message in runs.messages)
    assert "<script" not in runs._repr_html_()
