"""The multiverse panel in a real JupyterLab: it calculates beside the hand, is stopped, brushed and ends as code."""

import re

import pytest

from tests.panels.lab import CHART

pytestmark = pytest.mark.long

# Slowed down, so that there is something to stop however fast the machine is.
OPEN = """\
import time
import workbench
from workbench.analysis import analyses
from workbench.panels.multiverse import panel
from workbench.testing.panels import HOSTILE, example_runs

real = analyses.fit_family
def slow(*given):
    for step in range(30):
        time.sleep(0.1)
        given[-1](step / 60)
    return real(*given)
analyses.fit_family = slow
runs = example_runs(HOSTILE)
bench = panel(runs)
bench"""
ASK = "print('kernel answers', bench.work.busy)"
FAST = "analyses.fit_family = real"


def test_multiverse_panel_in_jupyterlab(jupyter):
    jupyter.open("multiverse", OPEN, ASK, FAST)
    page = jupyter.page
    jupyter.run(0, chart=False)
    # the cell is done while the fits are not: the kernel answers, the time left is told, and it can be stopped
    page.wait_for_selector("text=/Fitting 280 analyses: \\d+%, about \\d+ s left/")
    jupyter.run(1, chart=False)
    page.wait_for_selector("text=kernel answers True")
    page.get_by_role("button", name="Stop", exact=True).click()
    page.wait_for_selector("text=/was stopped before the first answer/")
    jupyter.run(2, chart=False)
    page.get_by_role("button", name="Fit all analyses").click()
    page.wait_for_selector("text=/Across 280 defensible analyses/")
    page.wait_for_selector("text=/Tying of exponents: takes part in/")
    page.screenshot(path=jupyter.folder / "multiverse curve.png")

    # brush by mouse
    chart = page.locator(CHART).first
    chart.scroll_into_view_if_needed()
    box = jupyter.box(chart)
    page.mouse.move(box["x"] + 0.30 * box["width"], box["y"] + 0.15 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.45 * box["width"], box["y"] + 0.2 * box["height"], steps=6)
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.25 * box["height"], steps=6)
    page.mouse.up()
    page.wait_for_selector("text=/\\d+ analyses answer/")
    jupyter.until(
        lambda: (
            "analyses(m, (" in jupyter.code()
            and float(re.search(r"analyses\(m, \([\d.]+, ([\d.]+)", jupyter.code())[1]) > 35
        )
    )
    page.wait_for_selector("text=/Tokens per parameter at that optimum/")

    # keyboard: another budget, no fit needed
    handle = page.get_by_role("slider", name="At C")
    handle.focus()
    before = re.search(r"flops=([\d.e+]+)", jupyter.code())[1]
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: re.search(r"flops=([\d.e+]+)", jupyter.code())[1] != before)
    # keyboard: switch an option off
    page.get_by_role("checkbox", name="beta = alpha").focus()
    page.keyboard.press("Space")
    page.wait_for_selector("text=/Across 140 defensible analyses/")
    jupyter.until(lambda: 'keep={"exponents": ["free"]}' in jupyter.code())
    page.wait_for_timeout(600)
    page.screenshot(path=jupyter.folder / "multiverse brushed.png")
    page.locator(".jp-Notebook").first.evaluate("node => node.scrollTo(0, 700)")
    page.set_viewport_size({"width": 900, "height": 1900})
    page.wait_for_timeout(600)
    page.screenshot(path=jupyter.folder / "multiverse narrow.png")
    assert jupyter.dialogs == [], "a run's name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
    source = jupyter.code()
    namespace = {"runs": __import__("workbench.testing.panels", fromlist=["x"]).example_runs()}
    exec(source, namespace)
    assert len(namespace["m"]) == 140
    assert "analyses" in str(namespace["figure"].to_dict()["vconcat"][1]["title"])
