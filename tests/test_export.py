"""The exported page: self-contained, harmless, and its panels answer with network and kernel gone."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import workbench
from workbench.cli import main
from workbench.export import export, page
from workbench.export.clean import clean, plain
from workbench.export.mathml import mathml
from workbench.export.panels import MEDIA, checked
from workbench.laws.base import get, names
from workbench.panels.explorer import panel
from workbench.panels.explorer_embed import fit_embedded
from workbench.testing.panels import HOSTILE, example_runs

PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\6\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\5\xfe\2"
    b"\xfe\xa75\x81\x84\0\0\0\0IEND\xaeB`\x82"
).decode()
HARMFUL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    '<img src="https://example.org/track.png">',
    '<svg onload="alert(3)"><script>alert(4)</script></svg>',
    '<iframe src="javascript:alert(5)"></iframe>',
    '<a href="javascript:alert(6)" onclick="alert(7)">click</a>',
    '<a href=" jav&#x09;ascript:alert(8)">click</a>',
    '<div style="background:url(https://example.org)" onmouseover=alert(9)>hover</div>',
    "<style>@import url(https://example.org/x.css)</style>",
    '<form action="https://example.org"><input name=q><button>go</button></form>',
    '<meta http-equiv="refresh" content="0;url=https://example.org">',
    "<base href='https://example.org/'>",
    "<math><mtext></mtext><style><img src=x onerror=alert(10)></style></math>",
    "<scr<script>ipt>alert(11)</scr</script>ipt>",
    '</script></style></title><img src="data:text/html,<script>alert(12)</script>">',
)


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def assert_harmless(html, scripts=0):
    found = Page(html).elements
    assert sum(tag == "script" and a.get("type") != "application/json" for tag, a in found) == scripts
    for tag, attributes in found:
        assert tag not in {"iframe", "object", "embed", "form", "base", "link", "svg", "input", "button"}, tag
        assert not any(name.startswith("on") or name in {"style", "srcset"} for name in attributes), attributes
        for name in ("href", "src", "action"):
            address = (attributes.get(name) or "").strip().lower()
            assert re.match(r"^(https?:|mailto:|#|$)", address) or (tag, name) == ("img", "src"), attributes
        if tag == "img":
            assert re.match(
                r"data:image/(png|jpeg|gif|svg\+xml);base64,[A-Za-z0-9+/=]*$",
                attributes.get("src", "data:image/png;base64,"),
            )


def shown(of, picture=True):
    data, metadata = of._kept.bundle()
    data["image/png"] = base64.b64encode(data["image/png"]).decode()
    return new_output("display_data", data=data, metadata=metadata)


@pytest.fixture(scope="module")
def runs():
    return example_runs(HOSTILE)


@pytest.fixture(scope="module")
def lesson(runs, tmp_path_factory):
    """A notebook with an explorer, an explorer on runs, a fit, a table, and one hostile output of each kind."""
    fit = workbench.fit(runs, "chinchilla")
    drawn = fit.plot(n=50)
    fitted = new_output(
        "display_data", data={"image/png": PIXEL, "text/plain": "a fit", MEDIA: fit_embedded(fit, drawn)}
    )
    words = " ".join(HARMFUL)
    cells = [
        new_markdown_cell(f"# A lesson & more\n\n$L = E + A\\,N^{{-\\alpha}}$ and $$\\frac{{A}}{{B}}$$\n\n{words}"),
        new_code_cell("for i in range(3):\n    print('<script>alert(0)</script>')", outputs=[shown(panel())]),
        new_code_cell("runs.panel()", outputs=[shown(panel(runs))]),
        new_code_cell("fit", outputs=[fitted]),
        new_code_cell("runs", outputs=[
            new_output("display_data", data={"text/html": words + runs.frame.head(3).to_html(), "text/plain": words}),
            new_output("display_data", data={"image/svg+xml": "<svg xmlns='http://www.w3.org/2000/svg' onload='f'/>"}),
            new_output("display_data", data={"text/markdown": words, "text/plain": ""}),
            new_output("display_data", data={"application/javascript": "alert(1)", "text/plain": words}),
            new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}),
            new_output("stream", text=f"\x1b[31m{words}\x1b[0m"),
            new_output("error", ename="E", evalue=words, traceback=[f"\x1b[0;31m{words}"]),
        ]),
    ]  # fmt: skip
    path = tmp_path_factory.mktemp("export") / "lesson.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.fixture(scope="module")
def written(lesson):
    return export(lesson)


def test_one_file_under_five_megabytes_with_three_living_panels(written):
    html = written.read_text(encoding="utf-8")
    assert written.stat().st_size < 5_000_000
    assert html.count('class="wb-live') == 3 and "3 panels answer" in html
    assert "<title>A lesson &amp; more</title>" in html and "<math" in html


def test_the_page_allows_itself_its_own_two_scripts_and_nothing_else(written):
    html = written.read_text(encoding="utf-8")
    (policy,) = [a["content"] for tag, a in Page(html).elements if a.get("http-equiv") == "Content-Security-Policy"]
    scripts = re.findall(r"<script>(.*?)</script>", html, re.S)
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    assert re.search(r"script-src ([^;]*);", policy)[1].split() == [f"'sha256-{h}'" for h in hashes]
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and "http" not in policy
    assert_harmless(html, scripts=2)


def test_a_page_without_panels_has_no_script():
    html = page(new_notebook(cells=[new_markdown_cell("words"), new_code_cell("1 + 1")]))
    assert "<script" not in html and "script-src" not in html and len(html) < 20_000


@pytest.mark.parametrize("harm", HARMFUL)
def test_what_is_cleaned_is_harmless_and_stays_so(harm):
    assert_harmless(clean(harm))
    assert clean(clean(harm)) == clean(harm)
    assert "alert(1)" not in clean("<script>alert(1)</script>")


def test_cleaning_keeps_what_a_table_needs():
    kept = clean('<table class="x"><tr><th colspan="2">a</th></tr><tr><td>1 &lt; 2</td></tr></table>')
    assert re.sub("</?tbody>", "", kept) == '<table><tr><th colspan="2">a</th></tr><tr><td>1 &lt; 2</td></tr></table>'
    assert f'src="data:image/png;base64,{PIXEL}"' in clean(f'<img src="data:image/png;base64,{PIXEL}">')
    assert plain("\x1b[1;31mred\x1b[0m\x07 and\ttab") == "red and\ttab"


@pytest.mark.parametrize(("code", "details", "text"), [("folded", 4, True), ("shown", 0, True), ("hidden", 0, False)])
def test_code_is_folded_shown_or_hidden(lesson, code, details, text):
    html = page(nbformat.read(lesson, 4), code=code)
    assert html.count("<details>") == details
    assert ("for i in range(3)" in html) is text
    with pytest.raises(ValueError, match="folded, shown, hidden"):
        page(new_notebook(), code="none")


def held():
    return json.loads(json.dumps(panel().embedded()))


def test_an_embedded_panel_passes_its_check_and_keeps_its_law():
    good = checked(held())
    assert good["steps"] == held()["steps"] and [s["symbol"] for s in good["sliders"]] == [
        "E",
        "A",
        "B",
        "alpha",
        "beta",
    ]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda h: h.update(version=2),
        lambda h: h.pop("steps"),
        lambda h: h["steps"].append(["eval", 0]),
        lambda h: h["steps"].append(["add", 0, 10_000]),
        lambda h: h["steps"].append(["add", 0, -1]),
        lambda h: h["steps"].append(["add", 0]),
        lambda h: h["steps"].append(["constant", "1e3"]),
        lambda h: h["steps"].append(["argument", "not given"]),
        lambda h: h["steps"].append([["add"], 0, 0]),
        lambda h: h["sliders"][0].update(min=5, max=1),
        lambda h: h["sliders"][1].update(min=0),
        lambda h: h["sliders"].append(h["sliders"][0]),
        lambda h: h["curves"][0].update(dataset="another"),
        lambda h: h["curves"][0]["rows"].pop(),
        lambda h: h["curves"][0].update(out=[99_999]),
        lambda h: h["curves"][0]["inputs"].pop("N"),
        lambda h: h.update(points={"y": [1.0], "inputs": {"N": []}}),
        lambda h: h.update(reveal={"params": {"E": 1.0}, "rms": 1.0, "runs": 1}),
        lambda h: h.update(data={"sum": "rows"}),
        lambda h: h.update(steps=[["constant", 1.0]] * 3000),
    ],
)
def test_a_panel_that_is_not_as_written_becomes_its_picture(spoil):
    wrong = held()
    spoil(wrong)
    assert checked(wrong) is None
    output = new_output("display_data", data={MEDIA: wrong, "image/png": PIXEL, "text/plain": "the state"})
    html = page(new_notebook(cells=[new_code_cell("p", outputs=[output])]))
    assert "<script" not in html and PIXEL in html


def test_addresses_and_settings_leave_the_drawing():
    wrong = held()
    wrong["spec"]["usermeta"] = {"embedOptions": {"ast": False, "loader": {"baseURL": "https://example.org"}}}
    wrong["spec"]["layer"][0]["data"] = {"url": "https://example.org/rows.json"}
    wrong["spec"]["layer"][0]["encoding"]["href"] = {"value": "javascript:alert(1)"}
    wrong["title"] = "</script><script>alert(1)</script>"
    output = new_output("display_data", data={MEDIA: wrong, "image/png": PIXEL, "text/plain": ""})
    html = page(new_notebook(cells=[new_code_cell("p", outputs=[output])]))
    block = re.search(r'<script type="application/json">(.*?)</script>', html, re.S)[1]
    assert "example.org" not in block and "usermeta" not in block and "javascript:alert" not in block
    assert_harmless(html, scripts=2)


@pytest.mark.parametrize("name", names())
def test_every_laws_formula_becomes_mathml(name):
    made = mathml(get(name).latex, block=True)
    root = ElementTree.fromstring(made)  # well-formed
    assert root.tag == "math", made
    symbols = "".join(root.itertext())
    for symbol in get(name).symbols:
        base = {"alpha": "α", "beta": "β", "gamma": "γ", "eta": "η"}.get(symbol.split("_")[0], symbol[0])
        assert base in symbols or len(symbol.split("_")[0]) > 1, (symbol, symbols)


def test_mathematics_by_hand_and_what_is_not_known():
    root = ElementTree.fromstring(mathml(r"\frac{A}{N^\alpha}"))
    fraction = root.find(".//mfrac")
    assert ["".join(part.itertext()) for part in fraction] == ["A", "Nα"] and fraction.find(".//msup") is not None
    assert ElementTree.fromstring(mathml(r"\sum_{k \le t} x_k")).find(".//munder") is not None
    assert mathml(r"\href{javascript:alert(1)}{x}").startswith("<code>")
    for broken in ("{", "}", "^", r"\frac{1}", "a^b^c", r"\left( x", "{" * 500, "<script>"):
        assert "<script" not in mathml(broken) and ElementTree.fromstring(mathml(broken)) is not None


def test_the_command_writes_beside_the_notebook_or_where_it_is_told(lesson, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["export", str(lesson), "--html", "-o", str(target), "--code", "hidden"]) == 0
    assert "page.html" in capsys.readouterr().out and target.is_file()
    assert main(["export", str(lesson), "-o", str(tmp_path / "page.pdf")]) == 2
    assert "end the name in .html" in capsys.readouterr().err
    (tmp_path / "no.ipynb").write_text("{")
    assert main(["export", str(tmp_path / "no.ipynb")]) == 2
    assert "no notebook" in capsys.readouterr().err and not (tmp_path / "no.html").exists()


def test_sliders_answer_with_network_and_kernel_gone(written, browser, runs):
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    tab.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else asked.append(request.url))
    tab.goto(written.as_uri())
    tab.wait_for_function("document.querySelectorAll('.wb-ready').length === 3", timeout=30_000)

    def rows(number, dataset):
        return tab.evaluate(
            "([n, d]) => document.querySelectorAll('.wb-live')[n].workbench.view.data(d).map(r => ({...r}))",
            [number, dataset],
        )

    def drawn(number):
        return (
            tab.locator(".wb-live")
            .nth(number)
            .locator("svg path")
            .evaluate_all("all => all.map(p => p.getAttribute('d'))")
        )

    law, at = get("chinchilla"), {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
    before, picture = rows(0, "sum"), drawn(0)
    np.testing.assert_allclose(
        [r["y"] for r in before], law.predict(at, {"N": 1e8, "D": [r["x"] for r in before]}), rtol=1e-4
    )
    handle = tab.locator(".wb-live").nth(0).get_by_role("slider", name="β")
    handle.focus()
    for _ in range(10):
        tab.keyboard.press("ArrowRight")
    tab.wait_for_timeout(200)
    value = float(handle.evaluate("e => e.value"))
    assert value == pytest.approx(0.28 + 10 * 1.5 / 200, abs=0.01)
    after = rows(0, "sum")
    expected = law.predict({**at, "beta": value}, {"N": 1e8, "D": np.array([r["x"] for r in after])})
    np.testing.assert_allclose([r["y"] for r in after], expected, rtol=1e-5)
    assert drawn(0) != picture, "the line on the screen has moved"
    term = [r["y"] for r in rows(0, "terms") if r["part"].startswith("B")]
    np.testing.assert_allclose(term, 410.7 * np.array([r["x"] for r in after]) ** -value, rtol=1e-5)

    # a guess, then the fit: the misfit of the fit as the library has it
    second = tab.locator(".wb-live").nth(1)
    assert "miss the 36 runs by 27" in second.inner_text()
    second.get_by_role("button", name="Reveal the fit").click()
    fit = workbench.fit(runs, "chinchilla", starts=64)
    rms = np.sqrt(np.mean(np.log(fit.law.predict(fit.params, fit.points.x) / fit.points.y) ** 2))
    shown_rms = float(re.search(r"The sliders miss the 36 runs by ([\d.]+) %", second.inner_text())[1]) / 100
    assert shown_rms == pytest.approx(rms, rel=0.02)
    assert "off by" in second.inner_text()

    # the fit view: six lines move, and back
    third = tab.locator(".wb-live").nth(2)
    box = third.get_by_role("textbox", name="E, typed")
    start = rows(2, "line")
    box.fill("2")
    box.press("Enter")
    tab.wait_for_timeout(200)
    moved = rows(2, "line")
    np.testing.assert_allclose(
        [b["y"] - a["y"] for a, b in zip(start, moved, strict=True)], 2 - fit.params["E"], atol=2e-3
    )
    third.get_by_role("button", name="Back to the fit").click()
    tab.wait_for_timeout(200)
    np.testing.assert_allclose([r["y"] for r in rows(2, "line")], [r["y"] for r in start], rtol=1e-3)
    assert said == [] and asked == []
    tab.screenshot(path=written.with_suffix(".png"), full_page=True)
    context.close()


def test_the_page_reads_in_the_dark_and_at_900_pixels(written, browser):
    context = browser.new_context(viewport={"width": 900, "height": 900}, offline=True, color_scheme="dark")
    tab = context.new_page()
    tab.goto(written.as_uri())
    tab.wait_for_function("document.querySelectorAll('.wb-ready').length === 3", timeout=30_000)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    colours = tab.locator(".wb-live svg path").evaluate_all("all => all.map(p => p.getAttribute('stroke'))")
    assert "#440154" not in colours, "dark violet on black"
    tab.screenshot(path=written.with_name("dark.png"), full_page=True)
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_page(written, browser, scheme):
    package = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (extra 'test')")
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(written.as_uri())
    tab.wait_for_function("document.querySelectorAll('.wb-ready').length === 3", timeout=30_000)
    tab.evaluate((Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    assert [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in serious] == []
    context.close()
