"""The compare panel in a real JupyterLab: laws, groups, sliders by keyboard, a brush, and code that runs."""

import re

import pytest

from tests.panels.lab import CHART
from tests.panels.test_compare import two_recipes

pytestmark = pytest.mark.long

OPEN = """\
from tests.panels.test_compare import two_recipes
from workbench.panels.compare import panel
from workbench.testing.panels import HOSTILE

runs = two_recipes((HOSTILE[0], "sgd"), noise=5e-3)
bench = panel(runs, by="recipe", law="power", x="flops")
bench"""
LAWS = """\
from workbench.testing.panels import example_runs
table = example_runs(HOSTILE)
panel(table, holdout="15 %")"""


def test_compare_panel_in_jupyterlab(jupyter):
    jupyter.open("compare", OPEN, LAWS)
    page = jupyter.page
    jupyter.run(0, chart=False)
    page.wait_for_selector("text=/To reach .* needs/")
    jupyter.until(lambda: "cross = workbench.crossover" in jupyter.code())

    # keyboard: the value to reach
    handle = page.get_by_role("slider", name="Value to reach")
    handle.focus()
    before = re.search(r"\.at\(([\d.]+)\)", jupyter.code())[1]
    for _ in range(8):
        page.keyboard.press("ArrowLeft")
    jupyter.until(lambda: float(re.search(r"\.at\(([\d.]+)\)", jupyter.code())[1]) < float(before))
    page.wait_for_timeout(600)
    page.screenshot(path=jupyter.folder / "compare groups.png")

    # brush the largest runs and take them out
    box = jupyter.box(page.locator(CHART).first)
    page.mouse.move(box["x"] + 0.46 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.55 * box["width"], box["y"] + 0.6 * box["height"], steps=6)
    page.mouse.move(box["x"] + 0.70 * box["width"], box["y"] + 0.9 * box["height"], steps=6)
    page.mouse.up()
    page.wait_for_timeout(400)
    page.get_by_role("button", name="Leave out brushed").click()
    jupyter.until(lambda: "runs.drop([" in jupyter.code())
    source = jupyter.code()

    jupyter.run(1, chart=False)
    page.wait_for_selector("text=/predicts the held-out runs .* best/")
    page.wait_for_timeout(800)
    page.get_by_role("slider", name="Curves at N").scroll_into_view_if_needed()
    page.screenshot(path=jupyter.folder / "compare laws.png")
    page.set_viewport_size({"width": 900, "height": 1700})
    page.wait_for_timeout(800)
    page.screenshot(path=jupyter.folder / "compare narrow.png")
    assert jupyter.dialogs == [], "a name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
    namespace = {"runs": two_recipes(("<script>alert('run')</script>", "sgd"), noise=5e-3)}
    exec(source, namespace)
    assert sum(f.n_runs for f in namespace["fits"].values()) < 24
    assert "groups" in str(namespace["figure"].to_dict()["title"])
