"""MLflow: stores written by the library itself, compared with what was logged and with what MLflow reads."""

from __future__ import annotations

import contextlib
import math
import random
import shutil
import sqlite3
import sys

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find, peek
from workbench.runs.readers.mlflow_files import MLflow
from workbench.runs.readers.mlflow_sqlite import MLflowSQLite
from workbench.testing.readers import ReaderContract

pytestmark = pytest.mark.libraries

KINDS = ("files", "sqlite")


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    """The library, without telemetry, and with its file store, which newer versions ask to be allowed."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_ALLOW_FILE_STORE": "true",
            "MLFLOW_LOGGING_LEVEL": "ERROR",
        }.items():  # fmt: skip
            patch.setenv(name, value)
        patch.chdir(tmp_path_factory.mktemp("work"))  # artifacts go to the working directory
        module = pytest.importorskip("mlflow", reason="mlflow is not installed")
        pytest.importorskip("sqlalchemy", reason="sqlalchemy is not installed")
        yield module


@pytest.fixture(scope="module")
def empty(mlflow, tmp_path_factory):
    """An SQLite store without runs: making its tables takes MLflow seconds."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    client_of(mlflow, path).create_experiment("sweep")
    return path


def client_of(mlflow, path):
    uri = f"sqlite:///{path}" if path.suffix == ".db" else path.as_uri()
    return mlflow.MlflowClient(tracking_uri=uri)


def store(mlflow, empty, folder, kind):
    """A fresh store in `folder`, a client for it, and an experiment in it."""
    if kind == "sqlite":
        path = shutil.copy(empty, folder / "mlflow.db")
        client = client_of(mlflow, folder / "mlflow.db")
        return folder / "mlflow.db", client, client.get_experiment_by_name("sweep").experiment_id
    path = folder / "mlruns"
    client = client_of(mlflow, path)
    return path, client, client.create_experiment("sweep")


def write_small_log(mlflow, empty, folder, kind="files"):
    """Two small finished runs."""
    path, client, experiment = store(mlflow, empty, folder, kind)
    for i, width in enumerate((32, 64)):
        run = client.create_run(experiment, run_name=f"width {width}", start_time=1000 * (i + 1)).info.run_id
        for name, value in {"model.width": width, "n_params": width**2 * 12, "learning_rate": 1e-3}.items():
            client.log_param(run, name, value)
        for step in range(20):
            client.log_metric(run, "train_loss", 4 - step * width / 1000, step=step)
        client.log_metric(run, "val_loss", 4 - width / 50, step=19)
        client.set_terminated(run, end_time=1000 * i + 1500)
    return path


@pytest.fixture(scope="module", params=KINDS)
def written(mlflow, empty, tmp_path_factory, request):
    """A store with everything MLflow can log that is a number, and its client."""
    path, client, experiment = store(mlflow, empty, tmp_path_factory.mktemp("full"), request.param)
    tricky = "run/a: 'q' \"x\" #y\n<b>"
    run = client.create_run(experiment, run_name=tricky, tags={"team": "x"}, start_time=10_000).info.run_id
    client.log_param(run, "lr", 1e-3)
    client.log_param(run, "model/text", "8\n9")
    rng = np.random.default_rng(0)
    for step in rng.permutation(50):  # as several processes log, in no order
        client.log_metric(run, "loss", 1 / (int(step) + 3), step=int(step), timestamp=5000 + int(step))
    client.log_metric(run, "loss", 0.125, step=20, timestamp=9000)  # restarted: step 20 once more
    client.log_metric(run, "group/acc", 0.1, step=10)
    client.log_metric(run, "nan", math.nan, step=1)
    client.log_metric(run, "low", -math.inf, step=1)
    client.set_terminated(run, end_time=12_500)
    for i, state in enumerate(("FAILED", "KILLED", None)):
        other = client.create_run(experiment, run_name=str(state), start_time=20_000 + i).info.run_id
        client.log_metric(other, "loss", 2.0 + i, step=5)
        if state:
            client.set_terminated(other, state)
    timeless = client.create_run(experiment, run_name="timeless", start_time=30_000).info.run_id
    for i in range(7):
        client.log_metric(timeless, "loss", 7.0 - i, timestamp=100 + i)  # no step: MLflow writes 0
    client.set_terminated(timeless)
    client.delete_run(client.create_run(experiment, run_name="gone").info.run_id)
    return path, client, experiment


