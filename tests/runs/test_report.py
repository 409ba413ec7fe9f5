"""`runs.report()`: what each run came from, through every way of choosing runs."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

import workbench
from workbench.runs.logged import ordered


@pytest.fixture
def folder(tmp_path):
    """Two sound logs with things to skip and rename, a damaged one, and a foreign file."""
    (tmp_path / "table.csv").write_text("run,Model Size (M),tokens,loss\na,10,2e9,3.5\nb,20,4e9,3.25\nc,1,2,3,4\n")
    lines = [json.dumps({"n_params": 5e6, "tokens": 1e9 * s, "step": s, "loss": 4 - s / 10}) for s in range(1, 6)]
    (tmp_path / "curve.jsonl").write_text("\n".join([*lines[:2], "not json", *lines[2:], '{"step": 6, "lo']))
    (tmp_path / "torn.json").write_text('{"loss": [1, 2')
    (tmp_path / "README").write_text("some words\nabout it\n")
    return tmp_path


def test_each_log_has_its_path_format_version_and_counts(folder):
    runs = workbench.load(folder)
    frame = runs.report().frame.set_index("source")
    assert set(frame.index) == {str(folder / n) for n in ("table.csv", "curve.jsonl", "torn.json")}
    csv, lines, torn = (frame.loc[str(folder / n)] for n in ("table.csv", "curve.jsonl", "torn.json"))
    assert (csv["format"], csv["runs"], csv["read"], csv["skipped"]) == ("CSV", 2, 2, 1)
    assert (lines["format"], lines["runs"], lines["read"], lines["skipped"]) == ("JSON Lines", 1, 5, 2)
    assert "not JSON (1)" in lines["why"] and "cut off (1)" in lines["why"]
    assert torn["runs"] == 0 and "not one whole JSON document" in torn["problem"]
    assert csv["version"] >= 1
    assert [bad["path"] for bad in runs.report().unreadable] == [str(folder / "torn.json")]


def test_names_and_derived_columns_are_told(folder):
    runs = workbench.load(folder)
    report = runs.report()
    names = {(row.header, row.column, row.factor) for row in report.names.itertuples()}
    assert ("Model Size (M)", "params", 1e6) in names and ("n_params", "params", 1.0) in names
    assert set(report.derived) == {"flops", "tokens_per_param"}
    assert set(report.origins["a"].derived) == {"flops", "tokens_per_param"} and not report.origins["torn"].derived
    text = report.text()
    assert "header 'Model Size (M)' -> params x 1e+06" in text and "flops: derived" in text and "README" in text
    assert not {"format", "source", "version", "skipped"} & set(runs.frame.columns)
    more = runs.derive(ratio="tokens / params")
    assert "ratio" in more.report().derived


def test_a_value_logged_in_some_runs_and_derived_in_others_is_told_apart():
    frame = pd.DataFrame({"params": [1e6, 2e6], "tokens": [1e9, 2e9], "flops": [7e15, np.nan], "loss": [3.0, 2.0]})
    origins = workbench.load(frame).report().origins
    assert "flops" not in origins["run:0"].derived and "flops" in origins["run:1"].derived


@pytest.mark.parametrize(
    "choose",
    [
        lambda runs: runs.where("params > 1e6"),
        lambda runs: runs.good,
        lambda runs: runs.drop(["torn"]),
        lambda runs: ordered(runs, "loss", descending=True),
        lambda runs: runs.pick("best"),
        lambda runs: runs.derive(x="loss + 1"),
        lambda runs: workbench.load([runs.where("run == 'a'"), runs.where("run != 'a'")]),
        lambda runs: workbench.load([runs, runs.where("run == 'a'")]),  # a second a becomes a#2
    ],
    ids=["where", "good", "drop", "sorted", "pick", "derive", "list", "twice"],
)
def test_it_survives_choosing_sorting_picking_and_joining(folder, choose):
    runs = workbench.load(folder)
    whole = runs.report().origins
    chosen = choose(runs)
    origins = chosen.report().origins
    assert list(origins) == chosen.ids and len(origins) >= 3
    for run, origin in origins.items():
        before = whole[run.partition("#")[0]]
        assert (origin.path, origin.format, origin.read) == (before.path, before.format, before.read)


def test_every_checkpoint_of_a_run_has_the_runs_log(folder):
    points = workbench.load(folder).pick("all")
    origins = points.report().origins
    assert {origins[r].path for r in points.ids if r.startswith("curve @")} == {str(folder / "curve.jsonl")}


def test_a_followed_log_is_reported_too(folder):
    follower = workbench.load(folder / "curve.jsonl").follow()
    frame = follower.poll().report().frame
    assert frame["format"].tolist() == ["JSON Lines"] and frame["version"].iloc[0] >= 1


def test_frames_and_empty_tables():
    report = workbench.load(pd.DataFrame({"N": [1e6], "loss": [2.0]})).report()
    assert report.frame["format"].tolist() == ["DataFrame"] and "a frame" in str(report)
    empty = workbench.load(pd.DataFrame())
    assert "0 runs from 0 logs" in str(empty.report()) and empty.report()._repr_html_()


def test_html_and_text_escape_and_clean_what_logs_say(tmp_path):
    odd = tmp_path / "<img src=x onerror=alert(1)>\u202e.csv"
    odd.write_text('run,"<script>N</script>",params\n"<b>",1,2\n')
    runs = workbench.load(odd, columns={"tokens": "<script>N</script>"})
    html, text = runs.report()._repr_html_(), str(runs.report())
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert "\u202e" not in html + text and "\x1b" not in text


def test_the_command_prints_table_report_and_notes(folder, capsys):
    from workbench.cli import main

    assert main(["load", str(folder)]) == 0
    out = capsys.readouterr().out
    assert "4 runs" in out and "JSON Lines" in out and "not read:" in out and "note: " in out
    assert main(["load", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said["n_runs"] == len(said["runs"]) == 3
    (bad,) = said["unreadable"]
    assert bad["path"] == str(folder / "torn.json") and "JSON" in bad["reason"]
    curve = next(run for run in said["runs"] if run["id"] == "curve")
    assert (curve["format"], curve["points"], curve["loss"]) == ("JSON Lines", 5, 3.5)
    assert curve["skipped"] == {"not JSON": 1, "cut off": 1} and curve["params"] == 5e6


def test_the_command_prints_no_control_characters_of_a_log(tmp_path, capsys):
    from workbench.cli import main

    (tmp_path / "t.csv").write_bytes(b'run,"lo\x1b[31mud",loss\n"a\x1b[2J",1,2\n"b\r\nwinner",3,4\n')
    assert main(["load", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and "\r" not in out and "ud" in out
