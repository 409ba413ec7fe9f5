"""Weights & Biases: runs written by wandb itself, offline."""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import workbench
from tests.runs.sparse_contract import Sparse
from workbench.runs.readers.base import LoadError
from workbench.runs.readers.wandb_offline import Wandb, WandbLog
from workbench.runs.run_row import run_row
from workbench.runs.wandb_file import read_wandb_file
from workbench.runs.wire import fields, varint, zigzag

pytestmark = pytest.mark.libraries


@pytest.fixture(scope="module")
def wandb():
    """The library, offline, silent, and without a look at the machine."""
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_ERROR_REPORTING="false")
    return pytest.importorskip("wandb", reason="wandb is not installed")


@contextmanager
def run_of(wandb, folder, exit_code=0, **options):
    """A run in ``folder/wandb``, and at the end all of it on disk."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = wandb.Settings(
        console="off", silent=True, disable_code=True, disable_git=True, x_disable_stats=True, x_disable_meta=True
    )
    run = wandb.init(mode="offline", dir=str(folder), project="sweep", settings=settings, **options)
    home = Path(run.dir).parent
    yield run
    run.finish(exit_code=exit_code)
    # wandb's own process may still be writing when finish() returns
    for _ in range(600):
        if "all finished" in (home / "logs" / "debug-internal.log").read_text():
            return
        time.sleep(0.05)
    raise TimeoutError(f"wandb does not say that it wrote {home}")


def log_of(folder) -> Path:
    (path,) = folder.glob("wandb/*run-*/run-*.wandb")
    return path


def write_small_log(wandb, folder) -> Path:
    """The folder ``wandb`` of two small finished runs."""
    for i, width in enumerate((32, 64)):
        config = {"model": {"width": width, "n_params": width**2 * 12}, "learning_rate": 1e-3}
        with run_of(wandb, folder, id=f"small{i}", name=f"width {width}", config=config) as run:
            for step in range(20):
                run.log(
                    {"train/loss": 4 - step * width / 1000, "tokens": 1000 * (step + 1), "lr": 1e-3 * (1 - step / 20)}
                )
            run.log({"val/loss": 4 - width / 50})
    return folder / "wandb"


@pytest.fixture(scope="module")
def written(wandb, tmp_path_factory):
    """A folder with one long run of everything wandb can log."""
    folder = tmp_path_factory.mktemp("everything")
    config = {
        "model": {"n_layer": 4, "inner": {"heads": 8}},
        "lr": 1e-3,
        "betas": [0.9, 0.95],
        "none": None,
    }
    rng = np.random.default_rng(0)
    losses = 3 - np.arange(400) / 300 + rng.normal(size=400)
    about = {"tags": ["x", "y"], "group": "g", "notes": "by hand"}
    with run_of(wandb, folder, id="abc123", name="a <b>run</b>/x", config=config, **about) as run:
        for step, loss in enumerate(losses):
            # the fresh text makes records longer than a block of the log
            text = {"sample": "é\x82\x01" + "x" * 100_000} if step in (100, 200) else {}
            run.log({"loss": loss, "deep": {"er": {"value": step / 7}}, **text})
        run.log({"bad": math.nan, "large": -math.inf, "picture": wandb.Histogram([1, 2, 3]), "truth": True})
        run.log({"later": 1.5}, step=1000)
        run.config.update({"late": 5})
        run.summary["best"] = 1.25
    return folder, losses


def test_every_value_and_step_that_was_logged(written):
    folder, losses = written
    file = read_wandb_file(log_of(folder).read_bytes())
    assert (file.bad, file.tail, file.exit_code, file.rows) == (0, 0, 0, 402)
    assert file.about["id"] == "abc123" and file.about["tags"] == ["x", "y"]
    np.testing.assert_array_equal(file.series[("loss",)].value, losses)
    np.testing.assert_array_equal(file.series[("loss",)].row, np.arange(400))
    np.testing.assert_array_equal(file.series[("deep", "er", "value")].value, np.arange(400) / 7)
    np.testing.assert_array_equal(file.step, [*range(401), 1000])
    assert math.isnan(file.series[("bad",)].value[0]) and file.series[("large",)].value[0] == -math.inf
    assert file.series[("truth",)].value[0] == 1 and not any(path[0] == "picture" for path in file.series)
    assert file.config["model"] == {"n_layer": 4, "inner": {"heads": 8}} and file.config["late"] == 5


def test_messages_as_the_protobuf_library_decodes_them(written):
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    from workbench.runs import wandb_file

    data = log_of(written[0]).read_bytes()
    theirs: dict[str, list[str]] = {}
    longest = 0
    for raw in wandb_file._records(data, wandb_file.WandbFile()):
        record = pb.Record.FromString(raw)
        longest = max(longest, len(raw))
        for item in record.history.item:
            theirs.setdefault(".".join(item.nested_key) or item.key, []).append(item.value_json)
    assert longest > 3 * 32768  # more than one block: first, middle and last pieces
    ours = {".".join(path): s.value for path, s in read_wandb_file(data).series.items()}
    for key, values in ours.items():
        np.testing.assert_array_equal(values, [float({"true": "1"}.get(v, v)) for v in theirs[key]], err_msg=key)
    assert set(theirs) - set(ours) == {"sample", "picture._type", "picture.values", "picture.bins"}


def test_the_table_has_settings_and_final_values(written):
    runs = workbench.load(written[0])
    assert runs.ids == ["a <b>run</b>/x"] and list(runs["problem"]) == [""]
    row = runs.frame.iloc[0]
    assert row["run_id"] == "abc123" and row["group"] == "g" and row["tags"] == "x, y" and row["state"] == "finished"
    assert row["depth"] == 4 and row["model.inner.heads"] == 8 and row["lr"] == 1e-3 and row["late"] == 5
    assert row["loss"] == written[1][-1] and row["best"] == 1.25 and row["deep.er.value"] == 399 / 7
    assert row["steps"] == 1000 and row["large"] == -math.inf
    curve = runs.curves[runs.ids[0]]
    np.testing.assert_array_equal(curve["loss"].dropna(), written[1])
    assert curve["step"].iloc[-1] == 1000 and curve["later"].iloc[-1] == 1.5
    assert workbench.load(log_of(written[0]))["loss"][0] == row["loss"]  # the log by itself


def test_the_state_of_a_run(wandb, tmp_path):
    with run_of(wandb, tmp_path, exit_code=3, id="failed") as run:
        run.log({"loss": 2.0})
    with run_of(wandb, tmp_path, id="sound") as run:
        run.log({"loss": 1.5})
    whole = next(tmp_path.glob("wandb/*-sound/*.wandb"))
    killed = tmp_path / "wandb" / "offline-run-20300101_000000-killed"
    killed.mkdir()
    (killed / "run-killed.wandb").write_bytes(whole.read_bytes()[:-30])
    (tmp_path / "wandb" / "offline-run-20300101_000001-nothing").mkdir()
    (tmp_path / "wandb" / "offline-run-20300101_000001-nothing" / "run-nothing.wandb").write_bytes(b"")
    runs = workbench.load(tmp_path)
    problem = dict(zip(runs["run_id"].fillna("nothing"), runs["problem"], strict=True))
    assert problem["failed"] == "it ended with exit code 3"
    assert list(runs["problem"]).count("") == 1 and "sound" in runs.good.ids
    assert any("no exit record" in said for said in runs["problem"]) and "empty" in problem["nothing"]
    assert len(runs) == 4  # wandb's own logs and the link latest-run are no runs
    killed_row = runs.where("state == 'running'")
    assert killed_row["loss"][0] == 1.5 and any("not whole" in message for message in runs.messages)


@pytest.mark.parametrize("declared", [True, False])
def test_steps_that_the_program_logs_itself(wandb, tmp_path, declared):
    """Hugging Face and Lightning declare their step; nanoGPT logs ``iter`` as a metric like any other."""
    name = "train/global_step" if declared else "iter"
    with run_of(wandb, tmp_path, config={"learning_rate": 6e-4}) as run:
        if declared:
            run.define_metric(name)
            run.define_metric("*", step_metric=name, step_sync=True)
        for i in range(5):
            run.log({name: 250 * i, "val/loss": 4 - i / 4, "lr": 6e-4 / (i + 1)})
    runs = workbench.load(tmp_path)
    curve = runs.curves[runs.ids[0]]
    assert curve["step"].tolist() == [0, 250, 500, 750, 1000] and curve["_step"].tolist() == [0, 1, 2, 3, 4]
    assert curve["loss"].tolist() == [4, 3.75, 3.5, 3.25, 3] and runs["steps"][0] == 1000
    assert runs["lr"][0] == 6e-4 and curve["lr"].iloc[-1] == 6e-4 / 5  # the setting, not the last of the schedule
    assert any(repr(name) in message for message in runs.messages)


def test_steps_logged_only_now_and_then_are_not_the_axis(wandb, tmp_path):
    with run_of(wandb, tmp_path) as run:
        for i in range(4):
            run.log({"loss": 4.0 - i} | ({"global_step": 100 * i} if i % 2 else {}))
    runs = workbench.load(tmp_path)
    assert runs.curves[runs.ids[0]]["step"].tolist() == [0, 1, 2, 3]


def small(wandb, tmp_path_factory, kept={}):  # noqa: B006  one log for both tests
    if not kept:
        folder = tmp_path_factory.mktemp("small")
        with run_of(wandb, folder, id="s", config={"width": 3}) as run:
            for i in range(12):
                run.log({"loss": 1 / (i + 3), "acc": i / 7})
        kept["data"] = log_of(folder).read_bytes()
    return kept["data"]


def test_cut_off_anywhere_it_keeps_the_whole_records_and_invents_nothing(wandb, tmp_path_factory):
    data = small(wandb, tmp_path_factory)
    whole = read_wandb_file(data)
    ends = []
    for size in range(7, len(data) + 1):
        read = read_wandb_file(data[:size])
        ends.append(read.records)
        for path, s in read.series.items():
            np.testing.assert_array_equal(s.value, whole.series[path].value[: len(s.value)])
        assert read.bad == 0 and (read.exit_code is None or read.records == whole.records)
    assert ends[-1] == whole.records and set(ends) == set(
        range(whole.records + 1)
    )  # each record as soon as it is whole


def test_damage_costs_its_own_records_only_and_is_told(wandb, tmp_path_factory):
    data = small(wandb, tmp_path_factory)
    written = {(path, v) for path, s in read_wandb_file(data).series.items() for v in s.value}
    records = read_wandb_file(data).records
    rng = random.Random(1)
    for _ in range(1000):
        damaged = bytearray(data)
        damaged[rng.randrange(7, len(data))] ^= 1 << rng.randrange(8)
        read = read_wandb_file(bytes(damaged))
        assert {(path, v) for path, s in read.series.items() for v in s.value} <= written, "a value never written"
        assert read.records >= records - 1 or read.tail, "more than one record is lost, and nobody is told"
        assert read.bad or read.tail
    for _ in range(1000):
        damaged = bytearray(data)
        for _ in range(rng.randint(1, 5)):
            at = rng.randrange(7, len(damaged))
            damaged[at : at + rng.randint(0, 4)] = rng.randbytes(rng.randint(0, 4))
        read = read_wandb_file(bytes(damaged))
        assert {(path, v) for path, s in read.series.items() for v in s.value} <= written


def test_after_a_damaged_block_the_next_ones_are_read(written):
    data = bytearray(log_of(written[0]).read_bytes())
    data[1000:5000] = random.Random(0).randbytes(4000)
    read = read_wandb_file(bytes(data))
    assert read.bad and set(read.series[("loss",)].value) < set(written[1])
    # what lies behind the first block of 32768 bytes, of which a step takes about 300
    assert len(read.series[("loss",)].value) > 400 - 32768 / 250


def test_noise_and_other_versions_are_refused(tmp_path):
    (tmp_path / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x01" + bytes(100))
    with pytest.raises(LoadError, match="version 1"):
        workbench.load(tmp_path / "run-x.wandb")
    (tmp_path / "run-x.wandb").write_bytes(b":W&B\xe1\xbe\x00" + np.random.default_rng(0).bytes(500))
    with pytest.raises(LoadError, match="no whole record"):
        workbench.load(tmp_path / "run-x.wandb")


def test_numbers_of_the_wire_format():
    # examples of protobuf.dev/programming-guides/encoding: 150, and a message of a text and a number
    assert varint(b"\x96\x01", 0, 2) == (150, 2)
    assert list(fields(b"\x12\x07testing\x08\x96\x01", 0, 12)) == [(2, 2, 2, 9), (1, 0, 10, 12)]
    assert [zigzag(n) for n in (0, 1, 2, 3, 0xFFFFFFFE, 0xFFFFFFFF)] == [0, -1, 1, -2, 0x7FFFFFFF, -0x80000000]
    for bad in (b"\x96", b"\x12\x07test", b"\xff" * 11, b"\x0b\x00"):
        with pytest.raises(ValueError):
            list(fields(bad, 0, len(bad)))


def test_values_of_typed_items(wandb):
    """Newer programs may write numbers without JSON (``HistoryItem`` 3 to 8)."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    if "integer" not in pb.HistoryItem.DESCRIPTOR.fields_by_name:
        pytest.skip("this wandb has no typed items")
    from workbench.runs import wandb_file

    items = [
        pb.HistoryItem(key="a", integer=-7), pb.HistoryItem(nested_key=["b", "c"], number=0.1),
        pb.HistoryItem(key="d", boolean=True), pb.HistoryItem(key="e", text="3"),
        pb.HistoryItem(key="f", json='{"x": 2}'),
    ]  # fmt: skip
    record = pb.Record(num=300, history=pb.HistoryRecord(item=items, step=pb.HistoryStep(num=2**40)))
    out, state = wandb_file.WandbFile(), wandb_file._State()
    wandb_file._take(record.SerializeToString(), out, state)
    wandb_file._finish(out, state)
    assert {p: s.value.tolist() for p, s in out.series.items()} == {
        ("a",): [-7], ("b", "c"): [0.1], ("d",): [1], ("f", "x"): [2],
    }  # fmt: skip
    assert out.step.tolist() == [2**40]


