"""SQLite: read while somebody writes, after somebody was killed, and never changed."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time

import pytest

from workbench.runs import sqlite_file
from workbench.runs.readers.base import LoadError
from workbench.runs.sqlite_file import connect, is_sqlite, rows, schema, tables

QUERY = "SELECT a, b FROM t NOT INDEXED"


def made(path, mode="DELETE", n=3):
    """A database with `n` rows of the table t, and an open connection to it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
    connection.execute("CREATE VIEW v AS SELECT * FROM t")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, f"text {i}") for i in range(n)])
    connection.execute("COMMIT")
    return connection


def state(folder):
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir()}


def read(path):
    with connect(path) as connection:
        return rows(connection, QUERY)


@pytest.mark.parametrize("mode", ["DELETE", "TRUNCATE", "PERSIST", "WAL"])
@pytest.mark.parametrize("closed", [False, True])
def test_every_journal_mode_is_read_and_nothing_changes(tmp_path, mode, closed):
    path = tmp_path / "a ?#%20[x].db"
    writer = made(path, mode)
    if closed:
        writer.close()
    before = state(tmp_path)
    assert (f"{path.name}-wal" in before) == (mode == "WAL" and not closed)
    with connect(path) as connection:
        assert tables(connection) == {"t": {"a", "b"}}
        assert rows(connection, QUERY) == ([(i, f"text {i}") for i in range(3)], "")
        for statement in ("INSERT INTO t VALUES (9, '')", "CREATE TABLE u (a)", "PRAGMA user_version = 7"):
            with pytest.raises(sqlite3.Error):
                connection.execute(statement)
    assert state(tmp_path) == before and is_sqlite(path.read_bytes()[:100])
    writer.close()


def test_a_folder_in_which_nobody_may_write(tmp_path):
    made(tmp_path / "x.db", "WAL").close()
    tmp_path.chmod(0o500)
    try:
        assert len(read(tmp_path / "x.db")[0]) == 3
    finally:
        tmp_path.chmod(0o700)


def test_a_link_is_followed_to_what_lies_beside_the_database(tmp_path):
    (tmp_path / "real").mkdir()
    writer = made(tmp_path / "real" / "x.db", "WAL")
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "x.db")
    assert len(read(tmp_path / "link.db")[0]) == 3 and schema(tmp_path / "link.db") == {"t": {"a", "b"}}
    writer.close()


def test_what_stands_only_in_the_write_ahead_log(tmp_path):
    writer = made(tmp_path / "x.db", "WAL")
    writer.execute("PRAGMA wal_autocheckpoint = 0")
    assert schema(tmp_path / "x.db") == {"t": {"a", "b"}}
    writer.execute("CREATE TABLE later (c)")
    assert schema(tmp_path / "x.db") == {"t": {"a", "b"}, "later": {"c"}}, "the remembered answer is stale"
    writer.execute("BEGIN")
    writer.execute("INSERT INTO t VALUES (100, 'not yet')")
    assert len(read(tmp_path / "x.db")[0]) == 3
    writer.execute("COMMIT")
    assert len(read(tmp_path / "x.db")[0]) == 4
    writer.close()


KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN IMMEDIATE")
connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "x" * 2000) for i in range(1000, 1200)])
connection.execute("UPDATE t SET b = 'overwritten'")
os._exit(9)
"""


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_writer_killed_within_a_transaction(tmp_path, mode):
    """In rollback mode the file itself holds half of the transaction: it is undone, in a copy."""
    path = tmp_path / "x.db"
    made(path, mode, 200).close()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], timeout=60)
    assert done.returncode == 9
    beside = tmp_path / ("x.db-journal" if mode == "DELETE" else "x.db-wal")
    assert beside.stat().st_size > 0
    if mode == "DELETE":
        assert b"overwritten" in path.read_bytes(), "the test wants a half-written file"
    before = state(tmp_path)
    assert read(path) == ([(i, f"text {i}") for i in range(200)], "")
    assert state(tmp_path) == before


def test_a_locked_database_is_refused_and_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(sqlite_file, "PATIENCE", 0.2)
    writer = made(tmp_path / "x.db")
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(LoadError, match="locked by a program that writes"):
        read(tmp_path / "x.db")
    assert schema(tmp_path / "x.db") == {}
    writer.execute("COMMIT")
    assert len(read(tmp_path / "x.db")[0]) == 3
    writer.close()


def test_a_reader_does_not_stop_a_writer(tmp_path):
    writer = made(tmp_path / "x.db")
    writer.execute("PRAGMA busy_timeout = 0")
    with connect(tmp_path / "x.db") as connection:
        assert len(rows(connection, QUERY)[0]) == 3
        writer.execute("INSERT INTO t VALUES (50, 'while it is open')")
    writer.close()


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_every_read_of_a_busy_database_sees_whole_transactions(tmp_path, mode):
    """A writer moves an amount between two rows; the sum is the same in every state that existed."""
    path = tmp_path / "x.db"
    made(path, mode, 0).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(i, "500".rjust(3000)) for i in range(60)])
        connection.commit()
    stop = threading.Event()

    def write():
        rng = random.Random(0)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=30)) as connection:
            connection.execute("PRAGMA wal_autocheckpoint = 20")
            while not stop.is_set():
                i, k, amount = rng.randrange(60), rng.randrange(60), rng.randrange(100)
                connection.execute("BEGIN IMMEDIATE")
                for row, change in ((i, -amount), (k, amount)):
                    connection.execute("UPDATE t SET b = printf('%3000d', b + ?) WHERE a = ?", (change, row))
                connection.execute("COMMIT")
                time.sleep(0.002)

    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            with contextlib.suppress(LoadError):  # busy is no error of the test, a wrong sum is
                found, damage = read(path)
                assert not damage and len(found) == 60
                assert sum(int(b) for _, b in found) == 60 * 500
                seen.add(tuple(int(b) for _, b in found))
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 1, "never read while it was written"


def test_what_was_read_without_a_lock_is_refused_if_the_database_changed_meanwhile(tmp_path):
    made(tmp_path / "x.db", "WAL").close()
    with pytest.raises(LoadError, match="written to while it was read"), connect(tmp_path / "x.db") as connection:
        rows(connection, QUERY)
        with contextlib.closing(
            sqlite3.connect(tmp_path / "x.db")
        ) as writer:  # closing it empties its log into the file
            writer.execute("INSERT INTO t VALUES (77, 'new')")
            writer.commit()
    assert len(read(tmp_path / "x.db")[0]) == 4


def test_cut_off_it_gives_the_rows_before_the_cut(tmp_path):
    path = tmp_path / "x.db"
    made(path, n=2000).close()
    whole = path.read_bytes()
    expected = [(i, f"text {i}") for i in range(2000)]
    counts = []
    for size in range(0, len(whole) + 1, 4096):
        path.write_bytes(whole[:size])
        try:
            found, damage = read(path)
        except LoadError as error:
            assert "SQLite" in str(error)
            counts.append(0)
            continue
        assert found == expected[: len(found)] and bool(damage) == (size < len(whole))
        counts.append(len(found))
    assert counts == sorted(counts) and 0 < counts[-2] < counts[-1] == 2000


def test_damage_of_every_kind_is_a_load_error_or_rows(tmp_path):
    path = tmp_path / "x.db"
    made(path, n=100).close()
    whole = path.read_bytes()
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            place = rng.randrange(rng.choice((120, len(damaged))))
            damaged[place : place + 4] = rng.randbytes(4)
        path.write_bytes(damaged)
        with contextlib.suppress(LoadError):
            found, damage = read(path)
            assert len(found) <= 200 and isinstance(damage, str)
        assert isinstance(schema(path), dict)


def test_files_that_are_none_and_queries_that_fail(tmp_path):
    for name, content, said in (
        ("text", b"words", "not an SQLite database"),
        ("empty", b"", "not an SQLite database"),
        ("packed", b"\x1f\x8b\x08rest", "gzip"),
        ("header", b"SQLite format 3\x00" + bytes(84), "damaged|cannot be read"),
        ("noise", b"SQLite format 3\x00" + random.Random(0).randbytes(5000), "damaged|cannot be read"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LoadError, match=said), connect(tmp_path / name) as connection:
            tables(connection)
            connection.execute("SELECT * FROM t").fetchall()
    with pytest.raises(LoadError, match="cannot be opened"), connect(tmp_path / "missing.db"):
        pass
    made(tmp_path / "x.db").close()
    with pytest.raises(LoadError, match="no such table"), connect(tmp_path / "x.db") as connection:
        rows(connection, "SELECT * FROM missing")
    with pytest.raises(ZeroDivisionError), connect(tmp_path / "x.db"):
        raise ZeroDivisionError


def test_text_that_is_no_utf_8_and_a_foreign_view(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "x.db")) as connection:
        connection.execute("CREATE TABLE t (a, b)")
        connection.execute("INSERT INTO t VALUES (1, CAST(X'61FF62' AS TEXT))")
        endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS a FROM c"
        connection.execute(f"CREATE VIEW metrics AS {endless}")
        connection.commit()
    assert read(tmp_path / "x.db") == ([(1, "a\ufffdb")], "")
    assert schema(tmp_path / "x.db") == {"t": {"a", "b"}}, "a view is no table, and is not run"


def test_the_temporary_copy_is_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    writer = made(tmp_path / "x.db", "WAL")
    time.sleep(0.05)
    with connect(tmp_path / "x.db"):
        assert len(list((tmp_path / "temporary").iterdir())) == 1
    with pytest.raises(LoadError), connect(tmp_path / "x.db") as connection:
        connection.execute("nonsense")
    assert not list((tmp_path / "temporary").iterdir())
    writer.close()
    shutil.rmtree(tmp_path / "temporary")