def test_everything_as_mlflow_reads_it_back(written):
    path, client, experiment = written
    runs = workbench.load(path)
    theirs = {run.info.run_name: run for run in client.search_runs([experiment])}
    assert set(runs.ids) == set(theirs) and "gone" not in runs.ids
    for name, run in theirs.items():
        (row,) = runs.frame[runs.frame["run"] == name].to_dict("records")
        assert row["run_id"] == run.info.run_id and row["state"] == run.info.status.lower()
        assert row["experiment"] == "sweep"
        for metric, value in run.data.metrics.items():  # MLflow's own last values
            if name != "timeless":
                np.testing.assert_equal(row[metric], logged(value), err_msg=metric)
            history = client.get_metric_history(run.info.run_id, metric)
            expected = {m.step: m.value for m in sorted(history, key=lambda m: m.timestamp)}
            if name == "timeless":
                expected = {i: 7.0 - i for i in range(7)}
            if metric in ("nan", "low"):  # nothing to draw
                assert metric not in runs.curves[name]
            else:
                assert runs.curves[name].set_index("step")[metric].dropna().to_dict() == expected


def logged(value):
    """SQLite has no infinity: MLflow writes the largest number instead, and gives that back."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else value


def test_states_settings_and_times(written):
    runs = workbench.load(written[0])
    first = runs.frame.iloc[0]
    assert first["run"] == "run/a: 'q' \"x\" #y\n<b>" and first["lr"] == 1e-3 and first["model/text"] == "8\n9"
    assert first["seconds"] == 2.5 and first["tags.team"] == "x" and first["steps"] == 49 and first["problem"] == ""
    problem = dict(zip(runs.ids, runs["problem"], strict=True))
    assert problem["FAILED"] == "its state is 'failed', not 'finished'"
    assert problem["KILLED"] == "its state is 'killed', not 'finished'"
    assert problem["None"] == "its state is 'running', not 'finished'"
    assert dict(zip(runs.ids, runs["steps"], strict=True))["timeless"] == 6
    assert any("without steps" in message for message in runs.messages)
    report = str(runs.report())
    assert "was deleted in MLflow" in report


@pytest.mark.parametrize("kind", KINDS)
def test_a_setting_and_a_metric_of_the_same_quantity(mlflow, empty, tmp_path, kind):
    path, client, experiment = store(mlflow, empty, tmp_path, kind)
    run = client.create_run(experiment).info.run_id
    for name, value in {"learning_rate": 6e-4, "epochs": 9, "loss": "cross_entropy"}.items():
        client.log_param(run, name, value)
    for step in range(3):
        client.log_metric(run, "lr", 6e-4 / (step + 1), step=step)
        client.log_metric(run, "loss", 3.0 - step, step=step)
    client.set_terminated(run)
    runs = workbench.load(path)
    assert runs["lr"][0] == 6e-4 and runs["loss"][0] == 1.0 and runs.frame["config.loss"][0] == "cross_entropy"
    assert runs.curves[runs.ids[0]]["lr"].tolist() == [6e-4 / (step + 1) for step in range(3)]


def small_store(mlflow, empty, folder):
    path = write_small_log(mlflow, empty, folder)
    experiment = next(p for p in path.iterdir() if p.is_dir() and any(q.is_dir() for q in p.iterdir()))
    return path, experiment, sorted(p for p in experiment.iterdir() if (p / "meta.yaml").is_file())


def test_a_run_an_experiment_or_a_whole_store(mlflow, empty, tmp_path):
    path, experiment, folders = small_store(mlflow, empty, tmp_path)
    (folders[0] / "artifacts").mkdir(exist_ok=True)
    (folders[0] / "artifacts" / "scores.csv").write_text("run,loss\nx,1\ny,2\n")  # no run of the store
    for place, count in ((tmp_path, 2), (path, 2), (experiment, 2), (folders[0], 1)):
        runs = workbench.load(place)
        assert len(runs) == count and set(runs["experiment"]) == {"sweep"} and (runs["problem"] == "").all()
    assert workbench.load(path).ids == ["width 32", "width 64"]  # in the order of their start
    moved = path.rename(tmp_path / "copy of my runs")
    assert len(workbench.load(moved)) == 2 and len(workbench.load(tmp_path)) == 2
    shutil.rmtree(moved / "0")
    assert workbench.load(tmp_path).ids == ["width 32", "width 64"]


def test_damaged_runs_are_marked_and_the_rest_is_read(mlflow, empty, tmp_path):
    path, _, (first, _) = small_store(mlflow, empty, tmp_path)
    meta = (first / "meta.yaml").read_bytes()
    loss = first / "metrics" / "train_loss"
    lines = loss.read_bytes()
    run = first.name
    loss.write_bytes(lines[:-4] + b"\n\xff\xfe garbage\n12 13\n1 x 2\n" + lines[: len(lines) // 2])
    runs = workbench.load(path)
    assert len(runs) == 2 and any("lines of MLflow metrics are not whole" in said for said in runs.messages)
    loss.write_bytes(lines)
    for text in (meta[:40], b"", b": : :\n\x00\n", b"[" * 5000 + b"\n", b"a: &a [*a, *a]\n"):
        (first / "meta.yaml").write_bytes(text)
        runs = workbench.load(path)
        row = runs.frame[runs.frame["run_id"] == run]
        assert len(runs) == 2 and "meta.yaml" in row["problem"].iloc[0]
        assert row["loss"].iloc[0] == 4 - (32 if "32" in row["run"].iloc[0] else 64) / 50  # its metrics are sound


def test_a_metric_cut_off_anywhere_keeps_its_whole_lines(mlflow, empty, tmp_path):
    _, _, (first, _) = small_store(mlflow, empty, tmp_path)
    loss = first / "metrics" / "train_loss"
    whole = loss.read_bytes()
    name = (first / "tags" / "mlflow.runName").read_text()
    values = [float(line.split()[1]) for line in whole.splitlines()]
    for size in range(0, len(whole), 7):
        loss.write_bytes(whole[:size])
        curve = workbench.load(first).curves[name]
        read = curve["train_loss"].dropna().tolist() if "train_loss" in curve else []
        assert read == values[: whole[:size].count(b"\n")]


def test_lines_of_old_versions_have_no_step(mlflow, empty, tmp_path):
    _, _, (first, _) = small_store(mlflow, empty, tmp_path)
    shutil.rmtree(first / "metrics")
    (first / "metrics").mkdir()
    (first / "metrics" / "loss").write_text("100 3.0\n200 2.0\n300 1.5\n")
    meta = first / "meta.yaml"
    meta.write_text(meta.read_text().replace("run_id:", "run_uuid:"))
    runs = workbench.load(first)
    assert runs.curves[runs.ids[0]].to_dict("list") == {"step": [0, 1, 2], "loss": [3.0, 2.0, 1.5]}


def test_stores_without_runs(mlflow, empty, tmp_path):
    with pytest.raises(LoadError, match="no runs"):
        workbench.load(empty)
    for kind in KINDS:
        (tmp_path / kind).mkdir()
        path, client, experiment = store(mlflow, empty, tmp_path / kind, kind)
        if kind == "files":
            assert not MLflow().sniff(path, b"")
        client.delete_run(client.create_run(experiment).info.run_id)
        with pytest.raises(LoadError, match="deleted"):
            workbench.load(path)


def test_other_databases_are_left_alone(tmp_path):
    path = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE runs (id, status)")
        connection.execute("CREATE TABLE metrics (key, value)")
    assert not MLflowSQLite().sniff(path, peek(path))


def test_a_database_of_an_old_version(mlflow, empty, tmp_path):
    """Without ``latest_metrics``, ``is_nan`` and names, as MLflow 1.0 made it."""
    path = write_small_log(mlflow, empty, tmp_path, "sqlite")
    expected = workbench.load(path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE latest_metrics")
        connection.execute("CREATE TABLE plain AS SELECT key, value, timestamp, run_uuid, step FROM metrics")
        connection.execute("DROP TABLE metrics")
        connection.execute("ALTER TABLE plain RENAME TO metrics")
    runs = workbench.load(path)
    assert runs["loss"].tolist() == expected["loss"].tolist() and runs.ids == expected.ids
    for run in runs.ids:
        np.testing.assert_array_equal(runs.curves[run], expected.curves[run])


def test_a_database_cut_off_or_damaged_invents_nothing(mlflow, empty, tmp_path):
    path = write_small_log(mlflow, empty, tmp_path, "sqlite")
    whole = path.read_bytes()
    known = {4 - step * width / 1000 for width in (32, 64) for step in range(20)}
    known |= {4 - width / 50 for width in (32, 64)}
    rng = random.Random(0)
    pages = [4096 * rng.randrange(len(whole) // 4096) for _ in range(20)]
    for size in [*pages, *(rng.randrange(len(whole)) for _ in range(60))]:
        path.write_bytes(whole[:size])
        try:
            runs = workbench.load(path)
        except LoadError:
            continue
        for run in runs.curves:
            with contextlib.suppress(LoadError):
                curve = runs.curves[run].drop(columns="step")
                assert set(curve.to_numpy()[np.isfinite(curve.to_numpy())]) <= known
        if "loss" in runs:
            assert set(runs["loss"][np.isfinite(runs["loss"])]) <= known


class TestFiles(ReaderContract):
    """Numbers are written as metrics: a parameter's file cannot tell whether it was cut off."""

    reader, mutations = MLflow, 60
    names = ("<script>alert(1)</script>", "../../x", "a\nb", "\u202egnp", "#1", "=1+1", 'say "a,b"', "a;b\tc", "&amp;")

    @pytest.fixture(autouse=True)
    def library(self, mlflow, empty):
        self.mlflow, self.empty = mlflow, empty

    def files(self, path):
        files = sorted(p for p in path.rglob("*") if p.is_file())
        first = next(p for p in files if p.parent.name == "metrics").parent.parent
        return [p for p in files if p.is_relative_to(first / "metrics")] + [first / "meta.yaml"]

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        path = self.make(tmp_path)
        for file in self.files(path):
            whole = file.read_bytes()
            for cut in range(0, len(whole), 5 if file.name == "meta.yaml" else 1):
                file.write_bytes(whole[:cut])
                self.check_no_invention(workbench.load(path), f"{file.name} cut at byte {cut}")
            file.write_bytes(whole)

    def write(self, path, frame):
        path.mkdir()
        fill(*store(self.mlflow, self.empty, path, "files")[1:], frame)


