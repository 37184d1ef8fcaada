"""A database that is away for a while."""

import os
import signal
import socket
import sqlite3
from pathlib import Path

import psycopg
import pytest
from django.core.checks import run_checks
from django.db import InterfaceError, OperationalError, connection, transaction

from apps.common import checks, database
from apps.common.database import fresh_connections, is_unavailable, with_retry


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("database is locked"),
        OperationalError("unable to open database file"),
        OperationalError("connection refused"),
        InterfaceError("connection already closed"),
        sqlite3.OperationalError("database is locked"),
        psycopg.OperationalError("server closed the connection"),
    ],
    ids=repr,
)
def test_an_absent_database_is_known_as_such(error):
    assert is_unavailable(error)


@pytest.mark.parametrize(
    "error",
    [
        OperationalError("no such table: x"),
        OperationalError('near "SELEC": syntax error'),
        ConnectionRefusedError("some site"),
        ValueError("database is locked"),
    ],
    ids=repr,
)
def test_other_failures_are_not_the_databases(error):
    assert not is_unavailable(error)


def failing(times: int, error: Exception):
    """A call that fails so many times, and the list of its tries."""
    tries: list[int] = []

    def call() -> str:
        tries.append(1)
        if len(tries) <= times:
            raise error
        return "done"

    return call, tries


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(database, "FIRST_WAIT_S", 0.001)


@pytest.mark.django_db(transaction=True)
def test_a_lost_connection_is_dropped_before_the_next_try():
    call, tries = failing(2, OperationalError("server closed the connection"))
    left_open = []

    def use() -> str:
        left_open.append(connection.connection is not None)
        connection.ensure_connection()
        return call()

    connection.ensure_connection()
    assert with_retry(use) == "done"
    assert len(tries) == 3
    assert left_open == [True, False, False]


@pytest.mark.django_db(transaction=True)
def test_retrying_is_bounded():
    call, tries = failing(99, OperationalError("connection refused"))
    with pytest.raises(OperationalError):
        with_retry(call, attempts=3)
    assert len(tries) == 3


@pytest.mark.django_db(transaction=True)
def test_our_own_mistakes_are_not_retried():
    call, tries = failing(99, OperationalError("no such table: x"))
    with pytest.raises(OperationalError):
        with_retry(call)
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_nothing_is_retried():
    call, tries = failing(1, OperationalError("server closed the connection"))
    with pytest.raises(OperationalError), transaction.atomic():
        with_retry(call)
    assert len(tries) == 1


@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no network")
def test_a_database_that_vanishes_without_a_word_is_noticed_in_half_a_minute():
    connection.ensure_connection()
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as line:

        def option(name):
            return line.getsockopt(socket.IPPROTO_TCP, name)

        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        probes_s = option(socket.TCP_KEEPINTVL) * option(socket.TCP_KEEPCNT)
        assert option(socket.TCP_KEEPIDLE) + probes_s <= 30
        assert 0 < option(socket.TCP_USER_TIMEOUT) <= 30_000


@pytest.mark.django_db(transaction=True)
def test_a_dead_connection_is_dropped_before_the_work():
    connection.ensure_connection()
    connection.close_at = 0  # past its age
    with fresh_connections():
        assert connection.connection is None


@pytest.mark.django_db(transaction=True)
def test_an_old_connection_is_dropped_after_failed_work():
    def work():
        with fresh_connections():
            connection.ensure_connection()
            connection.close_at = 0
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        work()
    assert connection.connection is None


def ids() -> set[str]:
    return {str(message.id) for message in run_checks(tags=["security", "files"])}


def test_unreadable_keys_are_an_error(settings):
    settings.LATCHKEY_KEYS = "k1:hunter2"
    assert [e.id for e in checks.keys_can_be_read(None)] == ["common.E001"]
    assert "hunter2" not in checks.keys_can_be_read(None)[0].msg


def test_missing_folders_are_made(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path / "a" / "b"
    monkeypatch.setitem(settings.DATABASES["default"], "NAME", str(tmp_path / "c" / "x.sqlite3"))
    monkeypatch.setitem(settings.DATABASES["default"], "ENGINE", "django.db.backends.sqlite3")
    assert checks.folders_can_be_written(None) == []
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "c").is_dir()


def test_a_folder_that_cannot_be_made_is_an_error(settings, tmp_path):
    (tmp_path / "file").touch()
    settings.DATA_DIR = tmp_path / "file" / "data"
    assert "common.E002" in {e.id for e in checks.folders_can_be_written(None)}


def test_a_read_only_folder_is_an_error(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    assert "common.E002" in {e.id for e in checks.folders_can_be_written(None)}


def test_the_checks_are_registered(settings):
    settings.LATCHKEY_KEYS = ""
    settings.DATA_DIR = "/dev/null/x"
    assert {"common.E001", "common.E002"} <= ids()


@pytest.mark.django_db(transaction=True)
def test_a_connection_is_kept_from_one_piece_of_work_to_the_next():
    used = []
    for _ in range(2):
        with fresh_connections():
            connection.ensure_connection()
            used.append(connection.connection)

    assert used[0] is used[1]


def pid() -> int:
    with fresh_connections(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
def test_a_connection_that_the_server_has_ended_is_replaced_before_it_is_used():
    first = pid()
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])  # returns when it is gone

    assert pid() != first


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
def test_a_silent_connection_is_kept_without_asking_the_server(monkeypatch):
    first, asked = pid(), []
    monkeypatch.setattr(connection, "is_usable", lambda: asked.append(1) or True)

    assert pid() == first
    assert not asked


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has no server")
def test_a_server_that_hangs_is_not_waited_for():
    first = pid()
    database.ping(within_s=5)
    assert pid() == first

    os.kill(first, signal.SIGSTOP)
    try:
        with pytest.raises(OperationalError, match="The database said nothing") as caught:
            database.ping(within_s=0.2)
    finally:
        os.kill(first, signal.SIGCONT)

    assert is_unavailable(caught.value)
    assert pid() != first
