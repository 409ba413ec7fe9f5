"""The law explorer in a real JupyterLab: sliders by keyboard and mouse, the guess, and its page without a kernel."""

import re

import numpy as np
import pytest

from tests.panels.lab import CHART
from workbench.export import export
from workbench.laws.base import get

pytestmark = pytest.mark.long

OPEN = """\
from workbench.panels.explorer import panel
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = panel(runs)
bench"""
MEDIA = "application/vnd.workbench.panel+json"


def value(code, symbol):
    return float(re.search(rf'"{symbol}": ([\d.e+-]+)', code)[1])


def test_explorer_answers_keyboard_mouse_and_clipboard_and_lives_on_in_a_page(jupyter):
    page = jupyter.page
    page.set_viewport_size({"width": 1280, "height": 1350})
    jupyter.open("explorer", OPEN, "pass")
    jupyter.run(0)
    shown = jupyter.panel(0)
    path = shown.locator(f"{CHART} path[aria-label], {CHART} .mark-line path").last

    # keyboard: the line follows, and the code says the same number
    handle = shown.get_by_role("slider", name="E", exact=True)
    began, before = value(jupyter.code(0), "E"), path.get_attribute("d")
    handle.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    jupyter.until(lambda: value(jupyter.code(0), "E") < began)
    jupyter.until(lambda: path.get_attribute("d") != before)

    # mouse: a drag over half the slider
    handle = shown.get_by_role("slider", name="α", exact=True)
    handle.scroll_into_view_if_needed()
    box, began = jupyter.box(handle), value(jupyter.code(0), "alpha")
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.15 * box["width"], box["y"] + box["height"] / 2, steps=20)
    page.mouse.up()
    jupyter.until(lambda: value(jupyter.code(0), "alpha") != began)
    assert "miss the 36 runs by" in shown.inner_text()

    # another size of model lights up other runs
    shown.get_by_role("slider", name="at N").focus()
    page.keyboard.press("Home")
    jupyter.until(lambda: 'held={"N": 1000000.0}' in jupyter.code(0))
    jupyter.rest()
    assert "6 filled" in shown.locator(CHART).first.text_content()

    shown.get_by_role("button", name="Reveal the fit").click()
    jupyter.until(lambda: "off by" in shown.inner_text() and "fit=fit" in jupyter.code(0))
    jupyter.rest()
    page.screenshot(path=jupyter.folder / "explorer.png")

    shown.get_by_role("button", name="Copy as code").click()
    page.wait_for_selector("text=Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == jupyter.code(0)
    page.set_viewport_size({"width": 900, "height": 1500})
    jupyter.rest()
    assert shown.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "the panel is wider than the notebook"
    page.screenshot(path=jupyter.folder / "explorer-900.png")
    assert jupyter.dialogs == [] and page.asked_elsewhere == []

    # saved and exported, the panel goes on where the reader left it, with the network off and the kernel shut down
    def kept(cells):
        return any('"fit":' in o.get("data", {}).get(MEDIA, {}).get("panel", "") for o in cells[0].outputs)

    jupyter.save("explorer", kept)
    at = {s: value(copied, s) for s in get("chinchilla").symbols}
    jupyter.close()
    written = export(jupyter.folder / "explorer.ipynb")
    offline = page.context.browser.new_context(offline=True)  # the lab stays in its own page
    try:
        page = offline.new_page()
        page.goto(written.as_uri())
        page.wait_for_selector(".wb-ready")
        slider = page.get_by_role("slider", name="β")
        slider.focus()
        for _ in range(4):
            page.keyboard.press("ArrowRight")
        page.wait_for_timeout(300)
        at["beta"] = float(slider.evaluate("e => e.value"))
        rows = page.evaluate("document.querySelector('.wb-live').workbench.view.data('sum').map(r => ({...r}))")
        expected = get("chinchilla").predict(at, {"N": 1e6, "D": np.array([r["x"] for r in rows])})
        np.testing.assert_allclose([r["y"] for r in rows], expected, rtol=1e-4)
        page.screenshot(path=jupyter.folder / "exported.png", full_page=True)
    finally:
        offline.close()
