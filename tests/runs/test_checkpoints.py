"""Which point of a curve counts, against tables written by hand."""

import numpy as np
import pandas as pd
import pytest

import workbench
import workbench.shipped
from workbench.runs.checkpoints import pick
from workbench.runs.curves import Curves
from workbench.runs.table import RunTable, arrange

STEPS = np.array([0.0, 10, 20, 30, 40, 50])
LOSS = {
    "a": [9.0, 5.0, 4.0, 3.0, 3.5, 3.25],
    "b": [9.0, 6.0, np.nan, 4.5, 4.0, np.nan],
}
#: Warm-up to 1 at step 10, constant to 30, then down to 0.1.
LR = [0.5, 1.0, 1.0, 1.0, 0.5, 0.1]


def table(**curves):
    """Runs of 50 steps of 100 tokens at 1000 parameters; `curves` adds or replaces some."""
    made = {
        "a": pd.DataFrame({"step": STEPS, "tokens": 100 * STEPS, "loss": LOSS["a"], "train_loss": STEPS, "lr": LR}),
        "b": pd.DataFrame({"step": STEPS, "loss": LOSS["b"]}),
        **curves,
    }
    rows = pd.DataFrame(
        {"run": pd.Series([*made, "bare"], dtype="str"), "problem": pd.Series("", range(len(made) + 1))}
    )
    rows["params"], rows["tokens"], rows["flops"], rows["loss"] = 1000.0, 5000.0, 3e7, 3.25
    rows["steps"], rows["lr"], rows["train_loss"], rows["tokens_per_param"] = 50.0, 1.0, 50.0, 5.0
    rows["problem"] = rows["problem"].astype("str")
    makers = {run: (curve if callable(curve) else lambda curve=curve: curve) for run, curve in made.items()}
    return RunTable(frame=arrange(rows), notes={"loss": "from 'val'"}, curves=Curves(makers))


def row(found, run):
    return found.frame[found.frame["cluster"] == run].iloc[0]


def test_final_keeps_the_runs_own_numbers():
    runs = table()
    found = pick(runs)
    pd.testing.assert_frame_equal(found.frame[runs.frame.columns], runs.frame)
    assert found["cluster"].tolist() == runs.ids
    assert found.pick("final").frame.equals(found.frame), "offered as a method, and picking twice changes nothing"


def test_best_takes_everything_from_the_lowest_point():
    found = pick(table(), "best")
    a = row(found, "a")
    assert a[["loss", "steps", "tokens", "flops", "tokens_per_param", "train_loss", "lr"]].tolist() == [
        3, 30, 3000, 1.8e7, 3, 30, 1,
    ]  # fmt: skip
    assert a["flops"] == 6 * a["params"] * a["tokens"]
    b = row(found, "b")
    assert b[["loss", "steps", "tokens", "flops"]].tolist() == [4, 40, 4000, 2.4e7]
    assert np.isnan(b["train_loss"]), "its curve has none, and the final one is not that of the point"


def test_last_is_the_mean_of_the_last_finite_points_at_the_place_of_the_last():
    found = pick(table(), "last", k=3)
    assert row(found, "a")["loss"] == pytest.approx((3 + 3.5 + 3.25) / 3)
    assert row(found, "b")["loss"] == pytest.approx((6 + 4.5 + 4) / 3)
    assert found["steps"].tolist() == [50, 40, 50]
    assert row(pick(table(), "last", k=100), "a")["loss"] == pytest.approx(np.mean(LOSS["a"][1:]))


@pytest.mark.parametrize(("along", "at"), [("flops", 1.9e7), ("tokens", 3100), ("steps", 30), ("steps", 39.99)])
def test_at_takes_the_logged_point_at_or_before_and_never_one_between(along, at):
    found = pick(table(), "at", at=at, along=along)
    assert row(found, "a")[["loss", "steps"]].tolist() == [3, 30]
    assert row(found, "b")[["loss", "steps"]].tolist() == [4.5, 30]
    assert "at or before" in found.notes["loss"]


def test_a_run_that_has_not_come_so_far_is_one_marked_row():
    found = pick(table(), "at", at=50, along="steps")
    assert found["problem"].tolist()[0] == ""
    assert "ends at 40 steps, before 50" in found["problem"].tolist()[1]
    late = pick(table(), "at", at=5, along="steps")
    assert "first point is at 10" in late["problem"].tolist()[0]
    assert pick(table(), "at", at=3e7 * (1 + 1e-9)).frame["problem"].tolist()[0] == "", "rounding is no shortfall"


