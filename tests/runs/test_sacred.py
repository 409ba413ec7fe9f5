"""Sacred: folders that its FileStorageObserver wrote, compared with what was logged."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.sacred import Sacred
from workbench.runs.torn_json import loads_torn
from workbench.testing.readers import HOSTILE, ReaderContract

_spec = importlib.util.find_spec("sacred")
if _spec is not None and importlib.util.find_spec("pkg_resources") is None:
    # Sacred 0.8 asks setuptools for the versions of packages, by a module that setuptools 81 no longer has
    _stand_in = types.ModuleType("pkg_resources")
    _stand_in.resource_filename = lambda package, name: str(Path(_spec.origin).parent / name)
    _stand_in.working_set = type("WorkingSet", (), {"by_key": {}, "__iter__": lambda self: iter(())})()
    sys.modules["pkg_resources"] = _stand_in
sacred = pytest.importorskip("sacred", reason="sacred is not installed")
from sacred.observers import FileStorageObserver  # noqa: E402

pytestmark = pytest.mark.libraries


def write(folder, name="lm", config=None, main=None, **observer):
    """One run of an experiment in `folder`, as a program would make it."""
    experiment = sacred.Experiment(name, save_git_info=False, interactive=True)
    experiment.logger = None
    experiment.observers.append(FileStorageObserver(folder, copy_sources=False, **observer))
    experiment.add_config(config or {"lr": 0.1})
    experiment.main(main or (lambda _run: None))
    experiment.run(options={"--loglevel": "CRITICAL"})
    return folder


def train(_run):
    for i in range(30):
        _run.log_scalar("train.loss", 3 - i / 10, i)
        _run.log_scalar("np", np.float32(0.1 * i), i)
        if i % 7 == 0:
            _run.log_scalar("val.loss", 3.5 - i / 10, i)
    _run.log_scalar("grad", float("nan"), 3)
    _run.info["best"] = {"step": 3, "value": np.float64(2.25), "list": [1, 2]}
    print("words on the terminal")
    return np.float64(1.5)


class TestContract(ReaderContract):
    reader = Sacred
    names = tuple(name for name in HOSTILE if "\x00" not in name)
    mutations = 150

    def files(self, path):
        return sorted(p for p in (path / "1").iterdir() if p.name != "cout.txt")

    def write(self, path, frame):
        for record in frame.to_dict("records"):

            def main(_run, record=record):
                _run.log_scalar("loss", 9.0, 1)
                _run.log_scalar("loss", record["loss"], 2)
                _run.info["tokens"] = record["tokens"]

            write(path, config={"params": record["params"], "run": record["run"]}, main=main)

    def test_values_are_read_exactly(self, tmp_path):
        """Sacred's runs are called by their numbers; the names of the contract are a setting here."""
        table = workbench.load(self.make(tmp_path))
        assert table.ids == ["lm:1", "lm:2", "lm:3"] and list(table["problem"]) == [""] * 3
        from workbench.testing.readers import sample

        for name in ("params", "tokens", "loss"):
            assert table[name].tolist() == sample()[name].tolist()
        assert list(table["config.run"]) == ["a", "b", "c"]

    def check_no_invention(self, table, where):
        from workbench.testing.readers import sample

        truth = sample().assign(run=["lm:1", "lm:2", "lm:3"]).set_index("run")
        for run, *_ in table.good.frame.itertuples(index=False):
            row = table.good.frame.set_index("run").loc[run]
            assert run in truth.index, f"{where}: invented the run {run!r}"
            for column in {"params", "tokens", "loss"} & set(table.good.frame.columns):
                assert row[column] == truth[column][run], f"{where}: {column}"

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        """At every byte by the reader alone, which is fast, and now and then by `load`."""
        path = self.make(tmp_path)
        for file in self.files(path):
            whole = file.read_bytes()
            for cut in range(len(whole)):
                file.write_bytes(whole[:cut])
                if cut % 50 == 0:
                    self.check_no_invention(workbench.load(path), f"{file.name} cut at byte {cut}")
                assert Sacred().sniff(path / "1", b""), f"{file.name} cut at byte {cut} is not recognised any more"
                with contextlib.suppress(LoadError):
                    log = Sacred().read(path / "1")
                    assert len(whole.rstrip()) <= cut or log.problems, f"{file.name} cut at byte {cut}"
                    values = log.curves[0]["loss"].tolist() if 0 in log.curves else []
                    assert values == [9.0, 3.141592653589793][: len(values)]
                    assert log.frame.get("params", [None])[0] in (None, 44_000_001.0)
            file.write_bytes(whole)

    def test_hostile_names_pass_through(self, tmp_path):
        for i, name in enumerate(self.names):
            write(tmp_path, name=name, config={"params": i + 1.0, "note": name})
        table = workbench.load(tmp_path)
        for params, note, run in zip(table["params"], table["note"], table["run"], strict=True):
            assert note == self.names[int(params) - 1] and run.startswith(note)
        html = table._repr_html_()
        assert "<script" not in html and "\u202e" not in html


