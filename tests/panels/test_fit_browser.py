"""The fit panel in a real JupyterLab: mouse, keyboard, clipboard, and the picture that stays behind."""

import re
import time

import nbformat
import pytest

from tests.panels.lab import CHART

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
OPEN_PANEL = """\
from workbench.panels import FitPanel
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = FitPanel(runs)
bench"""
ASK = "print('redraws', bench.redraws, 'delta', bench.state.delta)"


def test_panel_answers_mouse_keyboard_and_clipboard(jupyter):
    folder, page = jupyter.folder, jupyter.page
    jupyter.open("panel", OPEN_PANEL, ASK)
    jupyter.run()
    assert "delta=0.001," in jupyter.code()

    # keyboard: ten steps of a tenth of a decade
    handle = page.get_by_role("slider", name="Delta")
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: "delta=0.01," in jupyter.code())

    # mouse: many moves in one drag; the panel keeps up and is done soon after the hand is
    box = track = jupyter.box(handle)
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    moves = 60
    for i in range(moves):
        page.mouse.move(track["x"] + track["width"] * (0.55 - 0.5 * i / moves), box["y"] + 4)
        page.wait_for_timeout(8)
    page.mouse.move(track["x"] - 20, box["y"] + 4)
    page.mouse.up()
    began = time.monotonic()
    jupyter.until(lambda: "delta=1e-05," in jupyter.code())
    settled = time.monotonic() - began
    jupyter.run(1, chart=False)
    page.wait_for_selector("text=/redraws \\d+/")
    redraws = int(re.search(r"redraws (\d+)", page.locator("text=/redraws \\d+/").last.text_content())[1])
    print(f"{moves} moves, {redraws} redraws, settled {settled:.2f} s after the drag")
    assert settled < 2.0, "refits queued up behind the drag"
    assert redraws < moves

    # brush the right part of the plot once the full figure has replaced the quick one, and take its runs out
    jupyter.until(lambda: "…" not in page.locator(".jp-OutputArea-output table").first.text_content())
    page.wait_for_timeout(300)
    chart = jupyter.box(page.locator(CHART).first)
    page.mouse.move(chart["x"] + 0.45 * chart["width"], chart["y"] + 0.2 * chart["height"])
    page.mouse.down()
    page.mouse.move(chart["x"] + 0.6 * chart["width"], chart["y"] + 0.5 * chart["height"], steps=6)
    page.mouse.move(chart["x"] + 0.79 * chart["width"], chart["y"] + 0.85 * chart["height"], steps=6)
    page.mouse.up()

    def left_out():
        """Where the kernel is busy with a picture, the click overtakes the brush, which is sent when it is free."""
        page.get_by_role("button", name="Leave out brushed").click()
        page.wait_for_timeout(1000)
        return ".without([" in jupyter.code()

    jupyter.until(left_out)
    jupyter.until(lambda: page.locator("select[multiple] option").count() == jupyter.code().count('"run '))

    page.get_by_role("button", name="Copy as code").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == jupyter.code()

    page.screenshot(path=folder / "panel.png")
    assert jupyter.dialogs == [], "a run's name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
    jupyter.save("panel", lambda cells: all(cell.outputs for cell in cells))


def test_saved_notebook_shows_the_picture_without_widgets(jupyter):
    folder, page = jupyter.folder, jupyter.page
    if not (folder / "panel.png").exists():
        pytest.skip("needs the notebook that the test before saves at its end")
    notebook = nbformat.read(folder / "panel.ipynb", 4)
    picture, view = notebook.cells[0].outputs
    assert {"image/png", "text/plain"} <= set(picture.data) and set(view.data) == {WIDGET_VIEW}
    notebook.cells[0].outputs.remove(view)
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, folder / "stripped.ipynb")
    jupyter.open("stripped")
    picture = page.locator(".jp-OutputArea-output img").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") >= 1440
    page.screenshot(path=folder / "stripped.png")


@pytest.mark.long
def test_rows_follow_the_hand_runs_are_clicked_and_views_changed(jupyter):
    folder, page = jupyter.folder, jupyter.page
    jupyter.open("views", OPEN_PANEL.replace("example_runs(HOSTILE)", "example_runs()"))
    jupyter.run()
    drawn = page.locator("[data-drawn]").first
    line = page.locator(f"{CHART} .mark-line path").first

    # a step of E moves the line within the drawing that is there
    jupyter.until(lambda: line.count() == 1)
    page.wait_for_timeout(1500)
    page.evaluate("document.querySelector('.vega-embed').dataset.mine = 'yes'")
    before = line.get_attribute("d")
    page.get_by_role("slider", name="E", exact=True).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: line.get_attribute("d") != before)
    assert page.locator(".vega-embed[data-mine=yes]").count() == 1, "a moving hand must not wait for a new drawing"
    jupyter.until(lambda: 'fixed={"E": ' in jupyter.code())
    page.get_by_role("combobox", name="E is").select_option("free")
    jupyter.until(lambda: "fixed={}" in jupyter.code())
    page.wait_for_timeout(1500)

    # a click takes a run out, and the next one on the hollow point puts it back
    count = int(drawn.get_attribute("data-drawn"))
    page.locator(f"{CHART} .mark-symbol.role-mark path").nth(7).click(force=True)
    jupyter.until(lambda: ".without([" in jupyter.code())
    jupyter.until(
        lambda: (
            int(drawn.get_attribute("data-drawn")) > count
            and page.locator(f"{CHART} text", has_text="1 left out").count()
        )
    )
    page.wait_for_timeout(800)
    page.locator(f"{CHART} .mark-symbol.role-mark").nth(1).locator("path").first.click(force=True)
    jupyter.until(lambda: ".without([" not in jupyter.code())

    # the largest fifth held out, by keyboard
    page.get_by_role("slider", name="Hold out").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: "fit.hold_out(0.2)" in jupyter.code())
    page.wait_for_selector(f"{CHART} text:has-text('runs held out')")
    for width in (1280, 900):
        page.set_viewport_size({"width": width, "height": 1500})
        page.wait_for_timeout(600)
        page.screenshot(path=folder / f"hold out {width}.png")

    for view, words in (
        ("Residuals", "error of loss"),
        ("Profile of each parameter", "profile of each parameter"),
        ("Influence of each run", "hangs on"),
    ):
        page.get_by_role("combobox", name="View").select_option(view)
        page.wait_for_selector(f"{CHART} text:has-text('{words}')")
        page.screenshot(path=folder / f"{view}.png")
    page.get_by_role("combobox", name="Conclusion").select_option("alpha (exponent of parameters)")
    page.wait_for_selector(f"{CHART} text:has-text('alpha')")
    page.locator(f"{CHART} .mark-symbol.role-mark").nth(1).locator("path").last.hover(force=True)
    page.wait_for_selector("#vg-tooltip-element:has-text('Answer without it')")
    page.get_by_role("combobox", name="View").select_option("Card")
    page.wait_for_selector("text=Condition of the Jacobian")
    page.screenshot(path=folder / "card.png")
    page.set_viewport_size({"width": 1280, "height": 1500})
    assert jupyter.dialogs == [] and page.asked_elsewhere == []
