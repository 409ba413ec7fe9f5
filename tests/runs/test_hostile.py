"""Names that try to leave their place: through load, tables, the report, figures and files they stay names."""

from __future__ import annotations

import json

import pandas as pd
import pytest

import workbench
from workbench.figures import render
from workbench.figures.run_curves import run_curves
from workbench.figures.runs import scatter
from workbench.testing.readers import HOSTILE

NAMES = (
    *HOSTILE, "\u2067\u202dabc\u2069", "</script><script>alert(1)</script>", "a\r\nb", "\x1b[2Jx", "\ud800", "{{7*7}}",
    "'; DROP TABLE runs; --", "%s%n", "NaN", "", " ", "-", "__class__", "@x", "`x`", "$float", "C:\\x", "/etc/passwd",
)  # fmt: skip


def jsonl(path, names):
    """Each name as a run, as a metric, as a setting and as a value."""
    lines = [
        {"run": name, "step": s, "loss": 3.0 - s / 10, "params": 1e6 + i, f"m{name}": s, f"c{name}": name}
        for i, name in enumerate(names)
        for s in range(4)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    names = [n for n in NAMES if n.strip() and len(n) < 100]
    return workbench.load(jsonl(tmp_path_factory.mktemp("hostile") / "log.jsonl", names), cache=False)


def harmless(html: str) -> None:
    assert "<script>alert" not in html and "<img src=x" not in html
    assert not any(mark in html for mark in ("\u202e", "\u2067", "\u202d", "\x1b", "\x00", "\r"))


def test_they_come_through_load_as_they_are(tmp_path):
    names = [n for n in NAMES if n.strip() and n != "\ud800"]
    runs = workbench.load(jsonl(tmp_path / "log.jsonl", names))
    assert runs.ids == names and (runs["loss"] == 2.7).all() and len(runs.curves) == len(names)
    again = workbench.load(runs.to_csv(tmp_path / "again.csv"))
    assert [n.replace("\r\n", "\n") for n in again.ids] == [n.replace("\r\n", "\n") for n in names]


def test_tables_and_reports_show_them_harmlessly(runs):
    for text in (repr(runs), runs._repr_html_(), runs.report().text(), runs.report()._repr_html_()):
        harmless(text)
    strict = json.dumps(runs.to_dict(), allow_nan=False)
    assert json.loads(strict)["n_runs"] == len(runs)


def test_figures_hold_them_as_data_only(runs):
    for chart in (scatter(runs, x="params"), run_curves(runs)):
        spec = chart.to_dict()
        json.dumps(spec, allow_nan=False)
        assert "alert(1)" not in json.dumps(spec.get("title", ""))
        drawn = render.svg(chart)
        assert "<script" not in drawn and "onerror" not in drawn


def test_pictures_of_runs_of_such_names(tmp_path):
    # control characters aside, which no picture can show
    names = [n for n in NAMES if n.strip() and len(n) < 100 and n not in ("a\x00b", "\x1b[2Jx", "\ud800")]
    runs = workbench.load(jsonl(tmp_path / "log.jsonl", names))
    for chart in (scatter(runs, x="params"), run_curves(runs)):
        assert render.png(chart).startswith(b"\x89PNG")


def test_conditions_over_odd_columns_run_nothing(runs):
    assert runs.where("`m@x` == 3").ids == ["@x"] and runs.where("`m{{7*7}}` == 3").ids == ["{{7*7}}"]
    with pytest.raises(ValueError, match="neither @ nor names with __"):
        runs.where("m__class__ == 3")


@pytest.mark.parametrize("name", [n for n in NAMES if n.strip() and "/" not in n and "\x00" not in n and len(n) < 200])
def test_file_names(tmp_path, name, capsys):
    from workbench.cli import main

    path = tmp_path / f"{name}.csv"
    try:
        path.write_text("N,loss\n1e6,2\n2e6,3\n")
    except (OSError, UnicodeEncodeError):
        pytest.skip("no such file name here")
    (tmp_path / "other.csv").write_text("N,loss\n1e6,2.5\n")
    runs = workbench.load(tmp_path)
    assert len(runs.good) == 3
    harmless(runs._repr_html_())
    harmless(runs.report()._repr_html_())
    assert main(["load", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert not any(mark in out for mark in ("\u202e", "\x1b", "\r", "\u2067"))
    assert main(["load", str(tmp_path), "--json"]) == 0
    json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, "other.csv"])


def test_folders_of_such_names(tmp_path):
    from workbench.runs.store import RunFolder

    for name in ("<script>alert(1)<", "#x", "a\nb", "\u202egnp", "run-'1'"):
        with RunFolder.create(tmp_path / "sweep", name, {"params": 1e6, "note": name}) as folder:
            folder.append({"step": 1, "loss": 2.0})
            folder.set_status("finished", heartbeat=0)
    runs = workbench.load(tmp_path)
    assert len(runs) == 5
    harmless(runs._repr_html_())
    harmless(runs.report()._repr_html_())


def test_nothing_is_written_outside(tmp_path):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    frame = pd.DataFrame({"run": ["../../x", "/etc/x"], "params": [1e6, 2e6], "loss": [3.0, 2.0]})
    frame.to_csv(inside / "t.csv", index=False)
    runs = workbench.load(inside / "t.csv")
    runs.to_csv(inside / "u.csv")
    render.save(scatter(runs, x="params"), inside / "figure.svg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"] and [p.name for p in (tmp_path / "a").iterdir()] == ["b"]