def test_every_point_is_a_row_of_its_run():
    found = pick(table(), "all")
    assert found.ids == [*(f"a @ {s}" for s in (10, 20, 30, 40, 50)), *(f"b @ {s}" for s in (10, 30, 40)), "bare"]
    assert found["cluster"].tolist() == ["a"] * 5 + ["b"] * 3 + ["bare"]
    assert found["loss"].tolist() == [5, 4, 3, 3.5, 3.25, 6, 4.5, 4, 3.25]
    assert found["tokens"].tolist() == [1000, 2000, 3000, 4000, 5000, 1000, 3000, 4000, 5000]
    np.testing.assert_allclose(found["flops"], 6 * found["params"] * found["tokens"])
    brushed = pick(table(), "all", within=(2000, 3000), along="tokens")
    assert brushed.ids == ["a @ 20", "a @ 30", "b @ 30", "bare"]


def test_close_steps_of_long_runs_stay_apart():
    steps = np.array([12345678.0, 12345679.0, 12345680.0])
    found = pick(table(long=pd.DataFrame({"step": steps, "loss": [3.0, 2.9, 2.8]})), "all")
    assert found.frame["run"].is_unique


def test_an_earlier_choice_does_not_change_the_next():
    runs = table()
    for first in ("best", "last", "final"):
        again = pick(pick(runs, first), "all")
        pd.testing.assert_frame_equal(again.frame, pick(runs, "all").frame)
    assert row(pick(pick(runs, "best"), "final"), "a")["loss"] == 3.25


def test_where_the_learning_rate_has_not_decayed_is_said():
    found = pick(table(), "all")
    assert found["decayed"].tolist()[:5] == [False, False, False, False, True]
    assert found["decayed"].isna().tolist() == [False] * 5 + [True] * 4
    assert pick(table(), "best")["decayed"].tolist()[0] is False
    assert found.where("decayed").ids == ["a @ 50"]
    assert "decayed" not in pick(table().drop("a"), "all")
    told = [m for m in found.messages if "learning rate" in m]
    assert len(told) == 1 and told[0].startswith("4 of 5 points")
    again = pick(pick(table(), "best"), "all").messages
    assert [m for m in again if "learning rate" in m] == told
    assert not any("learning rate" in m for m in pick(table().drop("a"), "all").messages)


def test_runs_without_a_curve_keep_their_row_and_the_note_counts_them():
    found = pick(table(), "best")
    assert row(found, "bare")["loss"] == 3.25
    assert found.notes["loss"] == "lowest point; 1 of 3 runs have no curve of loss and keep their row"


def test_one_bad_curve_is_one_marked_row():
    def gone():
        raise OSError("disk on fire")

    nothing = pd.DataFrame({"step": STEPS, "loss": np.nan})
    for policy in ("best", "last", "at", "all", "final"):
        found = pick(table(gone=gone, nothing=nothing), policy, at=20, along="steps")
        problems = found.frame.groupby("cluster")["problem"].agg(list).to_dict()
        assert problems["gone"] == ["its curve cannot be used: disk on fire"]
        assert len(problems["nothing"]) == 1 and "no loss in it is finite" in problems["nothing"][0]
        assert set(problems["a"]) == {""}


def test_an_unfinished_run_without_final_numbers_gets_its_last_point():
    runs = table()
    frame = runs.frame.assign(loss=[np.nan, 3.25, 3.25], steps=[np.nan, 50, 50])
    found = pick(RunTable(frame=frame, curves=runs.curves))
    assert row(found, "a")[["loss", "steps"]].tolist() == [3.25, 50]


def test_a_column_that_is_called_cluster_is_kept():
    runs = table().derive(cluster=[1.0, 2.0, 3.0])
    found = pick(runs, "best")
    assert found["cluster_logged"].tolist() == [1, 2, 3]
    assert found["cluster"].tolist() == runs.ids


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"policy": "median"}, "final, best, last, at, all"),
        ({"policy": "at"}, "positive number"),
        ({"policy": "at", "at": 5, "along": "loss"}, "flops, tokens, steps"),
        ({"policy": "last", "k": 0}, "1 or more"),
        ({"policy": "all", "within": (3, 2)}, "no range"),
        ({"metric": "bleu"}, "neither the table nor a curve has 'bleu'"),
    ],
)
def test_bad_arguments_get_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        pick(table(), **arguments)


def test_empty_tables_and_shipped_runs():
    assert len(pick(table().where([False] * 3), "all")) == 0
    runs = workbench.load(workbench.shipped.sweep("bigram")).where("width == 4")
    best = pick(runs, "best")
    truth = [runs.curves[run]["loss"].iloc[1:].min() for run in runs.ids]
    np.testing.assert_allclose(best["loss"], truth)
    assert (best["loss"] <= runs["loss"] * (1 + 1e-6)).all()
    every = pick(runs, "all")
    assert len(every) == sum(len(runs.curves[run]) - 1 for run in runs.ids)
    fit = workbench.fit(every.where("tokens > 1e6"), "chinchilla", cluster="cluster")
    assert fit.n_runs > len(runs)
