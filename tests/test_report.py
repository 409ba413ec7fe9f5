"""The report: one file, no script, no network, no markup out of data, whole or not there."""

from __future__ import annotations

import base64
import os
import stat
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import altair as alt
import pandas as pd
import pytest

from workbench.report import Report

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{title}</title></style>"

#: What a page is made of; none of it runs or fetches anything.
ALLOWED = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "figure", "figcaption", "img", "footer"}
ALLOWED |= {"div", "table", "thead", "tbody", "tr", "th", "td"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, attributes, and text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def hostile() -> Report:
    report = Report(HOSTILE, HOSTILE, HOSTILE)
    report.heading(HOSTILE)
    report.say(HOSTILE)
    report.say(HOSTILE, key=True)
    frame = pd.DataFrame({HOSTILE: [HOSTILE, 1.5], "b": [None, HOSTILE]}, index=pd.Index([HOSTILE, "x"], name=HOSTILE))
    report.table(frame, HOSTILE)
    report.table(frame, words=True)
    report.table(frame.set_axis(pd.MultiIndex.from_tuples([(HOSTILE, "a"), (HOSTILE, "b")]), axis=1))
    points = pd.DataFrame({"x": [1, 2], "y": [1, 2], "run": [HOSTILE, "b"]})
    chart = alt.Chart(points).mark_point().encode(x="x", y="y", color="run").properties(title=HOSTILE)
    report.figure(chart)
    return report


def test_nothing_hostile_becomes_an_element():
    html = hostile().html()
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags - ALLOWED
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        assert "href" not in attributes
        if tag == "img":
            assert attributes["src"].startswith("data:image/svg+xml;base64,")
    # said as text, in full, everywhere it was given: title, h1, lead, heading, two paragraphs, tables, footer
    assert "".join(page.text).count(HOSTILE) >= 10
    assert html.count("<title>") == 1 and html.count("</style>") == 1


def test_pictures_hold_no_script_either():
    (source,) = [a["src"] for tag, a in Page(hostile().html()).elements if tag == "img"]
    picture = ElementTree.fromstring(base64.b64decode(source.partition(",")[2]))
    names = {element.tag.rpartition("}")[2] for element in picture.iter()}
    assert "svg" in names and not names & {"script", "img", "foreignObject", "a", "image"}
    assert not any(name.lower().startswith("on") for element in picture.iter() for name in element.attrib)
    assert HOSTILE[:20] in "".join(picture.itertext()), "the name is shown as it is"


def test_the_page_forbids_itself_script_and_network():
    policies = [a["content"] for tag, a in Page(Report("t").html()).elements if a.get("http-equiv")]
    assert len(policies) == 1 and "default-src 'none'" in policies[0] and "script-src" not in policies[0]


def test_the_file_is_utf8_whatever_the_names(tmp_path: Path):
    report = Report("Größe → ∞ 模型", "lone surrogate \udcff of a file name")
    written = report.write(tmp_path / "new" / "folder" / "r.html")
    text = written.read_bytes().decode("utf-8")
    assert "Größe → ∞ 模型" in text and '<meta charset="utf-8">' in text
    assert written.is_absolute() and written.parent == (tmp_path / "new" / "folder").resolve()


@pytest.mark.parametrize("step", ["html", "replace"])
@pytest.mark.parametrize("reason", [OSError("disk full"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_page_and_nothing_else(tmp_path: Path, monkeypatch, step, reason):
    path = tmp_path / "report.html"
    Report("old").write(path)
    old = path.read_bytes()

    def fail(*_):
        raise reason

    monkeypatch.setattr(*((Report, "html") if step == "html" else (Path, "replace")), fail)
    with pytest.raises(type(reason)):
        Report("new").write(path)
    assert path.read_bytes() == old and list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch):
    real = os.fdopen

    def full(*arguments, **options):
        file = real(*arguments, **options)
        file.close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="space"):
        Report("new").write(tmp_path / "report.html")
    assert list(tmp_path.iterdir()) == []


def test_written_again_it_is_replaced_and_others_may_read_it(tmp_path: Path):
    path = tmp_path / "report.html"
    Report("first").write(path)
    Report("second").write(path)
    assert "second" in path.read_text(encoding="utf-8") and list(tmp_path.iterdir()) == [path]
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError):
        Report("t").write(tmp_path / "file" / "report.html")
    assert (tmp_path / "file").read_text() == "x"