def test_a_run_with_everything(tmp_path):
    config = {"lr": 0.5, "model": {"depth": 4, "shape": [1, 2], "scale": np.float64(3.5)}, "opt": None}
    write(tmp_path, config=config, main=train)
    assert isinstance(find(tmp_path / "1"), Sacred)
    runs = workbench.load(tmp_path)
    assert runs.ids == ["lm:1"] and list(runs["problem"]) == [""]
    row = runs.frame.iloc[0]
    assert row["lr"] == 0.5 and row["depth"] == 4 and row["model.shape"] == "[1, 2]" and row["model.scale"] == 3.5
    assert row["loss"] == 3.5 - 2.8 and row["train.loss"] == 3 - 2.9 and row["result"] == 1.5 and row["steps"] == 29
    assert row["best.value"] == 2.25 and row["status"] == "COMPLETED" and row["seconds"] >= 0
    curve = runs.curves["lm:1"].set_index("step")
    assert curve["train.loss"].tolist() == [3 - i / 10 for i in range(30)]
    assert curve["loss"].dropna().to_dict() == {i: 3.5 - i / 10 for i in range(0, 30, 7)}
    assert curve["np"].tolist() == [np.float32(0.1 * i).item() for i in range(30)]
    log = Sacred().read(tmp_path / "1")
    assert log.read == 66 and np.isnan(log.frame["grad"][0])


def test_runs_that_failed_or_were_interrupted_are_marked(tmp_path):
    def fail(_run):
        _run.log_scalar("loss", 2.5, 7)
        raise ZeroDivisionError("no gradient")

    def interrupt(_run):
        raise KeyboardInterrupt

    for main in (fail, interrupt):
        with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
            write(tmp_path, main=main)
    write(tmp_path, main=train)
    runs = workbench.load(tmp_path)
    failed, interrupted, sound = runs["problem"]
    assert "'FAILED'" in failed and "ZeroDivisionError: no gradient" in failed and runs["loss"][0] == 2.5
    assert "'INTERRUPTED'" in interrupted and sound == ""


def test_other_folders_are_left_alone(tmp_path):
    for name in ("run.json", "config.json", "cout.txt"):
        (tmp_path / name).write_text('{"loss": 2.5}')
    assert not Sacred().sniff(tmp_path, b"")
    (tmp_path / "cout.txt").unlink()
    assert not Sacred().sniff(tmp_path, b"")


@pytest.mark.parametrize("indent", [None, 1])
def test_a_torn_document_gives_its_beginning(indent):
    whole = {"a": [1, 2.5, {"b": 'x"y\\'}, []], "c": {"d": None, "e": -1e-7}, "f": "end"}
    text = json.dumps(whole, indent=indent)

    def part_of(found, expected):
        if isinstance(found, dict):
            assert list(found) == list(expected)[: len(found)]
            return all(part_of(value, expected[key]) for key, value in found.items())
        if isinstance(found, list):
            return len(found) <= len(expected) and all(map(part_of, found, expected))
        return found == expected and type(found) is type(expected)

    sizes = []
    for cut in range(1, len(text)):
        found, complete = loads_torn(text[:cut])
        assert not complete and part_of(found, whole)
        sizes.append(len(json.dumps(found)))
    assert sizes == sorted(sizes) and loads_torn(text) == (whole, True)
    for place in range(len(text)):
        with contextlib.suppress(ValueError):
            found, complete = loads_torn(text[:place] + "#" + text[place + 1 :])
            assert complete or part_of(found, whole)
    with pytest.raises(ValueError):
        loads_torn("12.")
    with pytest.raises(ValueError):
        loads_torn("[" * 5000)


def test_sources_and_resources_beside_the_runs_are_no_runs(tmp_path):
    notes = tmp_path / "notes.py"
    notes.write_text("step 1 loss 3.5\nstep 2 loss 3.25\nstep 3 loss 3.0\n")
    experiment = sacred.Experiment("lm", save_git_info=False, interactive=True)
    experiment.logger = None
    experiment.observers.append(FileStorageObserver(tmp_path / "runs", copy_sources=True))
    experiment.add_source_file(str(notes))
    experiment.main(train)
    experiment.run(options={"--loglevel": "CRITICAL"})
    assert list((tmp_path / "runs" / "_sources").rglob("notes*")), "Sacred keeps a copy"
    table = workbench.load(tmp_path / "runs")
    assert list(table["run"]) == ["lm:1"] and not any("_sources" in message for message in table.messages)
