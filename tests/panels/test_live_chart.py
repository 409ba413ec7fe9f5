"""`LiveChart`: what is sent to the browser, when, and that text stays text."""

import asyncio
import json

import altair as alt
import numpy as np
import pandas as pd
import pytest

from tests.panels.demo import DemoPanel
from workbench.figures.render import png
from workbench.panels import kept
from workbench.panels.live_chart import LiveChart, rows, split
from workbench.testing.panels import example_runs


def drawing(y, title="a title", name="line"):
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": y})
    line = alt.Chart(frame, name=name).mark_line().encode(x="x:Q", y="y:Q")
    points = alt.Chart(pd.DataFrame({"x": [1.5], "y": [2.5], "run": ["</script><b>"]})).mark_point()
    return alt.layer(line, points.encode(x="x:Q", y="y:Q", tooltip="run:N")).properties(title=title)


def watched(live):
    sent = []
    live.observe(lambda change: sent.append(change["name"]), ["spec", "data"])
    return sent


def test_a_drawing_is_sent_once_and_its_rows_when_they_change():
    live = LiveChart()
    assert live.show(drawing([1.0, 2.0, 3.0]))
    sent = watched(live)
    assert not live.show(drawing([1.0, 2.0, 3.0])) and sent == []
    assert not live.show(drawing([1.0, 2.0, 9.0])) and sent == ["data"]
    assert live.data["line"][2] == {"x": 3.0, "y": 9.0}
    assert live.show(drawing([1.0, 2.0, 9.0], title="another")) and sent == ["data", "spec"]


def test_split_and_filled_again_draw_the_same_picture():
    chart = drawing([1.0, 4.0, 2.0])
    spec, data = split(chart.to_dict())

    def fill(node):
        if isinstance(node, list):
            return [fill(item) for item in node]
        if isinstance(node, dict):
            held = node.get("data")
            if isinstance(held, dict) and held.get("name") in data:
                node = {**node, "data": {"values": data[held["name"]]}}
            return {k: v if k == "data" else fill(v) for k, v in node.items()}
        return node

    assert png(fill(spec)) == png(chart)


def test_views_without_a_name_count_and_equal_names_do_not_collide():
    chart = alt.hconcat(drawing([1.0, 2.0, 3.0]), drawing([3.0, 2.0, 1.0]))
    _, data = split(chart.to_dict())
    lines = [values for values in data.values() if len(values) == 3]
    assert [line[0]["y"] for line in lines] == [1.0, 3.0]
    assert len(data) == 3, "the points of both charts are one dataset"


def test_a_patch_replaces_one_dataset_and_refuses_what_is_not_drawn():
    live = LiveChart()
    live.show(drawing([1.0, 2.0, 3.0]))
    sent = watched(live)
    assert live.patch(line=pd.DataFrame({"x": [1.0], "y": [7.0]})) and sent == ["data"]
    assert live.data["line"] == [{"x": 1.0, "y": 7.0}]
    assert not live.patch(band=[]) and sent == ["data"]
    live.show(drawing([1.0, 2.0, 3.0]))
    assert len(live.data["line"]) == 3, "the next full drawing replaces the patch"


def test_rows_are_json_and_short():
    frame = pd.DataFrame(
        {"x": [1 / 3, np.nan, np.inf], "n": [1, 2, 3], "run": ["a", "<b>", "c"], "s": [np.array([1.0, np.nan])] * 3}
    )
    assert rows(frame) == [
        {"x": 0.333333, "n": 1, "run": "a", "s": [1.0, None]},
        {"x": None, "n": 2, "run": "<b>", "s": [1.0, None]},
        {"x": None, "n": 3, "run": "c", "s": [1.0, None]},
    ]


def test_the_library_travels_once_and_from_this_machine():
    one, two = LiveChart(), LiveChart()
    assert one._library is two._library
    assert "esm.sh" not in one._library.source and "cdn." not in one._library.source
    assert len(one.get_state()["_esm"]) < 20_000
    assert 500_000 < len(one._library.source) < 2_000_000


