"""Bad input gets one sentence on standard error, nothing on standard output, and exit status 2."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import runs_frame, sentence, strict
from workbench.cli import main

FIT, COMPARE = ("fit", "{}", "--law", "chinchilla"), ("compare", "{}", "--laws", "chinchilla,power")
LOAD = ("load", "{}")
HEAD = "params,tokens,loss\n"


def _rows(loss) -> str:
    return HEAD + "".join(f"{n}e8,{n}e9,{loss}\n" for n in range(1, 9))


FILES = {
    "empty.csv": "",
    "blank.csv": "\n\n  \n",
    "header.csv": HEAD,
    "one.csv": HEAD + "1e8,2e9,3\n",
    "twins.csv": HEAD + "1e8,2e9,3\n1e8,2e9,3\n",
    "nan.csv": _rows("nan"),
    "negative.csv": _rows("-2.5"),
    "words.csv": _rows("low"),
    "torn.jsonl": '{"params": 1e8, "tokens": 2e9, "loss": 3.1}\n{"params": 2e8, "tok',
    "halfway.json": '[{"params": 1e8, "tokens": 2e9, "loss": 3.1}, {"params": 2e',
    "rivals.csv": "n_params,num_params,tokens,loss\n1,2,3,4\n5,7,6,5\n",
}


def _put(folder: Path, name: str) -> Path:
    path = folder / name
    if name == "junk.bin":
        path.write_bytes(bytes(range(256)) * 4)
    elif name == "nothing":
        path.mkdir()
        (path / "notes.xyz").write_bytes(b"\x00\x01 not a log")
    elif name == "void":
        path.mkdir()
    elif name in FILES:
        path.write_text(FILES[name])
    return path


@pytest.mark.parametrize("command", [LOAD, FIT, COMPARE], ids=["load", "fit", "compare"])
@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("empty.csv", "empty"),
        ("blank.csv", "cannot read"),
        ("junk.bin", "no reader knows"),
        ("halfway.json", "cannot read"),
        ("rivals.csv", "both look like params"),
        ("nothing", "no run logs in"),
        ("void", "no run logs in"),
        ("missing.csv", "no file or folder"),
        ("no*.csv", "no file matches"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, run, command, name, fragment):
    path = _put(tmp_path, name)
    assert fragment in sentence(*run(*(path if a == "{}" else a for a in command)))


@pytest.mark.parametrize("command", [FIT, COMPARE], ids=["fit", "compare"])
@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("header.csv", "runs"),
        ("one.csv", "only 1 run"),
        ("twins.csv", "only 2 runs"),
        ("nan.csv", "no run is left"),
        ("negative.csv", "no run is left"),
        ("words.csv", "no run is left"),
        ("torn.jsonl", "only 1 run"),
    ],
)
def test_what_cannot_be_fitted_is_one_sentence(tmp_path: Path, run, command, name, fragment):
    path = _put(tmp_path, name)
    said = sentence(*run(*(path if a == "{}" else a for a in command), "--json"), progress=("Comparing laws",))
    assert fragment in said


@pytest.mark.parametrize(
    "name", ["header.csv", "one.csv", "twins.csv", "nan.csv", "negative.csv", "words.csv", "torn.jsonl"]
)
def test_poor_files_still_load_and_say_what_is_wrong(tmp_path: Path, run, name):
    status, out, _ = run("load", _put(tmp_path, name), "--json")
    loaded = strict(out)
    assert status == 0 and loaded["n_runs"] == {"header.csv": 0, "one.csv": 1, "twins.csv": 2, "torn.jsonl": 1}.get(
        name, 8
    )
    if name in ("header.csv", "torn.jsonl"):
        assert any({"header.csv": "no rows", "torn.jsonl": "line 2"}[name] in m for m in loaded["messages"])
    elif loaded["n_runs"] == 8:
        assert all("loss is" in row["problem"] for row in loaded["runs"])
    status, out, err = run("load", _put(tmp_path, name) if not (tmp_path / name).exists() else tmp_path / name)
    assert status == 0 and "Traceback" not in out + err


def test_a_half_written_log_is_fitted_as_far_as_it_goes_and_says_so(tmp_path: Path, run):
    lines = [json.dumps(row) for row in runs_frame().to_dict(orient="records")]
    path = tmp_path / "live.jsonl"
    path.write_text("\n".join(lines)[:-12])
    status, out, err = run("fit", path, "--law", "chinchilla", "--bootstrap", 20, "--json")
    assert status == 0 and strict(out)["n_runs"] == len(lines) - 1
    assert "note: " in err and "line 40" in err


@pytest.mark.parametrize("arguments", [("load",), ("fit", "--law", "power"), ("compare", "--laws", "power")])
def test_a_file_without_permission(good: Path, run, arguments):
    good.chmod(0)
    try:
        if os.access(good, os.R_OK):
            pytest.skip("this user may read any file")
        said = sentence(*run(arguments[0], good, *arguments[1:]))
        assert "permission" in said.lower() and "good.csv" in said
    finally:
        good.chmod(0o644)


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ("fit {} --law chinchila", "did you mean 'chinchilla'"),
        ("fit {} --law ''", "no law is called"),
        ("fit {}", "--law"),
        ("fit {} --law chinchilla --objective log-hubr", "did you mean 'log-huber'"),
        ("fit {} --law chinchilla --y lss", "did you mean 'loss'"),
        ("fit {} --law chinchilla --x flops", "laws of one input"),
        ("fit {} --law power --x flop", "did you mean 'flops'"),
        ("fit {} --law chinchilla --fix E", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix E=", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix =1", "--fix takes NAME=VALUE"),
        ("fit {} --law chinchilla --fix E=low", "give a number"),
        ("fit {} --law chinchilla --fix E=nan", "E is fixed at"),
        ("fit {} --law chinchilla --fix E=-1", "between 0"),
        ("fit {} --law chinchilla --fix F=1", "no parameter 'F'"),
        ("fit {} --law chinchilla --tie beta", "--tie takes NAME=VALUE"),
        ("fit {} --law chinchilla --tie beta=gamma", "no parameter 'gamma'"),
        ("fit {} --law chinchilla --columns params", "--columns takes NAME=VALUE"),
        ("fit {} --law chinchilla --columns params=Nope", "not in the log"),
        ("fit {} --law chinchilla --weights importance", "no column 'importance'"),
        ("fit {} --law chinchilla --cluster family", "no column 'family'"),
        ("fit {} --law chinchilla --method guess", "profile"),
        ("fit {} --law chinchilla --bootstrap 0", "at least 1"),
        ("fit {} --law chinchilla --bootstrap -5", "at least 1"),
        ("fit {} --law chinchilla --bootstrap many", "at least 1"),
        ("fit {} --law chinchilla --bootstrap 2.5", "at least 1"),
        ("fit {} --law chinchilla --method profile --bootstrap 0", "at least 1"),
        ("fit {} --law chinchilla --delta nan", "positive number"),
        ("fit {} --law chinchilla --delta 0", "positive number"),
        ("fit {} --law chinchilla --delta inf", "positive number"),
        ("fit {} --law chinchilla --delta small", "positive number"),
        ("fit {} --law chinchilla --seed -1", "whole number"),
        ("fit {} --law chinchilla --seed x", "whole number"),
        ("fit {} --law chinchilla --flops -1", "positive number"),
        ("fit {} --law chinchilla --flops lots", "positive number"),
        ("fit {} --law power --flops 1e22 --bootstrap 20", "trade-off"),
        ("fit {} --law chinchilla --where 'loss > 99'", "selects none"),
        ("fit {} --law chinchilla --where 'lss > 2'", "did you mean 'loss'"),
        ("fit {} --law chinchilla --where 'loss >'", "cannot evaluate"),
        ("fit {} --law chinchilla --where ''", "cannot evaluate"),
        ("fit {} --law chinchilla --where loss", "true or false"),
        ("fit {} --law chinchilla --where '@x > 2'", "neither @"),
        ("fit {} --law chinchilla --where '__import__(\"os\").getcwd() > 2'", "neither @"),
        ("fit {} --law chinchilla --where 'loss.__class__'", "neither @"),
        ("fit {} --law chinchilla --where 'open(\"x\")'", "cannot evaluate"),
        ("fit {} --law chinchilla --where 'loss = 2'", "== compares"),
        ("fit {} --law chinchilla --where 'loss > 2\n and params > 1'", "cannot evaluate"),
        ("fit {} --law chinchilla --nonsense", "--nonsense"),
        ("compare {} --laws chinchila,power", "did you mean 'chinchilla'"),
        ("compare {} --laws ,", "no laws"),
        ("compare {} --laws power,power", "named twice"),
        ("compare {}", "--laws"),
        ("compare {} --laws power --objective cubic", "choose one of"),
        ("compare {} --laws power --delta nan", "positive number"),
        ("compare {} --laws power --bootstrap 0", "at least 1"),
        ("compare {} --laws power --y accuracy", "no numeric column 'accuracy'"),
        ("compare {} --laws power --where 'loss > 99'", "selects none"),
        ("compare {} --laws power --holdout 'flops > 1e99'", "holds out none"),
        ("compare {} --laws power --holdout 'flops > 0'", "holds out all"),
        ("compare {} --laws power --holdout 'nonsense > 3'", "no column 'nonsense'"),
        ("compare {} --laws power --holdout 'flops >'", "cannot evaluate"),
        ("compare {} --laws power --holdout ''", "cannot evaluate"),
        ("compare {} --laws power --holdout '@x'", "neither @"),
        ("compare {} --laws power --holdout '__import__(\"os\")'", "neither @"),
        ("compare {} --laws power --holdout 1.5", "share such as 0.2"),
        ("compare {} --laws power --holdout nan", "share such as 0.2"),
        ("compare {} --laws power --columns loss", "--columns takes NAME=VALUE"),
        ("load {} --columns =x", "--columns takes NAME=VALUE"),
        ("load {} --columns params=Nope", "not in the log"),
        ("load", "path"),
        ("load {} extra", "extra"),
        ("lod {}", "load"),
        ("laws --jsn", "--jsn"),
        ("laws extra", "extra"),
        ("demo --seed x", "whole number"),
        ("demo --seed -1", "whole number"),
        ("notebooks paint", "refresh"),
        ("notebooks refresh nope", "no notebook 'nope'"),
        ("notebooks verify nope", "no notebook 'nope'"),
        ("notebooks copy", "name one folder"),
        ("notebooks copy {}", "is a file"),
    ],
)
def test_bad_options_are_one_sentence(good: Path, run, monkeypatch, tmp_path, arguments, fragment):
    monkeypatch.chdir(tmp_path)
    argv = [str(good) if a == "{}" else a for a in shlex.split(arguments)]
    before = sorted(tmp_path.iterdir())
    said = sentence(*run(*argv), progress=("Comparing laws", "Bootstrap"))
    assert fragment in said
    assert sorted(tmp_path.iterdir()) == before, "bad input leaves nothing behind"


def test_a_report_that_cannot_be_written_is_said_before_the_work(tmp_path: Path, run, monkeypatch):
    def too_early(*_, **__):
        raise AssertionError("the fits began before the path of the report was looked at")

    monkeypatch.setattr("workbench.demo.compare", too_early)
    assert "folder" in sentence(*run("demo", "--out", tmp_path))
    (tmp_path / "file").write_text("x")
    assert "file" in sentence(*run("demo", "--out", tmp_path / "file" / "report.html"))
    assert (tmp_path / "file").read_text() == "x"


def test_a_bug_is_not_dressed_up_as_bad_input(good: Path, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("a mistake of ours")

    monkeypatch.setattr("workbench.fit", broken, raising=False)
    with pytest.raises(ZeroDivisionError):
        main(["fit", str(good), "--law", "power"])


def test_a_key_error_prints_its_sentence_and_not_its_repr(run, monkeypatch):
    def lookup(*_, **__):
        raise KeyError("no column 'lr'; the columns are loss\nand params")

    monkeypatch.setattr("workbench.load", lookup, raising=False)
    assert sentence(*run("load", "x.csv")) == "no column 'lr'; the columns are loss and params"
