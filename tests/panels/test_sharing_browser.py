"""What becomes of a panel in a real JupyterLab: saved, reopened, reloaded, restarted, linked, downloaded."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import altair as alt
import nbformat
import pandas as pd
import pytest
import vl_convert

from tests.panels.demo import measured
from tests.panels.lab import CHART
from workbench.testing.panels import HOSTILE, example_runs

pytestmark = pytest.mark.long

VIEW = "application/vnd.jupyter.widget-view+json"
OPEN = """\
from tests.panels.demo import DemoPanel, scatter
from workbench.testing.panels import HOSTILE, example_runs

runs = example_runs(HOSTILE)
bench = DemoPanel(runs)
bench"""
#: A chart that writes the hostile names everywhere a chart can write.
NAMES = """\
import altair as alt
import pandas as pd
from workbench.panels.live_chart import LiveChart
from workbench.testing.panels import HOSTILE

frame = pd.DataFrame({"run": list(HOSTILE), "x": range(4), "y": range(4)})
chart = alt.Chart(frame, title=HOSTILE[1]).mark_circle(size=900).encode(
    alt.X("x:Q", title=HOSTILE[0]), y="run:N", color=alt.Color("run:N", title=HOSTILE[2]), tooltip=["run:N", "x:Q"]
).properties(width=400, height=200)
live = LiveChart(lambda: frame)
live.show(chart)
live"""


def saved(cells):
    """Whether the panel's cell is saved with its two outputs."""
    return len(cells[0].outputs) == 2


def visible_picture(lab, cell=0):
    """The picture that stands in for the panel, once it has been drawn on the page."""
    image = lab.output(cell).locator(".jp-RenderedImage img").first
    image.wait_for()
    assert image.evaluate("image => image.complete && image.naturalWidth") >= 1000
    return image


def start_again(lab):
    """Restart the kernel from the menu."""
    page = lab.page
    page.locator(".lm-MenuBar-itemLabel", has_text="Kernel").click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Restart Kernel…$")).click()
    page.locator(".jp-Dialog button", has_text="Restart").click()
    page.wait_for_selector("text=/[|] Idle/")


@pytest.fixture(scope="module")
def kept(jupyter):
    """A notebook in which the panel was opened, changed and saved; its kernel is gone."""
    jupyter.open("kept", OPEN)
    jupyter.run()
    jupyter.page.get_by_label("Leave out").fill("run 10")
    jupyter.page.get_by_label("Leave out").press("Enter")
    jupyter.until(lambda: "'run 10'" in jupyter.code())
    book = jupyter.save("kept", lambda cells: saved(cells) and "run 10" in cells[0].outputs[0].data["text/plain"])
    jupyter.close()
    return book


def test_a_saved_notebook_holds_the_picture_of_the_last_state(kept):
    picture, view = kept.cells[0].outputs
    assert set(picture.data) - {"application/vnd.workbench.panel+json"} == {"image/png", "text/plain"}
    assert json.loads(picture.data["text/plain"]) == {"power": 0.3, "left_out": ["run 10"]}
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert set(view.data) == {VIEW}, "words would be read twice"
    assert not kept.metadata.get("widgets"), "nobody asked for the state of widgets, which is a megabyte"


def test_reopened_without_its_kernel_it_shows_the_picture(kept, jupyter):
    """First with a kernel that knows nothing of the panel, then with none at all."""
    jupyter.open("kept")
    assert visible_picture(jupyter).is_visible() and jupyter.page.locator(CHART).count() == 0
    jupyter.page.screenshot(path=jupyter.folder / "reopened.png")
    book = nbformat.from_dict(kept)
    book.metadata.kernelspec = {"name": "no-such-kernel", "display_name": "gone", "language": "python"}
    nbformat.write(book, jupyter.folder / "no-kernel.ipynb")
    jupyter.page.goto(jupyter._address.format(name="no-kernel.ipynb"))
    assert visible_picture(jupyter).is_visible()


def test_an_untrusted_notebook_shows_the_picture(kept, jupyter):
    book = nbformat.from_dict(kept)
    book.cells[0].source += "\n# changed by another hand, so that no signature fits"
    nbformat.write(book, jupyter.folder / "untrusted.ipynb")
    jupyter.open("untrusted")
    assert "untrusted.ipynb is not trusted" in (jupyter.folder / "server.log").read_text(encoding="utf-8")
    assert visible_picture(jupyter).is_visible()
    assert "Loading widget" not in jupyter.output().inner_text()


def test_exported_html_shows_the_picture_without_a_script(kept):
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter().from_notebook_node(kept)
    page = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert kept.cells[0].outputs[0].data["image/png"].replace("\n", "") in page.replace("\n", "")
    assert "<img" in page and "onerror=alert" not in page


