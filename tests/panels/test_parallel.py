"""Parallel coordinates without a browser: what is chosen, against pandas, and what travels."""

import numpy as np
import pandas as pd
import pytest
import traitlets
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench
from workbench.figures.parallel import axes_of, columns_of, inside, parallel
from workbench.figures.render import png
from workbench.panels.parallel import Parallel
from workbench.testing.panels import HOSTILE, example_runs


def mixed(n=60, seed=0):
    """Numbers over one and over many decades, words, a missing value here and there."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "run": [f"r{i}" for i in range(n)],
            "params": 10 ** rng.uniform(6, 10, n),
            "lr": rng.choice([1e-4, 3e-4, 1e-3], n),
            "optimizer": rng.choice(["adam", "lion", "sgd"], n),
            "score": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "loss": rng.uniform(2, 4, n),
        }
    )
    return workbench.load(frame)


def test_positions_are_where_a_ruler_would_put_them():
    axes = {axis.column: axis for axis in axes_of(mixed(), ["params", "score", "optimizer", "loss"])}
    runs = mixed().frame
    assert [axes[c].log for c in ("params", "score", "loss")] == [True, False, False]
    logs = np.log(runs["params"])
    np.testing.assert_allclose(axes["params"].position, (logs - logs.min()) / (logs.max() - logs.min()))
    np.testing.assert_allclose(
        axes["score"].position, (runs["score"] - runs["score"].min()) / (runs["score"].max() - runs["score"].min())
    )
    assert dict(zip(runs["optimizer"], axes["optimizer"].position, strict=True)) == {"adam": 0, "lion": 0.5, "sgd": 1}
    assert {label for _, label in axes["params"].ticks} <= {"1M", "10M", "100M", "1B", "10B", "3M", "30M", "300M", "3B"}
    for axis in axes.values():
        assert all(-1e-9 <= at <= 1 + 1e-9 for at, _ in axis.ticks) and len(axis.ticks) >= 2


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), brushed=st.lists(st.sampled_from(["params", "score", "lr", "loss"]), unique=True))
def test_the_runs_inside_are_those_pandas_finds(seed, brushed):
    runs = mixed(seed=seed)
    rng = np.random.default_rng(seed)
    brushes = {}
    for column in brushed:
        ends = np.sort(rng.choice(runs[column].dropna(), 2))
        brushes[column] = tuple(ends)  # ends included: both of these runs stay
    truth = pd.Series(True, index=runs.frame.index)
    for column, (low, high) in brushes.items():
        truth &= runs[column].between(low, high)
    assert inside(axes_of(runs, ["params", "score", "lr", "loss"]), brushes).tolist() == truth.tolist()


def test_brushes_from_either_side_choose_runs():
    runs = mixed()
    view = Parallel(runs, ["params", "optimizer", "loss"])
    assert view.chosen == runs.ids
    heard = []
    view.observe(lambda change: heard.append(change["new"]), "chosen")
    view.brushes = {"loss": (2.0, 3.0)}
    truth = runs.where("loss <= 3").ids
    assert view.chosen == truth and heard == [truth]
    view.set_state({"brushes": {"loss": [2.0, 3.0], "optimizer": [0, 0]}})  # as the browser sends it
    assert view.chosen == runs.where("loss <= 3 and optimizer == 'adam'").ids
    assert f"{len(view.chosen)} of 60 runs" in view._told
    view.draw(runs, ["loss", "lr"])
    assert view.brushes == {"loss": [2.0, 3.0]}, "the range of a column that has gone goes, the other stays"
    assert view.chosen == truth


@pytest.mark.parametrize(
    ("brushes", "words"),
    [({"nope": (0, 1)}, "no axis"), ({"loss": (3, 2)}, "lowest, highest"), ({"loss": 3}, "lowest, highest"),
     ({"loss": (0, float("nan"))}, "lowest, highest")],
)  # fmt: skip
def test_nonsense_ranges_are_refused_and_change_nothing(brushes, words):
    view = Parallel(mixed(), brushes={"loss": (2, 3)})
    before = view.chosen
    with pytest.raises(traitlets.TraitError, match=words):
        view.brushes = brushes
    assert view.chosen == before
    with pytest.raises(ValueError, match=words):
        parallel(mixed(), ["loss"], brushes)


def test_what_cannot_be_an_axis_is_said():
    runs = mixed(200)
    for columns, log, words in (
        (["nope"], None, "no column"),
        (["loss", "loss"], None, "twice"),
        (["run"], None, "different words"),
        (["score"], ["score"], "cannot be logarithmic"),
    ):
        with pytest.raises(ValueError, match=words):
            axes_of(runs, columns, log)
    with pytest.raises(ValueError, match="colour"):
        parallel(runs, color="nope")


def test_the_columns_nobody_named_vary_and_end_in_the_loss():
    runs = mixed().derive(width=64.0)
    assert columns_of(runs)[-1] == "loss"
    assert "width" not in columns_of(runs) and {"params", "lr"} <= set(columns_of(runs))


def test_five_thousand_runs_travel_as_few_bytes_and_draw_a_small_picture():
    runs = mixed(5000)
    view = Parallel(runs, ["params", "lr", "score", "loss"])
    sent = sum(len(view.get_state(name)[name]) for name in ("_places", "_groups")) + sum(map(len, view._names))
    assert len(view._places) == 5000 * 4 * 4
    assert sent < 200_000
    figure = parallel(runs, ["params", "lr", "score", "loss"], {"loss": (2.0, 2.1)})
    assert len(figure.to_json()) < 400_000
    kept = runs.where("loss >= 2.0 and loss <= 2.1").ids
    drawn = {row["run"] for rows in figure.to_dict()["datasets"].values() for row in rows if "run" in row}
    assert set(kept) <= drawn and len(drawn) == 1000, "brushed runs are never thinned away"
    assert any("1000 lines drawn" in part for part in figure.to_dict()["title"]["subtitle"])


def test_code_draws_the_same_picture():
    runs = mixed()
    view = Parallel(runs, ["params", "lr", "score", "loss"], {"params": (1e7, 1e9)}, "optimizer", log=["params"])
    namespace = {"runs": runs}
    exec(view.code(), namespace)
    assert namespace["figure"].to_dict() == view.figure().to_dict()
    assert png(view.figure()).startswith(b"\x89PNG")


def test_small_empty_and_hostile_tables():
    for runs in (example_runs().where([False] * 36), example_runs().where([True] + [False] * 35)):
        view = Parallel(runs)
        assert view.chosen == runs.ids
        assert png(view.figure()).startswith(b"\x89PNG")
        assert view._told
    nothing = workbench.load(pd.DataFrame({"params": [1.0, 2.0], "loss": [np.nan, np.nan]}))
    assert Parallel(nothing).chosen == nothing.ids
    view = Parallel(example_runs(HOSTILE))
    assert view._names[: len(HOSTILE)] == list(HOSTILE)
    source = Parallel._esm.read_text() if hasattr(Parallel._esm, "read_text") else str(Parallel._esm)
    for sink in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write"):
        assert sink not in source
