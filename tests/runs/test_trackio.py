"""trackio: projects written by the library itself, compared with what was logged and with what trackio reads."""

from __future__ import annotations

import contextlib
import math
import sqlite3
import subprocess
import sys
import uuid

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError
from workbench.runs.readers.trackio import Trackio
from workbench.testing.readers import ReaderContract

trackio = pytest.importorskip("trackio", reason="trackio, or something it needs, is not installed")
from trackio import utils  # noqa: E402
from trackio.sqlite_storage import SQLiteStorage  # noqa: E402

pytestmark = pytest.mark.libraries


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that trackio writes to; it looks its folder up once, when it is imported."""
    folder = tmp_path_factory.mktemp("trackio")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackio.sqlite_storage.TRACKIO_DIR", folder)
        patch.setattr(utils, "TRACKIO_DIR", folder)
        yield folder


def write(folder, runs, project="sample"):
    """A trackio database in `folder`: for each run its name, settings and ``[(step, metrics)]``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackio.sqlite_storage.TRACKIO_DIR", folder)
        patch.setattr(utils, "TRACKIO_DIR", folder)
        for name, config, points in runs:
            SQLiteStorage.bulk_log(
                project=project,
                run=name,
                run_id=uuid.uuid4().hex,
                metrics_list=[metrics for _, metrics in points],
                steps=[step for step, _ in points],
                timestamps=[f"2026-01-01T00:{step // 60:02d}:{step % 60:02d}+00:00" for step, _ in points],
                config=config,
            )
        return SQLiteStorage.get_project_db_path(project)


def shrink(path, keep):
    """Without tables and indexes that a test does not need, and with small pages: 4 KB instead of 200."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        made = connection.execute("SELECT type, name FROM sqlite_master WHERE sql <> '' ORDER BY type").fetchall()
        for kind, name in made:
            if kind == "index" or (name not in keep and not name.startswith("sqlite_")):
                connection.execute(f"DROP {kind} {name}")
        connection.execute("PRAGMA page_size = 512")
        connection.execute("VACUUM")


class TestContract(ReaderContract):
    reader = Trackio
    suffix = ".db"
    mutations = 100

    def write(self, path, frame):
        folder = path.parent / f"trackio-{uuid.uuid4().hex}"
        folder.mkdir()
        runs = [
            (
                r["run"],
                {"params": r["params"]},
                [(1, {"tokens": r["tokens"] / 2, "loss": 9.0}), (2, {"tokens": r["tokens"], "loss": r["loss"]})],
            )
            for r in frame.to_dict("records")
        ]
        made = write(folder, runs)
        shrink(made, ("metrics", "configs"))
        made.rename(path)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        """At the ends of pages and in steps of 40 bytes, as SQLite knows nothing smaller than a page."""
        path = self.make(tmp_path)
        whole = path.read_bytes()
        for cut in sorted({*range(0, len(whole), 40), *range(511, len(whole), 512), *range(0, len(whole), 512)}):
            path.write_bytes(whole[:cut])
            with contextlib.suppress(LoadError):
                self.check_no_invention(workbench.load(path), f"cut at byte {cut}")

    def test_an_empty_file_is_refused_in_a_sentence_and_marked_among_others(self, tmp_path):
        """Among others it is left out, as many programs call a file ``.db``."""
        (tmp_path / "log.db").write_bytes(b"")
        with pytest.raises(LoadError, match="empty"):
            workbench.load(tmp_path / "log.db")
        (tmp_path / "sound.csv").write_text("run,loss\na,2.0\nb,3.0\n")
        assert workbench.load(tmp_path).ids == ["a", "b"]


def test_what_was_logged_comes_back_through_the_public_interface(tmp_path):
    script = """
import trackio
for seed in (0, 1):
    config = {"learning_rate": 1e-3, "model": {"depth": 4}}
    trackio.init(project="lm", name=f"run {seed}", config=config, embed=False)
    for step in range(30):
        trackio.log({"loss": 3.0 - step / 100 + seed, "nan": float("nan"), "train": {"acc": step / 30}}, step=step)
    trackio.finish()