def test_reload_brings_the_panel_back_and_restart_leaves_its_picture(jupyter):
    jupyter.open("again", OPEN, "bench.state = bench.state.replace(power=0.5)")
    jupyter.run()
    picture = jupyter.output().locator(".jp-RenderedImage img")
    assert picture.count() == 1 and not picture.is_visible(), "beside the live panel it would say everything twice"
    jupyter.save("again", saved)
    jupyter.page.reload()
    jupyter.panel().locator(CHART).wait_for()
    jupyter.run(1, chart=False)
    jupyter.until(lambda: "power=0.5" in jupyter.code())
    assert not picture.is_visible()

    start_again(jupyter)
    jupyter.until(lambda: picture.is_visible() and not jupyter.panel().is_visible())
    jupyter.run(0)
    jupyter.until(lambda: jupyter.panel().is_visible() and not picture.is_visible())
    assert "power=0.3" in jupyter.code()


def test_two_panels_on_one_table_follow_each_other(jupyter):
    jupyter.open("linked", OPEN, "other = DemoPanel(runs)\nother")
    jupyter.run(0)
    jupyter.run(1)
    jupyter.panel(0).get_by_label("Leave out").fill("run 7")
    jupyter.panel(0).get_by_label("Leave out").press("Enter")
    jupyter.until(lambda: "'run 7'" in jupyter.code(1) and "'run 7'" in jupyter.code(0))
    jupyter.until(lambda: "1 left out" in jupyter.panel(1).locator(CHART).text_content())
    jupyter.panel(1).get_by_label("Leave out").fill("run 9")
    jupyter.panel(1).get_by_label("Leave out").press("Enter")
    jupyter.until(lambda: "'run 9'" in jupyter.code(0))
    jupyter.until(lambda: "2 left out" in jupyter.panel(0).locator(CHART).text_content())


def test_code_is_copied_and_inserted_and_runs(jupyter):
    jupyter.open("code", OPEN, "'the cell below it'")
    jupyter.run()
    page = jupyter.page
    jupyter.panel().get_by_role("button", name="Copy as code").click()
    page.wait_for_selector("text=Copied")
    assert page.evaluate("navigator.clipboard.readText()") == jupyter.code()
    jupyter.panel().get_by_role("button", name="Insert cell below").click()
    jupyter.panel().get_by_text("Inserted below").wait_for()
    cells = page.locator(".jp-Notebook .jp-CodeCell .cm-content")
    assert cells.count() == 3
    assert cells.nth(1).inner_text().strip() == jupyter.code().strip()
    assert "the cell below it" in cells.nth(2).inner_text()
    cells.nth(1).click()
    page.keyboard.press("Control+End")
    page.keyboard.type("\nfigure.to_dict() == bench.figure().to_dict()")
    jupyter.run(1, chart=False)
    jupyter.output(1).get_by_text("True").wait_for()


def test_names_of_runs_execute_nowhere(jupyter):
    jupyter.open("names", OPEN, NAMES)
    jupyter.run(0)
    jupyter.run(1)
    page, tooltip = jupyter.page, jupyter.page.locator("#vg-tooltip-element")
    for cell, mark in ((0, ".mark-symbol.role-mark path"), (1, ".mark-symbol.role-mark path")):
        jupyter.output(cell).scroll_into_view_if_needed()
        for number in range(4):
            jupyter.output(cell).locator(mark).nth(number).hover(force=True)
            page.wait_for_timeout(100)
            if not tooltip.is_visible():  # another point lies above this one
                continue
            assert any(name in tooltip.text_content() for name in HOSTILE) or "run " in tooltip.text_content()
            assert tooltip.locator("script, img, b, x").count() == 0
    assert tooltip.is_visible(), "no tooltip was looked at"
    page.screenshot(path=jupyter.folder / "names.png")
    words = jupyter.output(1).locator(CHART).text_content()
    assert all(name[:20] in words for name in HOSTILE), "they are shown, as text"
    assert page.evaluate("document.querySelectorAll('.wb-chart script, .wb-chart img').length") == 0
    jupyter.panel(0).get_by_label("Leave out").fill(HOSTILE[1] + "?")
    jupyter.panel(0).get_by_label("Leave out").press("Enter")
    jupyter.panel(0).get_by_text("no run is called").wait_for()
    assert jupyter.dialogs == [] and page.asked_elsewhere == []


