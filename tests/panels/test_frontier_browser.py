"""The frontier panel in a real JupyterLab: the rule dragged in the chart, the slider, a click, the code."""

import re

import pytest

from tests.panels.lab import CHART

pytestmark = pytest.mark.long

OPEN_PANEL = """\
from workbench.panels.frontier import FrontierPanel
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = FrontierPanel(runs)
bench"""
CHECK = """\
namespace = {"runs": runs}
exec(bench.code(), namespace)
print("same", namespace["figure"].to_dict() == bench.figure().to_dict(), "marked", len(bench.shared.marked))"""


def test_rule_is_dragged_and_runs_are_clicked(jupyter):
    jupyter.open("frontier", OPEN_PANEL, CHECK)
    page = jupyter.page
    jupyter.run()

    def budget():
        words = page.locator("text=/^At [0-9.e]+ FLOP, 95/").first.text_content()
        return float(re.search(r"At ([0-9.e]+) FLOP", words)[1])

    # keyboard: steps of 0.02 decades
    before = budget()
    handle = page.get_by_role("slider", name="Budget")
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    jupyter.until(lambda: budget() < before / 1.3)

    # mouse in the chart: press on the left of the first panel and drag to the right
    stops = page.locator(f"{CHART} g.mark-rect.role-mark path")
    jupyter.until(lambda: stops.count() > 300)
    # far enough apart that a step of the mouse skips bars: each of those it stops at counts
    first, last = jupyter.box(stops.nth(40)), jupyter.box(stops.nth(120))
    y = first["y"] + 0.6 * first["height"]
    page.mouse.move(first["x"] + 1, y)
    page.mouse.down()
    jupyter.until(lambda: budget() < before / 10)
    low = budget()
    page.mouse.move(last["x"] + 1, y, steps=25)
    jupyter.until(lambda: budget() > 30 * low)
    page.wait_for_timeout(700)  # the last step of the mouse arrives, too
    high = budget()
    page.mouse.up()
    page.mouse.move(first["x"] + 1, y, steps=5)
    page.wait_for_timeout(500)
    assert budget() == high, "the rule moves only while the button is down"
    shown = float(page.get_by_label("Budget, typed").input_value())
    assert abs(shown / high - 1) < 0.01, "the slider and the rule are one value"

    # click a run of the isoFLOP chart
    points = page.locator(f"{CHART} g.mark-symbol.runs_0_marks path, {CHART} g[class*='runs_0'] path")
    points.nth(20).click(force=True)
    jupyter.run(1, chart=False)
    page.wait_for_selector("text=/same True marked 1/")
    page.get_by_role("button", name="Copy as code").click()
    page.wait_for_selector("text=Copied")
    page.screenshot(path=jupyter.folder / "frontier wide.png", full_page=True)
    page.set_viewport_size({"width": 900, "height": 1500})
    page.wait_for_timeout(500)
    page.screenshot(path=jupyter.folder / "frontier narrow.png")
    assert jupyter.dialogs == [] and page.asked_elsewhere == []