def test_objects_as_one_value(wandb):
    """Old programs wrote nested objects as one JSON value, and not all of it numbers."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    from workbench.runs import wandb_file

    text = '{"a": 1, "b": {"c": "NaN", "d": [1, 2]}, "e": null, "f": "text", "g": {"_type": "image-file", "width": 3}}'
    items = [pb.HistoryItem(key="x", value_json=text), pb.HistoryItem(key="x", value_json="[1, 2]")]
    items += [pb.HistoryItem(key="x", value_json="{not json"), pb.HistoryItem(value_json="5")]
    out, state = wandb_file.WandbFile(), wandb_file._State()
    for some in (items[:2], items[3:]):
        wandb_file._take(pb.Record(history=pb.HistoryRecord(item=some)).SerializeToString(), out, state)
    with pytest.raises(ValueError):  # which costs this record, and nothing of it stays
        broken = pb.HistoryRecord(item=[pb.HistoryItem(key="kept", value_json="7"), items[2]])
        wandb_file._take(pb.Record(history=broken).SerializeToString(), out, state)
    wandb_file._finish(out, state)
    read = {path: s.value.tolist() for path, s in out.series.items()}
    assert read.pop(("x", "a")) == [1] and math.isnan(read.pop(("x", "b", "c"))[0]) and not read
    assert out.rows == 2


class TestWandbOffline(Sparse):
    reader = Wandb
    made: dict = {}  # starting wandb takes a second, so a log is written once

    @pytest.fixture(autouse=True)
    def library(self, wandb, tmp_path_factory):
        self.wandb, self.folders = wandb, tmp_path_factory

    def files(self, path):
        return sorted(path.rglob("*.wandb"))[:1]  # one run of three is enough to damage

    def write(self, path, frame):
        key = tuple(frame["run"])
        if key not in self.made:
            folder = self.folders.mktemp("contract")
            for i, record in enumerate(frame.to_dict("records")):
                about = {"id": f"{i:03d}", "name": record["run"], "config": {"params": record["params"]}}
                with run_of(self.wandb, folder, **about) as run:
                    run.log({"loss": record["loss"], "tokens": record["tokens"]})
            self.made[key] = folder
        shutil.copytree(self.made[key], path, symlinks=True)


def test_what_a_row_takes_from_settings_and_from_measurements():
    row = run_row(
        {"run": "r", "steps": 9},
        {"learning_rate": 1e-3, "tokens": 100, "steps": 10, "size": "small", "loss": "ce", "run": 1},
        {"lr": 1e-5, "tokens": 90, "loss": 2.0, "step": 9, "n_params": 7, "problem": 1},
    )  # fmt: skip
    assert row == {
        "run": "r", "steps": 9, "learning_rate": 1e-3, "config.tokens": 100, "config.steps": 10, "size": "small",
        "config.loss": "ce", "config.run": 1, "tokens": 90, "loss": 2.0, "n_params": 7, "metric.problem": 1,
    }  # fmt: skip


def test_small_logs_for_the_notebook(wandb, tmp_path):
    runs = workbench.load(write_small_log(wandb, tmp_path))
    assert runs.ids == ["width 32", "width 64"] and (runs["problem"] == "").all()
    assert runs["loss"].tolist() == [4 - 32 / 50, 4 - 64 / 50] and runs["params"].tolist() == [12288, 49152]
    assert runs["tokens"].tolist() == [20000, 20000] and runs["lr"].tolist() == [1e-3, 1e-3]
    assert WandbLog().sniff(Path(), log_of_first(tmp_path))


def log_of_first(folder) -> bytes:
    return next(folder.glob("wandb/*run-*/run-*.wandb")).read_bytes()
