"""The fit panel in a real JupyterLab: mouse, keyboard, clipboard, and the picture that stays behind."""

import re
import time

import nbformat
import pytest

from tests.panels.lab import browser_page, chromium_path, server, write_notebook

CHROMIUM = chromium_path()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)")

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
OPEN_PANEL = """\
from workbench.panels import FitPanel
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = FitPanel(runs)
bench"""
ASK = "print('redraws', bench.redraws, 'delta', bench.state.delta)"
CHART = ".vega-embed svg.marks"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    with server(folder) as address, browser_page(CHROMIUM) as page:
        page.set_default_timeout(40_000)
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        yield folder, address, page


def open_notebook(page, address, name):
    page.goto(address.format(name=name))
    page.wait_for_selector(".jp-Notebook .jp-Cell")


def run_cell(page, index):
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(index).click()
    page.keyboard.press("Control+Enter")


def code(page):
    return page.locator(".wb-copy-text", has_text="figure =").first.text_content()


def until(condition, seconds=15.0):
    """Wait for `condition`, and return how long that took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"the panel did not answer in {seconds:g} s"
        time.sleep(0.02)
    return time.monotonic() - began


def has_outputs(path):
    """Whether the notebook is saved with outputs; while Jupyter writes it, the file is short for a moment."""
    try:
        cells = nbformat.read(path, 4).cells
    except ValueError:
        return False
    return all(cell.outputs for cell in cells)


def test_panel_answers_mouse_keyboard_and_clipboard(lab):
    folder, address, page = lab
    write_notebook(folder / "panel.ipynb", OPEN_PANEL, ASK)
    open_notebook(page, address, "panel.ipynb")
    page.wait_for_selector("text=/[|] Idle/")
    run_cell(page, 0)
    page.wait_for_selector(CHART)
    assert "delta=0.001," in code(page)

    # keyboard: ten steps of a tenth of a decade
    handle = page.locator(".widget-slider .noUi-handle").first
    handle.focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(lambda: "delta=0.01," in code(page))

    # mouse: many moves in one drag; the panel keeps up and is done soon after the hand is
    box, track = handle.bounding_box(), page.locator(".widget-slider .noUi-target").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    moves = 60
    for i in range(moves):
        page.mouse.move(track["x"] + track["width"] * (0.55 - 0.5 * i / moves), box["y"] + 4)
        page.wait_for_timeout(8)
    page.mouse.move(track["x"] - 20, box["y"] + 4)
    page.mouse.up()
    settled = until(lambda: "delta=1e-05," in code(page))
    run_cell(page, 1)
    page.wait_for_selector("text=/redraws \\d+/")
    redraws = int(re.search(r"redraws (\d+)", page.locator("text=/redraws \\d+/").last.text_content())[1])
    print(f"{moves} moves, {redraws} redraws, settled {settled:.2f} s after the drag")
    assert settled < 2.0, "refits queued up behind the drag"
    assert redraws < moves

    # brush the right part of the plot once the full figure has replaced the quick one, and take its runs out
    until(lambda: "…" not in page.locator(".jp-OutputArea-output table").first.text_content())
    page.wait_for_timeout(300)
    chart = page.locator(CHART).first.bounding_box()
    page.mouse.move(chart["x"] + 0.45 * chart["width"], chart["y"] + 0.2 * chart["height"])
    page.mouse.down()
    page.mouse.move(chart["x"] + 0.6 * chart["width"], chart["y"] + 0.5 * chart["height"], steps=6)
    page.mouse.move(chart["x"] + 0.79 * chart["width"], chart["y"] + 0.85 * chart["height"], steps=6)
    page.mouse.up()
    page.wait_for_timeout(300)
    page.get_by_role("button", name="Leave out brushed").click()
    until(lambda: ".without([" in code(page))
    until(lambda: page.locator("select[multiple] option").count() == code(page).count('"run '))

    page.get_by_role("button", name="Copy as code").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == code(page)

    page.screenshot(path=folder / "panel.png")
    assert page.dialogs == [], "a run's name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
    page.keyboard.press("Escape")
    page.keyboard.press("Control+s")
    until(lambda: has_outputs(folder / "panel.ipynb"))


def test_saved_notebook_shows_the_picture_without_widgets(lab):
    folder, address, first = lab
    page = first.context.new_page()
    if not (folder / "panel.png").exists():
        pytest.skip("needs the notebook that the test before saves at its end")
    notebook = nbformat.read(folder / "panel.ipynb", 4)
    data = notebook.cells[0].outputs[0].data
    assert set(data) == {WIDGET_VIEW, "image/png", "text/plain"}
    del data[WIDGET_VIEW]
    notebook.metadata.pop("widgets", None)
    nbformat.write(notebook, folder / "stripped.ipynb")
    open_notebook(page, address, "stripped.ipynb")
    picture = page.locator(".jp-OutputArea-output img").first
    picture.wait_for()
    assert picture.evaluate("image => image.naturalWidth") >= 1440
    page.screenshot(path=folder / "stripped.png")