"""
    environment = {"TRACKIO_DIR": str(tmp_path), "HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    made = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120)
    assert made.returncode == 0, made.stderr
    runs = workbench.load(tmp_path / "lm.db")
    assert runs.ids == ["run 0", "run 1"] and list(runs["problem"]) == ["", ""]
    assert list(runs["lr"]) == [1e-3, 1e-3] and list(runs["depth"]) == [4, 4] and list(runs["steps"]) == [29, 29]
    for seed in (0, 1):
        curve = runs.curves[f"run {seed}"]
        assert curve["step"].tolist() == list(range(30))
        assert curve["loss"].tolist() == [3.0 - step / 100 + seed for step in range(30)]
        assert curve["train.acc"].tolist() == [step / 30 for step in range(30)]
    assert runs["run_id"].nunique() == 2
    again = workbench.load(tmp_path)
    assert again.ids == runs.ids, "locks and folders of media beside the database are no runs"


def test_values_as_trackio_reads_them_and_what_is_no_number_is_counted(tmp_path):
    points = [
        (0, {"loss": 2.5, "note": "warm", "h": {"_type": "trackio.histogram", "bins": [0, 1], "values": [3]}}),
        (1, {"loss": float("nan"), "grad": float("inf")}),
        (3, {"loss": 1 / 3, "list": [1, 2]}),
    ]
    path = write(tmp_path, [("a", {"n": 1, "deep": {"x": [1, 2], "y": float("inf")}}, points)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
        patch.setattr(utils, "TRACKIO_DIR", tmp_path)
        theirs = SQLiteStorage.get_logs("sample", "a")
    log = Trackio().read(path)
    ours = log.curves[0]
    assert ours["step"].tolist() == [row["step"] for row in theirs]
    for name in ("loss", "grad"):
        np.testing.assert_array_equal(ours[name], [row.get(name, math.nan) for row in theirs])
    assert log.skipped == {"is no number or text": 2} and log.read == 3
    assert log.frame["deep.x"][0] == "[1, 2]" and log.frame["deep.y"][0] == math.inf
    assert log.frame["seconds"][0] == 3.0


def test_two_runs_of_one_name_and_hostile_names_stay_apart(tmp_path):
    runs = [
        (name, {"params": i + 1.0}, [(0, {"loss": 3.0 - i})]) for i, name in enumerate(["a", "a", "<script>", "x\ny"])
    ]
    table = workbench.load(write(tmp_path, runs))
    assert table["params"].tolist() == [1, 2, 3, 4] and table["loss"].tolist() == [3, 2, 1, 0]
    assert len(set(table.ids)) == 4 and "<script" not in table._repr_html_()


def test_databases_from_before_run_ids(tmp_path):
    """The tables of trackio 0.2 to 0.23, filled with statements of its own form."""
    connection = sqlite3.connect(tmp_path / "old.db")
    connection.execute(
        "CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, "
        "run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL)"
    )
    rows = [(f"2025-09-01T00:00:{s:02d}", name, s, f'{{"loss": {4 - s}}}') for s in range(3) for name in ("a", "b")]
    connection.executemany("INSERT INTO metrics (timestamp, run_name, step, metrics) VALUES (?, ?, ?, ?)", rows)
    connection.commit()
    assert workbench.load(tmp_path / "old.db")["loss"].tolist() == [2, 2], "the first versions kept no settings"
    connection.execute(
        "CREATE TABLE configs (id INTEGER PRIMARY KEY AUTOINCREMENT, run_name TEXT NOT NULL, "
        "config TEXT NOT NULL, created_at TEXT NOT NULL, UNIQUE(run_name))"
    )
    connection.execute("INSERT INTO configs (run_name, config, created_at) VALUES ('b', '{\"lr\": 0.5}', '')")
    connection.commit()
    connection.close()
    table = workbench.load(tmp_path / "old.db")
    assert table.ids == ["a", "b"] and table["lr"].tolist()[1] == 0.5 and "run_id" not in table.frame
    with pytest.MonkeyPatch.context() as patch:  # what trackio itself makes of them
        patch.setattr("trackio.sqlite_storage.TRACKIO_DIR", tmp_path)
        patch.setattr(utils, "TRACKIO_DIR", tmp_path)
        SQLiteStorage.init_db("old")
    renewed = workbench.load(tmp_path / "old.db")
    assert renewed.ids == ["a", "b"] and renewed["lr"].tolist()[1] == 0.5 and "run_id" in renewed.frame
    for run in "ab":
        np.testing.assert_array_equal(renewed.curves[run], table.curves[run])


def test_a_live_database_is_read_and_nothing_is_left_beside_it(tmp_path):
    path = write(tmp_path, [("a", {}, [(s, {"loss": 3.0 - s}) for s in range(2)])])
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(
        "INSERT INTO metrics (run_id, timestamp, run_name, step, metrics) "
        "SELECT run_id, '2026-01-01T01:00:00+00:00', run_name, 7, '{\"loss\": 0.25}' FROM metrics LIMIT 1"
    )
    connection.commit()
    before = {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in tmp_path.iterdir()}
    assert f"{path.name}-wal" in before
    table = workbench.load(path)
    assert table["loss"].tolist() == [0.25] and table["steps"].tolist() == [7]
    assert {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in tmp_path.iterdir()} == before
    connection.close()


def test_a_database_that_is_cut_off_gives_the_runs_before_the_cut_marked(tmp_path):
    runs = [(f"run {i}", {"params": i + 1}, [(s, {"loss": 3.0 - s / 100}) for s in range(200)]) for i in range(5)]
    path = write(tmp_path, runs)
    data = path.read_bytes()
    shown = []
    for share in (0.95, 0.8, 0.6, 0.4, 0.2):
        (tmp_path / "cut.db").write_bytes(data[: int(len(data) * share)])
        try:
            table = workbench.load(tmp_path / "cut.db")
        except LoadError:
            shown.append(0)
            continue
        points = 0
        for run in table.ids:
            curve = table.curves.get(run)
            if curve is not None:
                assert curve["loss"].tolist() == [3.0 - s / 100 for s in curve["step"]]
                points += len(curve)
        # the last pages may hold nothing but indexes
        assert points == 1000 or all("damaged" in problem for problem in table["problem"])
        shown.append(points)
    assert shown == sorted(shown, reverse=True) and shown[0] > 0
