"""The planner in a real JupyterLab: budget by keyboard and mouse, money, a data limit, probes handed over, the code."""

import re

import pytest

pytestmark = pytest.mark.long

OPEN_PANEL = """\
from workbench.panels.planner import PlannerPanel
from workbench.probes import Probe
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = PlannerPanel(runs, base=Probe(task="bigram", model="transformer"), on_probes=lambda sweep: None)
bench"""
CHECK = """\
namespace = {"runs": runs}
exec(bench.code(), namespace)
print("same", namespace["figure"].to_dict() == bench.figure().to_dict())"""
HANDED = "print('handed over', len(bench.probes) if bench.probes else None, 'of', len(bench.answer.chosen))"


def test_a_budget_is_spent_in_flop_and_in_money(jupyter):
    jupyter.open("planner", OPEN_PANEL, CHECK, HANDED)
    page, panel = jupyter.page, None
    jupyter.run()
    panel = jupyter.panel()

    def budget():
        return float(re.search(r"At ([0-9.e]+) FLOP", panel.inner_text())[1])

    # keyboard: a step of 0.02 decades is 4.7 %
    before = budget()
    handle = panel.get_by_role("slider", name="Budget", exact=True)
    handle.focus()
    for _ in range(25):
        page.keyboard.press("ArrowRight")
    jupyter.until(lambda: budget() > 3 * before)
    assert abs(budget() / before / 10**0.5 - 1) < 0.02, "25 steps are half a decade"

    # mouse: the handle is dragged back by a third of the track
    box = jupyter.box(handle)
    high = budget()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 60, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    jupyter.until(lambda: budget() < high / 2)

    # the same compute, bought: money / price * seconds an hour * peak * utilisation
    panel.get_by_role("combobox", name="Budget in").select_option(label="money")
    typed = {name: panel.get_by_label(f"{name}, typed") for name in ("Money", "Price", "Peak", "Utilisation")}
    typed["Money"].fill("1000")
    page.keyboard.press("Enter")
    jupyter.until(lambda: float(typed["Money"].input_value()) == 1000)
    price, peak, share = (float(typed[name].input_value()) for name in ("Price", "Peak", "Utilisation"))
    jupyter.until(lambda: abs(budget() / (1000 / price * 3600 * peak * share) - 1) < 0.02)

    # a data limit of the assumed kind brings its own controls
    assert not panel.get_by_role("slider", name="Unique").is_visible()
    options = panel.get_by_role("combobox", name="Data").locator("option").all_text_contents()
    panel.get_by_role("combobox", name="Data").select_option(index=len(options) - 1)
    panel.get_by_role("slider", name="Unique").wait_for()
    jupyter.quiet()

    panel.get_by_role("button", name="Hand to the probe panel").click()
    jupyter.run(1, chart=False)
    jupyter.until(lambda: "same True" in (jupyter.output(1).text_content() or ""))
    jupyter.run(2, chart=False)
    jupyter.until(lambda: "handed over" in (jupyter.output(2).text_content() or ""))
    page.screenshot(path=jupyter.folder / "planner wide.png", full_page=True)
    page.set_viewport_size({"width": 900, "height": 1500})
    jupyter.rest()
    page.screenshot(path=jupyter.folder / "planner narrow.png")
    assert jupyter.dialogs == [], "a run's name was executed"
    assert page.asked_elsewhere == [], "the panel asked the internet"