class TestSQLite(ReaderContract):
    reader, suffix, mutations = MLflowSQLite, ".db", 60
    names = TestFiles.names

    @pytest.fixture(autouse=True)
    def library(self, mlflow, empty):
        self.mlflow, self.empty = mlflow, empty

    def write(self, path, frame):
        folder = path.parent / "mlflow"
        folder.mkdir()
        made, client, experiment = store(self.mlflow, self.empty, folder, "sqlite")
        fill(client, experiment, frame)
        made.rename(path)
        folder.rmdir()

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        path = self.make(tmp_path)
        whole = path.read_bytes()
        rng = random.Random(1)
        for cut in [*range(0, len(whole), 8192), *(rng.randrange(len(whole)) for _ in range(40))]:
            path.write_bytes(whole[:cut])
            try:
                self.check_no_invention(workbench.load(path), f"cut at byte {cut}")
            except LoadError:
                continue

    def test_an_empty_file_is_refused_in_a_sentence_and_marked_among_others(self, tmp_path):
        """Among others it is left out, as many programs call a file ``.db``."""
        (tmp_path / "log.db").write_bytes(b"")
        with pytest.raises(LoadError, match="empty"):
            workbench.load(tmp_path / "log.db")


def fill(client, experiment, frame):
    for i, record in enumerate(frame.to_dict("records")):
        run = client.create_run(experiment, run_name=record["run"], start_time=i + 1).info.run_id
        for name in ("params", "tokens", "loss"):
            client.log_metric(run, name, record[name], step=3)
        client.set_terminated(run)


def test_names_that_a_file_tells_from_an_ordinary_folder(tmp_path):
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "meta.yaml").write_text("name: something else\n")
    assert find(tmp_path / "mlruns") is None
