"""The runs panel: contract, finding, taking out, choosing points, growing logs, and what travels to the browser."""

import asyncio
import dataclasses
import json
import threading

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.panels import FitPanel, runs_drawing, runs_live
from workbench.panels import base as base_module
from workbench.panels.runs import RunsPanel, RunsState, panel
from workbench.runs.checkpoints import pick
from workbench.testing.panels import PanelContract, example_runs, walk


class TestContract(PanelContract):
    def panel(self, runs):
        return RunsPanel(runs)


def made(n=6, points=400, **columns):
    """`n` runs of a known curve; run 2 has one spike."""
    step = np.arange(1, points + 1.0)
    size = np.geomspace(1e6, 1e8, n)
    noise = 0.002 * np.random.default_rng(1).standard_normal((n, points))
    curves = {
        f"run {i}": pd.DataFrame({"step": step, "loss": 2 + 1e3 * size[i] ** -0.5 + step**-0.5 + noise[i]})
        for i in range(n)
    }
    if n > 2:
        curves["run 2"].loc[300, "loss"] = 9.0
    frame = pd.DataFrame(
        {
            "run": list(curves), "params": size, "tokens": 1000.0 * points, "steps": float(points),
            "flops": 6 * size * 1000 * points, "loss": [c["loss"].iloc[-1] for c in curves.values()],
            "recipe": ["old", "new"] * (n // 2) + ["old"] * (n % 2), **columns,
        }
    )  # fmt: skip
    return dataclasses.replace(workbench.load(frame), curves=curves)


@pytest.fixture
def runs():
    return made()


@pytest.fixture
def bench(runs):
    return RunsPanel(runs)


def executed(bench):
    namespace = {bench.name: bench.runs}
    exec(bench.code(), namespace)
    return namespace


class TestContractWithCurves(PanelContract):
    @pytest.fixture
    def runs(self):
        return made()

    def panel(self, runs):
        return RunsPanel(runs)

    test_poor_tables_give_a_helpful_panel = None  # a table without rows keeps its curves here


STATES = [
    {"smooth": 2.0, "x": "flops", "log_x": False},
    {"group": "recipe", "x": "progress"},
    {"facet": "recipe", "color": "run", "clip": False, "events": False},
    {"filter": "recipe == 'new'", "sort": "smoothed", "descending": True, "smooth": 1.0},
    {"tags": {"run 1": "good", "run 4": "good"}, "color": "tag", "left_out": ("run 0",), "marked": ("run 1",)},
    {"policy": "last", "k": 7},
    {"policy": "at", "at": 1e5, "along": "tokens"},
    {"policy": "all", "x": "step", "span": (100.0, 120.0)},
]


@pytest.mark.parametrize("state", STATES, ids=lambda s: ",".join(s))
def test_every_state_comes_back_from_its_text_and_from_its_code(runs, state):
    bench = panel(runs, **state)
    assert bench.message.value == ""
    namespace = executed(bench)
    assert namespace["figure"].to_dict() == bench.figure().to_dict()
    pd.testing.assert_frame_equal(namespace["points"].frame, bench.points().frame)
    again = RunsPanel(runs, RunsState.from_json(bench.state.to_json()))
    assert again.state == bench.state and again.figure().to_dict() == bench.figure().to_dict()


def test_filter_takes_words_expressions_and_conditions(bench):
    for typed, wanted in (
        ("NEW", ["run 1", "run 3", "run 5"]),
        ("/run [12]$/", ["run 1", "run 2"]),
        ("params > 1e7 and recipe == 'old'", ["run 4"]),
    ):
        bench.controls.filter.value = typed
        assert bench.chosen.ids == wanted
        assert [row["run"] for row in bench.controls.table.content["rows"]] == wanted
    bench.controls.filter.value = "nothing like it"
    assert "no run of 6 matches" in bench.message.value
    assert bench.chosen.ids == ["run 4"], "a filter that matches nothing is not applied"
    bench.controls.filter.value = ""
    assert len(bench.chosen) == 6 and bench.message.value == ""


def test_headers_sort_up_down_and_not_at_all(bench):
    tell = bench._table_told
    tell({"act": "sort", "key": "loss"})
    assert bench.chosen.ids == [f"run {i}" for i in (5, 4, 3, 2, 1, 0)], "loss falls with size here"
    tell({"act": "sort", "key": "loss"})
    assert bench.chosen.ids[0] == "run 0" and bench.state.descending
    tell({"act": "sort", "key": "loss"})
    assert bench.state.sort == "" and bench.chosen.ids == bench.runs.ids


def test_marking_and_leaving_out_is_shared_with_a_fit_panel(runs):
    bench, fit = RunsPanel(runs), FitPanel(runs)
    bench._table_told({"act": "use", "runs": ["run 3"], "on": False})
    assert bench.state.left_out == ("run 3",) == fit.shared.left_out
    bench.brushed("click", {"run": ["run 1"]})
    assert fit.shared.marked == ("run 1",)
    bench.brushed("click", {})  # the button goes down for the next click
    bench.brushed("click", {"run": ["run 1"]})
    assert bench.state.marked == ()
    bench.controls.click.value = "left_out"
    bench.brushed("click", {"run": ["run 3"]})
    assert bench.state.left_out == () == fit.shared.left_out
    fit.shared.change(fit, left_out=["run 5"])
    assert bench.state.left_out == ("run 5",)
    assert "run 5" not in bench.points().ids


def test_buttons_act_on_marked_runs_and_say_so_without_any(bench):
    for button in (bench.controls.out, bench.controls.only, bench.controls.untag):
        button.click()
        assert "no run is marked" in bench.message.value
    bench._table_told({"act": "mark", "runs": ["run 0", "run 1"], "on": True})
    bench.controls.only.click()
    assert set(bench.state.left_out) == {"run 2", "run 3", "run 4", "run 5"}
    bench.controls.back.click()
    assert bench.state.left_out == ()
    bench.controls.tag.value = "first"
    assert bench.state.tags == {"run 0": "first", "run 1": "first"} and bench.controls.tag.value == ""
    bench.controls.filter.value = "tag == 'first'"
    assert bench.chosen.ids == ["run 0", "run 1"]
    bench.controls.filter.value = ""
    bench.controls.untag.click()
    assert bench.state.tags == {}
    bench.controls.unmark.click()
    assert bench.state.marked == ()


def test_points_are_those_of_the_policy(bench, runs):
    bench.controls.policy.value = "best"
    lowest = [runs.curves[run]["loss"].min() for run in runs.ids]
    assert bench.points().frame["loss"].tolist() == pytest.approx(lowest)
    bench.controls.policy.value = "at"
    bench.controls.along.value = "tokens"
    bench.controls.at.value = 1e5
    assert (bench.points().frame["tokens"] <= 1e5 * 1.001).all()
    assert bench.points().frame["steps"].tolist() == [100.0] * 6
    bench.controls.x.value = "step"
    bench.brushed("span", {"x": [50.0, 59.0]})
    bench.controls.policy.value = "all"
    assert len(bench.points()) == 60, "ten logged points of six runs"
    assert bench.points().frame["steps"].between(50, 59).all()
    assert "60 rows" in bench.controls.told.value
    expected = pick(runs, "all", along="steps", within=(50.0, 59.0))
    pd.testing.assert_frame_equal(bench.points().frame, expected.frame)


def test_a_brush_on_an_axis_that_is_no_quantity_is_refused(bench):
    bench.state = bench.state.replace(x="progress")
    bench.brushed("span", {"x": [0.1, 0.5]})
    bench.controls.policy.value = "all"
    assert "brush over steps" in bench.message.value and bench.state.policy == "final"


def test_a_brush_over_points_marks_runs_where_there_are_no_curves():
    runs = example_runs()
    bench = RunsPanel(runs)
    frame = runs.frame
    x, y = bench.state.x, bench.state.y
    box = {"x": [frame[x].quantile(0.2), frame[x].quantile(0.8)], "y": [frame[y].min(), frame[y].median()]}
    bench.brushed("span", box)
    inside = frame["run"][frame[x].between(*box["x"], "both") & frame[y].between(*box["y"], "both")]
    assert set(bench.state.marked) >= set(inside) - {inside.iloc[0], inside.iloc[-1]} and bench.state.marked


def test_a_moving_slider_replaces_rows_and_draws_once_at_rest(runs, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)
    bench = RunsPanel(runs)
    full, specs = [], []
    real = RunsPanel._draw_full
    monkeypatch.setattr(RunsPanel, "_draw_full", lambda self: (full.append(self.state.smooth), real(self)))
    bench.chart.observe(lambda change: specs.append(change), "spec")

    async def drag():
        for value in (1.0, 2.0, 4.0):
            bench.controls.smooth.value = value
        assert specs == [], "no new drawing while the hand moves"
        await asyncio.sleep(0.2)

    asyncio.run(drag())
    assert full == [4.0]
    last = bench._series.final("run 0", "loss", 4.0)
    assert bench.chart.data["curves"][0]["y"][-1] == pytest.approx(last, rel=1e-5)


def test_a_drawing_that_waits_is_not_lost_to_a_change_below_the_chart(bench, monkeypatch):
    monkeypatch.setattr(base_module, "PAUSE", 0.05)

    async def hand():
        bench._table_told({"act": "use", "runs": ["run 3"], "on": False})
        bench.controls.policy.value = "best"  # before the full drawing has come
        await asyncio.sleep(0.15)

    asyncio.run(hand())
    assert bench.state.left_out == ("run 3",) and bench.state.policy == "best"
    assert "1 left out (dashed)" in json.dumps(bench.chart.spec)


def test_two_threads_take_turns_so_that_the_newer_picture_stays(bench, monkeypatch):
    """JupyterLab lets widgets speak to a thread beside that of the cells."""
    entered, go_on = threading.Event(), threading.Event()
    real = runs_drawing.draw_lines

    def slow(lines):
        if not entered.is_set():
            entered.set()
            go_on.wait(0.5)  # the other thread draws meanwhile, if it is let
        return real(lines)

    monkeypatch.setattr(runs_drawing, "draw_lines", slow)
    older = threading.Thread(target=lambda: bench._full_later(bench._draw_full))
    older.start()
    assert entered.wait(10)
    bench.state = bench.state.replace(filter="run 2")
    go_on.set()
    older.join(10)
    assert "filter run 2: 1 of 6 runs" in json.dumps(bench.chart.spec)


def test_what_a_reader_sets_while_another_thread_sets_the_controls_is_not_lost(bench, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()
    real = runs_drawing.draw_lines

    def slow(lines):
        if not entered.is_set():
            entered.set()
            go_on.wait(0.5)
        return real(lines)

    monkeypatch.setattr(runs_drawing, "draw_lines", slow)
    older = threading.Thread(target=lambda: setattr(bench, "state", bench.state.replace(log_y=False)))
    older.start()
    assert entered.wait(10)
    bench.controls.clip.value = False  # the other thread then sets every control to its state, where this is ticked
    go_on.set()
    older.join(10)
    assert not bench.state.clip and not bench.controls.clip.value
    assert not bench.state.log_y and not bench.controls.log_y.value


def test_parallel_coordinates_brush_both_ways(runs):
    bench = panel(runs, parallel=True)
    (widget,) = bench.controls.coordinates.children
    widget.brushes = {"params": [9e6, 2e8]}
    wanted = tuple(runs.frame["run"][runs.frame["params"].between(9e6, 2e8)])
    assert bench.state.marked == wanted and bench.state.brushes == {"params": [9e6, 2e8]}
    bench._table_told({"act": "mark", "runs": ["run 0"], "on": True})
    assert set(widget.marked) == {*wanted, "run 0"}
    bench.controls.parallel.value = False
    assert bench.controls.coordinates.children == ()


def write_log(path, n):
    lines = [json.dumps({"step": i, "loss": 5.0 / (i + 1) + 1, "tokens": 100 * i}) for i in range(1, n)]
    path.write_text("\n".join(lines) + "\n")


def test_growing_logs_are_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_live, "EVERY", 0.05)
    for name in ("a", "b"):
        write_log(tmp_path / f"{name}.jsonl", 20)
    bench = RunsPanel(workbench.load(tmp_path))
    bench.state = bench.state.replace(left_out=(bench.runs.ids[0],))
    assert len(bench.runs.curves[bench.runs.ids[1]]) == 19

    async def watch():
        bench.controls.live.value = True
        for _ in range(200):
            await asyncio.sleep(0.05)
            if bench._live.looks:
                break
        looks = bench._live.looks
        write_log(tmp_path / "b.jsonl", 30)
        for _ in range(100):
            await asyncio.sleep(0.05)
            if len(bench.runs.curves[bench.runs.ids[1]]) == 29:
                break
        bench.controls.live.value = False
        await asyncio.sleep(0.2)
        stopped = bench._live.looks
        await asyncio.sleep(0.2)
        return looks, stopped

    looks, stopped = asyncio.run(watch())
    assert looks >= 1 and bench._live.looks == stopped, "it looks while the box is ticked, and no longer"
    assert len(bench.runs.curves[bench.runs.ids[1]]) == 29
    assert bench.state.left_out == (bench.runs.ids[0],)
    assert "workbench.load(" in bench.code(), "the code reads the logs as they are now"
    assert executed(bench)["figure"].to_dict() == bench.figure().to_dict()


def test_runs_that_come_from_no_file_cannot_be_followed(bench):
    assert bench.controls.live.disabled


def test_a_thousand_long_runs_send_little():
    bench = RunsPanel(made(1000, 10_000))
    states = [w.get_state() for w in walk(bench)]
    sent = sum(len(json.dumps(state, default=str)) for state in states)
    assert sent < 2_000_000
    assert len(bench.controls.table.content["rows"]) == 15
    assert "of 1\u202f000 runs" in bench.controls.table.content["count"]
    drawn = bench.chart.data["curves"]
    assert 100 <= len(drawn) <= 130 and "120 of them drawn" in workbench.figures.text(bench.figure())


def test_five_thousand_rows_are_paged():
    size = np.geomspace(1e6, 1e9, 5000)
    bench = RunsPanel(pd.DataFrame({"params": size, "tokens": 1e9, "loss": 2 + size**-0.3}))
    content = bench.controls.table.content
    assert content["pages"] == 334 and len(content["rows"]) == 15
    bench._table_told({"act": "page", "to": 10_000})
    assert bench.controls.table.content["page"] == 333 and len(bench.controls.table.content["rows"]) == 5
    assert len(json.dumps(content)) < 20_000


def test_explore_is_a_method_of_a_table_and_names_a_wrong_setting(runs):
    assert runs.explore(x="step").state.x == "step"
    with pytest.raises(ValueError, match="no setting 'smoothing'"):
        runs.explore(smoothing=1)