def test_downloads_are_what_they_say(jupyter):
    jupyter.open("files", OPEN, NAMES)
    jupyter.run(0)
    files = {}
    for kind in ("PNG", "SVG", "CSV", "Vega-Lite"):
        with jupyter.page.expect_download() as waited:
            jupyter.panel().get_by_role("button", name=f"{kind}: download").click()
        files[waited.value.suggested_filename] = open(waited.value.path(), "rb").read()  # noqa: SIM115, PTH123
    assert sorted(files) == ["demo.csv", "demo.png", "demo.svg", "demo.vl.json"]
    assert files["demo.png"].startswith(b"\x89PNG\r\n\x1a\n")
    drawing = ElementTree.fromstring(files["demo.svg"])
    assert drawing.tag.endswith("svg") and not drawing.findall(".//{*}script")
    assert "Training tokens D" in "".join(drawing.itertext())
    wanted = measured(example_runs(HOSTILE))
    got = pd.read_csv(io.BytesIO(files["demo.csv"]), index_col=0)
    pd.testing.assert_frame_equal(got, wanted, check_dtype=False)
    again = vl_convert.vegalite_to_svg(files["demo.vl.json"].decode(), vl_version=_vega_lite())
    assert again.count("<path") > len(wanted) and "Loss against tokens" in again

    jupyter.run(1)
    with jupyter.page.expect_download() as waited:
        jupyter.output(1).get_by_role("button", name="SVG: download").click()
    hostile = ElementTree.parse(waited.value.path())
    assert not hostile.findall(".//{*}script") and not hostile.findall(".//{*}img")
    assert jupyter.dialogs == []


def _vega_lite():
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def _level(line):
    """Whether a line runs along one height."""
    return len({y for _, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", line.get_attribute("d"))}) == 1


def test_rows_alone_move_the_drawing(jupyter):
    """No new drawing: rows of one layer are replaced, in both views, and a page that is reloaded has them too."""
    wave = "bench.chart.patch(line=[{'tokens': 2e7 * 4**i, 'loss': 3 + i % 2} for i in range(5)])"
    jupyter.open("rows", OPEN, "bench", wave, "bench.chart.patch(line=[])")
    jupyter.run(0)
    jupyter.run(1)
    lines = jupyter.page.locator(".wb-panel .mark-line.role-mark path")
    before = jupyter.page.locator(".wb-panel .vega-embed").count()
    jupyter.run(2, chart=False)
    for number in (0, 1):
        jupyter.until(lambda number=number: lines.nth(number).get_attribute("d").count("L") == 4)
    assert jupyter.page.locator(".wb-panel .vega-embed").count() == before == 2
    jupyter.save("rows", lambda cells: len(cells[1].outputs) == 2)
    jupyter.page.reload()
    jupyter.panel(1).locator(CHART).wait_for()
    assert lines.nth(0).get_attribute("d").count("L") == 4
    jupyter.run(3, chart=False)
    # asked in one go: a line without points may be taken out of the page between two questions
    jupyter.until(lambda: lines.evaluate_all("lines => lines.every(line => !line.getAttribute('d'))"))


def test_views_of_one_panel_follow_it_and_a_brush_stays_while_the_axes_do(jupyter):
    jupyter.open(
        "views", OPEN, "bench.state = bench.state.replace(left_out=('run 9',))\nbench", "bench.heard[-1:]",
        "bench.chart.show(scatter(runs).properties(title='others'), []); bench.heard[-1:]", "bench.heard[-1]",
        "bench.close()",
    )  # fmt: skip
    jupyter.run(0)
    page, chart = jupyter.page, jupyter.panel(0).locator(CHART)
    box = jupyter.box(chart)
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.3 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"], steps=8)
    page.mouse.up()
    brush = jupyter.panel(0).locator(".mark-rect.brush_brush path").first
    jupyter.until(lambda: jupyter.box(brush)["width"] > 50)
    where = jupyter.box(brush)

    jupyter.run(1)  # a second view, of a changed state: another subtitle, the same axes
    jupyter.until(lambda: "1 left out" in jupyter.panel(0).locator(CHART).text_content())
    assert "1 left out" in jupyter.panel(1).locator(CHART).text_content()
    jupyter.rest()
    page.evaluate("window.scrollTo(0, 0)")
    now = jupyter.box(jupyter.panel(0).locator(".mark-rect.brush_brush path").first)
    assert (now["width"], now["height"]) == pytest.approx((where["width"], where["height"]), abs=1.5)
    jupyter.run(2, chart=False)
    jupyter.output(2).get_by_text("tokens").wait_for()

    jupyter.panel(1).get_by_role("slider").focus()
    page.keyboard.press("Home")
    jupyter.until(lambda: "power=0.0" in jupyter.code(0) and "power=0.0" in jupyter.code(1))
    lines = page.locator(".wb-panel .mark-line.role-mark path")
    jupyter.until(lambda: _level(lines.nth(0)) and _level(lines.nth(1)))
    jupyter.run(3, chart=False)  # a drawing without the brush: it is told to be gone
    jupyter.rest()
    jupyter.run(4, chart=False)
    jupyter.output(4).get_by_text("{}").wait_for()
    jupyter.run(5, chart=False)
    jupyter.until(lambda: page.locator(".wb-panel").count() == 0)
    assert jupyter.dialogs == []