def test_the_reader_may_ask_for_the_numbers():
    asked = []
    live = LiveChart(lambda: pd.DataFrame({"a": [1, 2]}, index=pd.Index(["x", "y"], name="i")))
    live.send = lambda content, buffers=None: asked.append(content)
    live._asked(live, {"ask": "csv"}, [])
    assert asked == [{"csv": "i,a\nx,1\ny,2\n"}]


@pytest.mark.parametrize("chart", [alt.Chart(pd.DataFrame({"x": [1]})).mark_bar(), {"mark": "bar"}])
def test_charts_and_specifications_are_taken_and_left_alone(chart):
    before = chart.to_dict() if hasattr(chart, "to_dict") else dict(chart)
    LiveChart().show(chart)
    assert (chart.to_dict() if hasattr(chart, "to_dict") else chart) == before


def states(widget, monkeypatch):
    """What `widget` sends to the browser from now on."""
    sent = []
    monkeypatch.setattr(type(widget), "_send", lambda self, message, buffers=None: sent.append(message["state"]))
    return sent


def test_only_rows_that_changed_travel_and_a_page_that_is_reloaded_gets_all(monkeypatch):
    live = LiveChart()
    live.show(drawing([1.0, 2.0, 3.0]))
    sent = states(live, monkeypatch)
    live.patch(line=[{"x": 1.0, "y": 7.0}])
    live.show(drawing([1.0, 2.0, 4.0]))
    assert [set(state) for state in sent] == [{"fresh"}, {"fresh"}]
    assert [set(state["fresh"]["rows"]) for state in sent] == [{"line"}, {"line"}]
    assert sent[0]["fresh"]["version"] < sent[1]["fresh"]["version"]
    live.patch(line=[{"x": 1.0, "y": 7.0}])
    live.patch(line=[{"x": 1.0, "y": 7.0}])
    assert len(sent) == 4, "the browser may have been given other rows in between"
    assert live.get_state()["_drawing"]["data"]["line"] == [{"x": 1.0, "y": 7.0}]
    live.show(drawing([1.0, 2.0, 4.0], title="another"))
    assert [*sent[-1]] == ["_drawing"] and len(sent) == 5, "one message a drawing"
    assert sent[-1]["_drawing"]["data"]["line"][2] == {"x": 3.0, "y": 4.0}
    live.patch(line=[{"x": 1.0, "y": 7.0}])
    live.show(drawing([1.0, 2.0, 4.0]))
    assert sent[-1]["_drawing"]["data"] == sent[-3]["_drawing"]["data"], "the browser drew other rows in between"
    assert sent[-1]["_drawing"]["version"] > sent[-3]["_drawing"]["version"]


def test_a_panel_is_shown_as_its_picture_and_its_view_and_the_picture_follows(monkeypatch):
    published = []
    monkeypatch.setattr(
        kept, "_publish", lambda data, metadata, transient=None, *, update=False: published.append((data, update))
    )
    monkeypatch.setattr(kept, "REST", 0.05)
    for name in ("VSCODE_PID", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(name, raising=False)
    shown = DemoPanel(example_runs())

    async def use():
        shown._ipython_display_()
        assert [set(data) for data, _ in published] == [{"image/png", "text/plain"}, {kept.VIEW}]
        shown.state = shown.state.replace(left_out=("run 3",))
        shown.state = shown.state.replace(power=0.9)
        while len(published) < 3:
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        shown.redraw(shown._full)  # nothing has changed
        await asyncio.sleep(0.3)

    asyncio.run(asyncio.wait_for(use(), 60))
    assert [update for _, update in published] == [False, False, True], "once for both changes"
    assert json.loads(published[2][0]["text/plain"]) == {"power": 0.9, "left_out": ["run 3"]}
    assert published[2][0]["image/png"] == png(shown.figure())
    shown.keep()
    assert published[3][1] and len(published) == 4

    monkeypatch.setenv("VSCODE_PID", "1")
    shown._ipython_display_()
    assert set(published[-1][0]) == {kept.VIEW, "image/png", "text/plain"}, "VS Code hides no picture"
