"""Pictures and files: nothing from the internet, nothing executed, nothing huge."""

import json
import re
import subprocess
import sys
from xml.etree import ElementTree

import altair as alt
import pandas as pd
import pytest

import workbench
from workbench import figures
from workbench.figures.render import size
from workbench.testing.panels import HOSTILE, example_runs


@pytest.fixture(scope="module")
def chart(fit):
    return figures.curve(fit, n=20)


def test_png_is_two_pixels_per_point_and_720_wide(chart):
    assert size(figures.png(chart)) == {"width": 720, "height": 430}


def test_text_is_deterministic_words(chart):
    assert figures.text(chart).startswith("Figure: Chinchilla: loss against training tokens — 36 runs · log-huber")
    assert figures.text(chart) == figures.text(chart.to_dict())


def test_notebook_output_is_a_picture_and_words(chart):
    bundle, metadata = chart._repr_mimebundle_(None, None)
    assert set(bundle) == {"image/png", "text/plain"}
    assert metadata["image/png"]["width"] == 720
    assert bundle["text/plain"] == figures.text(chart)


def test_import_respects_a_renderer_somebody_chose():
    script = (
        "import altair as alt; alt.renderers.enable('mimetype'); alt.theme.enable('dark'); import workbench.figures; "
        "print(alt.renderers.active, alt.theme.active)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["mimetype", "dark"]
    assert alt.renderers.active == "workbench" and alt.theme.active == "workbench"


def test_save_writes_every_format(chart, tmp_path):
    for kind in figures.render.FORMATS:
        path = figures.save(chart, tmp_path / f"figure.{kind}")
        assert path.stat().st_size > 1000
    assert json.loads((tmp_path / "figure.json").read_text()) == chart.to_dict()
    assert "Loss L (nats/token)" in (tmp_path / "figure.svg").read_text()
    with pytest.raises(ValueError, match=r"\.png, \.svg, \.html, \.json"):
        figures.save(chart, tmp_path / "figure.gif")


def test_html_is_self_contained_and_quotes_hostile_names(tmp_path):
    fit = workbench.fit(example_runs(HOSTILE), "chinchilla", starts=16)
    page = figures.save(figures.curve(fit, band=False), tmp_path / "page.html").read_text()
    outside = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)  # Vega's own source mentions tags
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", outside)
    assert "default-src 'none'" in page
    assert "alert('run')" in page, "the run's name is data"
    assert "<script>alert" not in page and "<img" not in outside
    assert page.count("</script>") == 3


def test_control_characters_in_a_name_do_not_spoil_the_figure(tmp_path):
    codes = (*range(32), 127, 0xFFFE, 0xFFFF)
    names = pd.DataFrame({"x": range(len(codes)), "y": 1, "run": [f"a{chr(code)}b" for code in codes]})
    chart = alt.Chart(names).mark_text().encode(x="x:Q", y="y:Q", text="run:N", tooltip="run:N")
    assert figures.png(chart).startswith(b"\x89PNG")
    svg = figures.save(chart, tmp_path / "figure.svg").read_text(encoding="utf-8")
    ElementTree.fromstring(svg)  # whatever XML forbids is refused here


def test_figures_stay_small():
    frame = example_runs().frame.drop(columns=["problem", "run"])
    many = workbench.load(pd.concat([frame * (1 + 1e-4 * i) for i in range(140)], ignore_index=True))
    fit = workbench.fit(many, "chinchilla", starts=4)
    for chart in (figures.curve(fit, band=False), figures.residuals(fit), figures.scatter(many)):
        assert len(json.dumps(chart.to_dict())) < 400_000


def test_figures_can_be_put_side_by_side(chart, fit):
    assert figures.png(chart & figures.residuals(fit)).startswith(b"\x89PNG")


def test_empty_says_why():
    chart = figures.empty("Nothing is fitted", "add <runs> first")
    assert figures.png(chart).startswith(b"\x89PNG")
    assert "add <runs> first" in json.dumps(chart.to_dict())
