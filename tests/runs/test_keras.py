"""Keras: tables that its CSVLogger wrote, and tables that only look like them."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find, peek
from workbench.runs.readers.delimited import Delimited
from workbench.runs.readers.keras_csv import KerasCsv
from workbench.testing.readers import HOSTILE, ReaderContract, sample

os.environ.setdefault("KERAS_BACKEND", "torch")
keras = pytest.importorskip("keras", reason="keras is not installed")
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Tables of real trainings by name, and the history that Keras returned for each."""
    folder = tmp_path_factory.mktemp("keras")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)), rng.normal(size=(32, 1))
    histories = {}
    for name, options, callbacks in (
        ("validated", {"validation_data": (x, y)}, []),
        ("plain", {}, []),
        ("seldom", {"validation_data": (x, y), "validation_freq": 2}, []),
        (
            "scheduled",
            {"validation_data": (x, y)},
            [keras.callbacks.LearningRateScheduler(lambda epoch: 0.1 / (epoch + 1))],
        ),
        ("semicolon", {"validation_data": (x, y)}, []),
    ):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Dense(1)])
        model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
        logger = keras.callbacks.CSVLogger(str(folder / f"{name}.csv"), separator=";" if name == "semicolon" else ",")
        fitted = model.fit(x, y, epochs=6, verbose=0, callbacks=[*callbacks, logger], **options)
        histories[name] = fitted.history
    return folder, histories


@pytest.mark.parametrize("name", ["validated", "plain", "seldom", "scheduled", "semicolon"])
def test_every_value_of_a_real_training(trained, name):
    folder, histories = trained
    path = folder / f"{name}.csv"
    assert isinstance(find(path), KerasCsv)
    log = KerasCsv().read(path)
    curve, history = log.curves[0], histories[name]
    assert curve["step"].tolist() == curve["epochs"].tolist() == [1, 2, 3, 4, 5, 6] and log.read == 6
    for metric, values in history.items():
        # Keras' loss is that of training, and its tables have a val_loss even where nothing was validated
        metric = "train_loss" if metric == "loss" else metric
        logged = curve[metric].dropna().tolist() if metric in curve else []
        if name == "seldom" and metric.startswith("val_"):
            # the first epoch had no validation, so that later ones are written for even epochs only
            assert logged == values[: len(logged)] and len(logged) == 3
        else:
            assert logged == values
        assert log.frame[metric][0] == values[-1]
    runs = workbench.load(path)
    assert runs.ids == [name] and list(runs["epochs"]) == [6] and "steps" not in runs.frame
    best = "val_loss" if name != "plain" else "loss"
    assert runs["loss"][0] == history[best][-1]
    assert any("no optimizer steps" in message for message in runs.messages)


def write(path, epochs, log):
    """A table by Keras' logger itself, without a model."""
    logger = keras.callbacks.CSVLogger(str(path), append=path.exists())
    model = keras.Sequential()
    model.stop_training = False
    logger.set_model(model)
    logger.on_train_begin()
    for epoch in epochs:
        logger.on_epoch_end(epoch, log(epoch))
    logger.on_train_end()
    return path


class TestContract(ReaderContract):
    """A table is one run: the first of the contract's three; its numbers are metrics."""

    reader = KerasCsv
    suffix = ".csv"
    mutations = 300

    def write(self, path, frame):
        record = frame.to_dict("records")[0]
        final = {"loss": record["loss"], "tokens": record["tokens"], "params": record["params"]}
        write(path, range(3), lambda epoch: final if epoch == 2 else dict.fromkeys(final, 9.0))

    def test_values_are_read_exactly(self, tmp_path):
        row = workbench.load(self.make(tmp_path)).frame.iloc[0]
        assert row["run"] == "log" and row["problem"] == ""
        assert [row[name] for name in ("params", "tokens", "loss")] == sample().iloc[0, 1:].tolist()

    def check_no_invention(self, table, where):
        for name in {"params", "tokens", "loss"} & set(table.good.frame.columns):
            assert set(table.good.frame[name].dropna()) <= {sample()[name][0], 9.0}, f"{where}: {name}"

    def test_an_empty_file_is_refused_in_a_sentence_and_marked_among_others(self, tmp_path):
        (tmp_path / "log.csv").write_bytes(b"")
        with pytest.raises(LoadError, match="empty"):
            workbench.load(tmp_path / "log.csv")

    def test_hostile_names_pass_through(self, tmp_path):
        names = [name for name in HOSTILE if "\x00" not in name]
        path = write(tmp_path / "log.csv", range(3), lambda epoch: {"loss": 2.0, **dict.fromkeys(names, 1.0 + epoch)})
        log = KerasCsv().read(path)
        assert [log.frame[name][0] for name in names] == [3.0] * len(names)
        html = workbench.load(path)._repr_html_()
        assert "<script" not in html and "\u202e" not in html

    def test_reading_changes_nothing(self, tmp_path):
        path = self.make(tmp_path)
        before = path.read_bytes(), path.stat().st_mtime_ns
        table = workbench.load(path)
        path_again = path.read_bytes(), path.stat().st_mtime_ns
        assert path_again == before
        path.unlink()
        assert len(table.curves["log"]) == 3


