"""The runs panel in a real JupyterLab: filter, sort, drag, click a curve, tick a row, and run the copied code."""

import pytest

OPEN = """\
import dataclasses
import numpy as np, pandas as pd
import workbench
from workbench.testing.panels import HOSTILE

rng, step = np.random.default_rng(0), np.arange(1, 2001.0)
ids = [*HOSTILE, *(f"run {i}" for i in range(4, 40))]
size, lr = np.geomspace(1e6, 1e9, 40), np.tile([0.001, 0.003], 20)
loss = [2 + 400 * n**-0.34 + 3 * step**-0.4 + 0.02 * rng.standard_normal(2000) for n in size]
curves = {run: pd.DataFrame({"step": step, "loss": values}) for run, values in zip(ids, loss)}
curves["run 20"].loc[1500, "loss"] = 9.0
frame = pd.DataFrame({"run": ids, "params": size, "tokens": 2000 * 4096.0, "steps": 2000.0, "lr": lr,
                      "loss": [c["loss"].iloc[-1] for c in curves.values()]})
runs = dataclasses.replace(workbench.load(frame), curves=curves)
bench = runs.explore()
bench"""
#: Where on the page the middle of a line is.
MIDDLE = """path => { const m = path.getScreenCTM(), at = path.getPointAtLength(path.getTotalLength() / 2);
return [at.x * m.a + m.e, at.y * m.d + m.f]; }"""
RUN_CODE = "exec(bench.code()); print('same figure', figure.to_dict() == bench.figure().to_dict(), len(points))"


@pytest.mark.long
def test_runs_are_found_looked_at_and_taken_out(jupyter):
    page = jupyter.page
    jupyter.open("runs", OPEN, RUN_CODE)
    jupyter.run()
    panel = jupyter.panel()
    jupyter.until(lambda: panel.locator(".wb-run-table tbody tr").count() == 15)  # a page, not the whole table

    # keyboard: the smoothing slider, a header that sorts, a box that marks
    slider = panel.get_by_role("slider", name="Smoothing")
    slider.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: "smooth=1.0," in jupyter.code())
    header = panel.get_by_role("button", name="Loss", exact=True)
    header.focus()
    page.keyboard.press("Enter")
    jupyter.until(lambda: 'ordered(runs, "loss"' in jupyter.code())
    panel.locator("th[aria-sort=ascending]").wait_for()
    first = panel.locator(".wb-run-table tbody tr").first
    jupyter.until(lambda: first.locator("th").text_content() == "run 39")  # the largest run has the lowest loss
    panel.get_by_role("checkbox", name="Mark run run 39").focus()
    page.keyboard.press("Space")
    jupyter.until(lambda: 'marked=["run 39"]' in jupyter.code())
    focused = "document.activeElement.getAttribute('aria-label')"
    jupyter.until(lambda: page.evaluate(focused) == "Mark run run 39")

    # the table drops a run, a filter leaves one curve, a click on it drops that run
    panel.get_by_role("checkbox", name="Use run run 38 in fits").click()
    jupyter.until(lambda: 'left_out=["run 38"]' in jupyter.code())
    panel.get_by_role("textbox", name="Filter").fill("run 20")
    page.keyboard.press("Enter")
    jupyter.until(lambda: 'search(runs, "run 20")' in jupyter.code())
    jupyter.rest()
    panel.get_by_role("combobox", name="A click").select_option(label="leaves the run out")

    lines = panel.locator(".vega-embed svg.marks path[stroke-width='11']")

    def click_the_curve():
        jupyter.until(lambda: lines.count() == 1)  # the drawing of the filtered table, not the one before it
        jupyter.rest(1.5)
        page.mouse.click(*lines.first.evaluate(MIDDLE), delay=60)

    jupyter.gesture(click_the_curve, lambda: 'left_out=["run 20"]' in jupyter.code())
    panel.locator(".vega-embed", has_text="1 left out (dashed)").first.wait_for()
    jupyter.until(lambda: "1 spike in 1 run" in panel.locator(".vega-embed").first.text_content())
    jupyter.gesture(click_the_curve, lambda: "left_out=[]" in jupyter.code())
    panel.get_by_role("textbox", name="Filter").fill("no such run")
    page.keyboard.press("Enter")
    panel.locator("text=no run of 40 matches").wait_for()
    panel.get_by_role("textbox", name="Filter").fill("lr > 0.002")
    page.keyboard.press("Enter")
    jupyter.until(lambda: "lr > 0.002" in jupyter.code())
    jupyter.rest()

    def brush():
        jupyter.rest()
        chart = jupyter.box(panel.locator(".vega-embed svg.marks").first)
        page.mouse.move(chart["x"] + 0.4 * chart["width"], chart["y"] + 0.3 * chart["height"])
        page.mouse.down()
        page.mouse.move(chart["x"] + 0.6 * chart["width"], chart["y"] + 0.5 * chart["height"], steps=5)
        page.mouse.up()

    # brush a range of x
    panel.get_by_role("combobox", name="Fit takes").select_option(label="all points in the brush")
    jupyter.gesture(brush, lambda: "within=[" in jupyter.code())
    jupyter.run(1, chart=False)
    jupyter.until(lambda: "same figure True" in (jupyter.output(1).text_content() or ""))
    page.screenshot(path=jupyter.folder / "runs runs.png", full_page=True)
    panel.get_by_role("textbox", name="Filter").fill("")
    page.keyboard.press("Enter")
    panel.get_by_role("combobox", name="Panes by").select_option(label="Peak learning rate eta")
    jupyter.rest()
    page.screenshot(path=jupyter.folder / "runs panes.png")
    page.set_viewport_size({"width": 900, "height": 1500})
    jupyter.rest()
    page.screenshot(path=jupyter.folder / "runs narrow.png")
    assert jupyter.dialogs == [], "a run's name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
