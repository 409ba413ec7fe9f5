"""Optuna: studies that the library stored, compared with what it reads back, of several versions of its tables."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3

import numpy as np
import pytest

import workbench
from workbench.runs.readers.base import LoadError, find
from workbench.runs.readers.optuna_journal import OptunaJournal
from workbench.runs.readers.optuna_sqlite import OptunaSqlite
from workbench.testing.readers import ReaderContract, sample

optuna = pytest.importorskip("optuna", reason="optuna is not installed")
pytestmark = [pytest.mark.libraries, pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")]
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.storages import JournalStorage, RDBStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import TrialState, create_trial  # noqa: E402

optuna.logging.set_verbosity(optuna.logging.ERROR)


def storage_at(path):
    return RDBStorage(f"sqlite:///{path}") if path.suffix == ".db" else JournalStorage(JournalFileBackend(str(path)))


def close(storage):
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def write(path, trials=12):
    """A study with every kind of parameter, state and number; returns what Optuna reads back."""
    storage = storage_at(path)
    study = optuna.create_study(
        storage=storage, study_name="lm", sampler=optuna.samplers.RandomSampler(seed=0), direction="minimize"
    )
    study.set_metric_names(["val_loss"])
    study.set_user_attr("task", "bigram")

    def objective(trial):
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        depth = trial.suggest_int("depth", 1, 8)
        trial.suggest_categorical("optimizer", ["adam", "sgd", None, 3, True, 0.25])
        trial.set_user_attr("params", 1e6 * depth)
        trial.set_user_attr("nested", {"a": {"b": 1}, "list": [1, 2]})
        for step in range(0, 50, 10):
            value = 3 / (1 + step) + lr
            trial.report(math.nan if trial.number == 4 and step == 20 else value, step)
            if trial.number % 5 == 1 and step == 30:
                raise optuna.TrialPruned()
        if trial.number % 5 == 2:
            raise RuntimeError("diverged")
        return math.inf if trial.number == 3 else lr

    study.optimize(objective, n_trials=trials, catch=RuntimeError)
    study.ask()  # a trial that nobody finishes
    study.enqueue_trial({"lr": 0.5})
    found = study.trials
    close(storage)
    return found


SUFFIXES = [".db", ".log"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_trial_as_optuna_reads_it(tmp_path, suffix):
    path = tmp_path / f"study{suffix}"
    theirs = write(path)
    reader = find(path)
    assert type(reader) is (OptunaSqlite if suffix == ".db" else OptunaJournal)
    log = reader.read(path)
    assert len(log.frame) == len(theirs) == 14
    for row, trial in enumerate(theirs):
        cells = log.frame.iloc[row]
        assert cells["run"] == f"lm:{trial.number}" and cells["state"] == trial.state.name
        for name, value in trial.params.items():
            assert cells[name] == value and type(cells[name]) is type(value)
        if "params" in trial.user_attrs:
            assert cells["params"] == trial.user_attrs["params"] and cells["nested.a.b"] == 1
        assert cells["val_loss"] == trial.value
        assert (row in log.problems) == (trial.state is not TrialState.COMPLETE)
        if trial.intermediate_values:
            curve = log.curves[row]
            assert curve["step"].tolist() == list(trial.intermediate_values)
            np.testing.assert_array_equal(curve["val_loss"], list(trial.intermediate_values.values()))
        else:
            assert row not in log.curves
        if trial.duration is not None:
            assert cells["seconds"] == pytest.approx(trial.duration.total_seconds(), abs=1e-5)
    assert {trial.state for trial in theirs} == set(TrialState)
    assert log.frame["study.task"].tolist() == ["bigram"] * 14


def test_both_storages_give_the_same_table(tmp_path):
    for suffix in SUFFIXES:
        write(tmp_path / f"study{suffix}")
    one, other = (workbench.load(tmp_path / f"study{suffix}") for suffix in SUFFIXES)
    drop = ["seconds"]
    assert one.frame.drop(columns=drop).equals(other.frame.drop(columns=drop))
    assert one["loss"][0] == one["lr"][0], "an objective called val_loss is the loss"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_several_studies_and_objectives_and_deleted_ones(tmp_path, suffix):
    path = tmp_path / f"many{suffix}"
    storage = storage_at(path)
    for name in ("one", "gone", "two"):
        study = optuna.create_study(storage=storage, study_name=name, directions=["minimize", "maximize"])
        for i in range(2):
            study.add_trial(
                create_trial(
                    values=[i + 0.5, 1 / 3],
                    params={"x": 0.1 * i, "n": 2, "c": "b"},
                    distributions={
                        "x": FloatDistribution(0, 1), "n": IntDistribution(1, 4),
                        "c": CategoricalDistribution(["a", "b"]),
                    },
                )
            )  # fmt: skip
    optuna.delete_study(study_name="gone", storage=storage)
    close(storage)
    table = workbench.load(path)
    assert table.ids == ["one:0", "one:1", "two:0", "two:1"] and list(table["problem"]) == [""] * 4
    assert table["values_0"].tolist() == [0.5, 1.5] * 2 and table["values_1"].tolist() == [1 / 3] * 4
    assert table["x"].tolist() == [0, 0.1] * 2 and table["n"].tolist() == [2] * 4 and list(table["c"]) == ["b"] * 4
    assert list(table["direction"]) == ["minimize, maximize"] * 4


def stored(path, frame, storage):
    study = optuna.create_study(storage=storage, study_name="s")
    for record in frame.to_dict("records"):
        study.add_trial(
            create_trial(
                value=record["loss"],
                user_attrs={"run": record["run"], "params": record["params"], "tokens": record["tokens"]},
                params={},
                distributions={},
                intermediate_values={1: 9.0, 2: record["loss"]},
            )
        )
    study.set_metric_names(["loss"])
    close(storage)


class TestJournalContract(ReaderContract):
    """The names are user attributes, as Optuna numbers its trials."""

    reader = OptunaJournal
    suffix = ".log"
    mutations = 100

    def write(self, path, frame):
        stored(path, frame, storage_at(path))

    def test_values_are_read_exactly(self, tmp_path):
        table = workbench.load(self.make(tmp_path))
        assert table.ids == ["s:0", "s:1", "s:2"] and list(table["problem"]) == [""] * 3
        for name in ("params", "tokens", "loss"):
            assert table[name].tolist() == sample()[name].tolist()

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        """At every byte by the reader alone, which is fast, and now and then by `load`."""
        path = self.make(tmp_path)
        whole = path.read_bytes()
        for cut in range(len(whole)):
            path.write_bytes(whole[:cut])
            with contextlib.suppress(LoadError):
                self.check_no_invention(OptunaJournal().read(path).frame, f"cut at byte {cut}")
                if cut % 64 == 0:
                    self.check_no_invention(workbench.load(path).frame, f"cut at byte {cut}")

    def check_no_invention(self, table, where):
        truth = sample()
        for column in {"params", "tokens", "loss", "value"} & set(table.columns):
            for number, value in zip(table["trial"], table[column].astype(float), strict=True):
                expected = truth["loss" if column == "value" else column][int(number)]
                assert np.isnan(value) or value == expected, f"{where}: {column}"

    def test_an_empty_file_is_refused_in_a_sentence_and_marked_among_others(self, tmp_path):
        (tmp_path / "log.log").write_bytes(b"")
        with pytest.raises(LoadError, match="empty"):
            workbench.load(tmp_path / "log.log")

    def test_hostile_names_pass_through(self, tmp_path):
        storage = storage_at(tmp_path / "log.log")
        for i, name in enumerate(self.names):
            study = optuna.create_study(storage=storage, study_name=name)
            attributes = {name: name, "params": i + 1.0}
            study.add_trial(create_trial(value=2.0, params={}, distributions={}, user_attrs=attributes))
        table = workbench.load(tmp_path / "log.log")
        by_params = dict(zip(table["params"], table["study"], strict=True))
        assert [by_params[i + 1] for i in range(len(self.names))] == list(self.names)
        html = table._repr_html_()
        assert "<script" not in html and "\u202e" not in html


class TestSqliteContract(TestJournalContract):
    reader = OptunaSqlite
    suffix = ".db"
    names = TestJournalContract.names[:8]  # a name in SQLite has at most 512 characters
    mutations = 60

    def write(self, path, frame):
        stored(path, frame, storage_at(path))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE sql <> ''").fetchall():
                if kind == "index" or name in ("alembic_version", "version_info", "trial_heartbeats"):
                    connection.execute(f"DROP {kind} {name}")
            connection.execute("PRAGMA page_size = 512")
            connection.execute("VACUUM")

    def test_a_log_cut_off_anywhere_loads_or_fails_cleanly_and_invents_nothing(self, tmp_path):
        path = self.make(tmp_path)
        whole = path.read_bytes()
        for cut in sorted({*range(0, len(whole), 256), *range(511, len(whole), 512)}):
            path.write_bytes(whole[:cut])
            with contextlib.suppress(LoadError):
                self.check_no_invention(workbench.load(path).good.frame, f"cut at byte {cut}")

    def test_hostile_names_pass_through(self, tmp_path):
        pytest.skip("the same code as in the journal's contract; an SQLite file for each name takes long")


def test_a_journal_is_read_up_to_a_damaged_line_and_without_its_torn_end(tmp_path):
    path = tmp_path / "study.log"
    theirs = write(path, 6)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size in range(0, len(whole), 101):
        (tmp_path / "cut.log").write_bytes(whole[:size])
        try:
            log = OptunaJournal().read(tmp_path / "cut.log")
        except LoadError:
            continue
        assert log.read == whole[:size].count(b"\n") and (log.skipped == {"is cut off": 1}) == (whole[size - 1] != 10)
        for row in range(len(log.frame)):
            trial = theirs[row]
            assert all(log.frame[k][row] in (v, None) for k, v in trial.params.items() if k in log.frame)
            if row not in log.problems:
                assert log.frame["val_loss"][row] == trial.value and log.frame["lr"][row] == trial.params["lr"]
    place = next(i for i, line in enumerate(lines) if json.loads(line)["op_code"] == 4) + 12
    (tmp_path / "torn.log").write_bytes(b"".join([*lines[:place], lines[place][:20] + b"\n", *lines[place + 1 :]]))
    log = OptunaJournal().read(tmp_path / "torn.log")
    assert log.read == place and f"line {place + 1} is damaged" in log.messages[0]
    assert log.skipped == {"is damaged": 1, "stands behind a damaged line": len(lines) - place - 1}


def test_tables_from_before_2_4(tmp_path):
    """The tables as Optuna's own migration scripts make them for version 1.3, filled by hand."""
    alembic = pytest.importorskip("alembic.command", reason="alembic is not installed")
    path = tmp_path / "old.db"
    storage = RDBStorage(f"sqlite:///{path}")
    config = storage._version_manager._create_alembic_config()
    close(storage)
    path.unlink()
    alembic.upgrade(config, "v1.3.0.a")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        put = connection.execute
        assert "step" in {row[1] for row in put("PRAGMA table_info(trial_values)")}, "not the old tables"
        put("INSERT INTO studies (study_id, study_name, direction) VALUES (1, 'old', 'MINIMIZE')")
        for key, state, value in ((1, "COMPLETE", 0.25), (2, "PRUNED", 3.0), (3, "RUNNING", None)):
            put("INSERT INTO trials (trial_id, number, study_id, state, value) VALUES (?, ?, 1, ?, ?)",
                (key, key - 1, state, value))  # fmt: skip
            for name, inner, kind in (("lr", 0.1 * key, "LogUniform"), ("n", 2.0, "IntUniform")):
                text = json.dumps({"name": f"{kind}Distribution", "attributes": {"low": 1, "high": 4}})
                put("INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
                    "VALUES (?, ?, ?, ?)", (key, name, inner, text))  # fmt: skip
            for step in range(3):
                put("INSERT INTO trial_values (trial_id, step, value) VALUES (?, ?, ?)", (key, step, key + step))
        connection.commit()
    table = workbench.load(path)
    assert table.ids == ["old:0", "old:1", "old:2"] and table["lr"].tolist() == [0.1, 0.2, 0.1 * 3]
    assert table["value"].tolist()[:2] == [0.25, 3.0] and table["n"].tolist() == [2, 2, 2]
    assert [bool(problem) for problem in table["problem"]] == [False, True, True]
    assert table.curves["old:2"]["value"].tolist() == [3, 4, 5]


def test_a_study_without_trials_and_a_foreign_database(tmp_path):
    close_me = storage_at(tmp_path / "empty.db")
    optuna.create_study(storage=close_me, study_name="s")
    close(close_me)
    with pytest.raises(LoadError, match="hold no trials"):
        workbench.load(tmp_path / "empty.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE studies (a)")
        connection.commit()
    assert not OptunaSqlite().sniff(tmp_path / "other.db", (tmp_path / "other.db").read_bytes())