def test_a_training_that_was_resumed_and_one_that_began_again(tmp_path):
    path = write(tmp_path / "log.csv", range(4), lambda epoch: {"loss": 3.0 - epoch, "val_loss": 4.0 - epoch})
    write(path, range(4, 6), lambda epoch: {"loss": 3.0 - epoch, "val_loss": 4.0 - epoch})
    runs = workbench.load(path)
    assert len(runs.curves["log"]) == 6 and list(runs["epochs"]) == [6] and list(runs["loss"]) == [4.0 - 5]
    write(path, range(2), lambda epoch: {"loss": 9.0, "val_loss": 9.0})
    runs = workbench.load(path)
    assert runs.curves["log"]["loss"].tolist() == [9.0, 9.0, 2.0, 1.0, 0.0, -1.0]
    assert any("begin anew 1 times" in message for message in runs.messages)


def test_whole_lines_survive_a_cut(tmp_path):
    path = write(
        tmp_path / "log.csv", range(20), lambda epoch: {"loss": 3.0 - epoch / 10, "val_loss": 4.0 - epoch / 10}
    )
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for cut in range(header, len(whole)):
        kept = whole[header:cut].count(b"\n")
        path.write_bytes(whole[:cut])
        if kept:
            assert isinstance(find(path), KerasCsv)
            assert KerasCsv().read(path).curves[0]["train_loss"].tolist() == [3.0 - epoch / 10 for epoch in range(kept)]


@pytest.mark.parametrize(
    "text",
    [
        "epoch,loss\n1,3.0\n2,2.5\n4,2.2\n",  # runs of several numbers of epochs
        "epoch,loss\n1,3.0\n2,2.5\n3,2.2\n",
        "epoch,loss,val_loss\n0,3.0,3.1\n10,2.5,2.6\n",  # every tenth epoch
        "epoch,val_loss,loss\n0,3.0,3.1\n1,2.5,2.6\n",  # not in Keras' order
        "epoch,loss,step\n0,3.0,10\n1,2.5,20\n",
        "epoch,loss,run\n0,3.0,a\n1,2.5,a\n",
        "epoch,loss,val_acc\n0,3.0,0.1\n1,2.5,0.2\n",  # a val_ of nothing
        "epoch,accuracy\n0,0.1\n1,0.2\n",
        "epoch,loss\n0,3.0\n",
        "epoch,loss\n",
        "epochs,loss\n0,3.0\n1,2.5\n",
        "run,epoch,loss\na,0,3.0\na,1,2.5\n",
        "epoch 1 loss 3.0\nepoch 2 loss 2.5\n",
    ],
)
def test_tables_that_may_be_something_else_are_left_to_csv(tmp_path, text):
    path = tmp_path / "t.csv"
    path.write_text(text)
    assert not KerasCsv().sniff(path, peek(path))
    if "," in text:
        assert isinstance(find(path), Delimited)


def test_lists_and_missing_values(tmp_path):
    def log(epoch):
        values = {"loss": 1.0, "val_loss": 2.0, "acc": np.array([0.5, 0.25])}
        return values if epoch < 2 else {"loss": 0.5, "acc": np.float32(0.75)}

    read = KerasCsv().read(write(tmp_path / "log.csv", range(3), log))
    assert read.curves[0]["val_loss"].tolist()[:2] == [2.0, 2.0] and np.isnan(read.curves[0]["val_loss"][2])
    with (tmp_path / "log.csv").open(newline="") as file:
        cells = [row["acc"] for row in csv.DictReader(file)]
    assert read.curves[0]["acc"].tolist()[:2] == cells[:2] == ['"[0.5, 0.25]"'] * 2
    assert read.frame["acc"][0] == 0.75
