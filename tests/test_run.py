"""The `run` script, the keeper and the children it starts: with real processes."""

import importlib.machinery
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest
from django.contrib.auth.models import User

from apps.access.models import ApiKey
from apps.access.services import authenticate
from config import first_start, launcher
from config.children import ChildEnded, Children
from config.embedded import embedded_valkey, free_port

ROOT = Path(__file__).parents[1]
KEEPER = str(ROOT / "config" / "keeper.py")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, with its folders in a temporary place."""
    loader = importlib.machinery.SourceFileLoader("run_script", str(ROOT / "run"))
    spec = importlib.util.spec_from_loader("run_script", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    # Typed tuples look their module up by name.
    monkeypatch.setitem(sys.modules, "run_script", module)
    loader.exec_module(module)
    (tmp_path / "requirements").mkdir()
    for name in ("dev.txt", "uv.txt"):
        (tmp_path / "requirements" / name).write_text(f"{name} as it is\n")
    monkeypatch.setattr(module, "ROOT", tmp_path)
    for name, folder in (("TOOLS", ".tools"), ("VENV", ".venv"), ("REQUIREMENTS", "requirements")):
        monkeypatch.setattr(module, name, tmp_path / folder)
    for folder in (".tools", ".venv"):
        (tmp_path / folder).mkdir()
    module.stamp(module.TOOLS, module.REQUIREMENTS / "uv.txt")
    return module


@pytest.fixture
def children() -> Iterator[Children]:
    some = Children()
    yield some
    some.stop()


# The script ----------------------------------------------------------------------------------
def test_an_old_python_is_told_what_is_needed(run, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setenv("PATH", "/nowhere")

    with pytest.raises(SystemExit, match=r"Python 3\.11 to 3\.13; this is 3\.9"):
        run.use_supported_python()


def test_an_old_python_hands_over_to_a_newer_one_that_really_runs(run, monkeypatch, tmp_path):
    shim, real = tmp_path / "python3.13", tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\nexit 127\n")
    real.write_text("#!/bin/sh\nexit 0\n")
    for file in (shim, real):
        file.chmod(0o755)
    became: list[str] = []
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(sys, "argv", ["run", "test"])
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "execv", lambda path, args: became.extend(args))

    with pytest.raises(SystemExit):  # only because the stand-in for execv comes back
        run.use_supported_python()

    assert became == [str(real), str(tmp_path / "run"), "test"]


def test_the_environment_is_made_once_and_again_when_requirements_change(run, monkeypatch):
    commands: list[list[str]] = []
    monkeypatch.setattr(run, "install", commands.append)

    run.make_environment()
    first = len(commands)
    run.make_environment()
    assert len(commands) == first

    (run.REQUIREMENTS / "dev.txt").write_text("dev.txt, changed\n")
    run.make_environment()
    assert commands[-1][1:3] == ["pip", "sync"]
    assert len(commands) > first


def test_a_failed_installation_leaves_no_stamp(run, monkeypatch):
    monkeypatch.setattr(subprocess, "call", lambda *_args, **_kwargs: 1)
    with pytest.raises(SystemExit):
        run.make_environment()

    assert not (run.VENV / ".stamp").exists()


def test_python_without_pip_names_the_package_to_install(run, monkeypatch):
    (run.TOOLS / ".stamp").unlink()
    monkeypatch.setattr(subprocess, "call", lambda *_args, **_kwargs: 1)

    with pytest.raises(SystemExit, match="apt install python3-pip"):
        run.make_tools()


def _step(run: ModuleType, title: str, code: str, **environment: str):
    return run.Step(title, [sys.executable, "-c", code], environment)


def test_steps_stop_at_the_first_that_fails(run, capfd):
    steps = [
        _step(run, "one", "pass"),
        _step(run, "two", "raise SystemExit(3)"),
        _step(run, "three", "print('third ran')"),
    ]

    assert run.run_steps(steps, keep_going=False) == 1

    text = capfd.readouterr().out
    assert "FAILED (3)" in text
    assert "not run" in text
    assert "third ran" not in text


def test_keep_going_runs_all_steps_and_still_fails(run, capfd):
    steps = [_step(run, "one", "raise SystemExit(3)"), _step(run, "two", "print('second ran')")]

    assert run.run_steps(steps, keep_going=True) == 1

    assert "second ran" in capfd.readouterr().out


def test_a_step_leaves_no_process_and_no_temporary_file(run, capfd):
    code = (
        "import subprocess, sys, tempfile; "
        "print(tempfile.mkdtemp()); "
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)"
    )

    assert run.run_steps([_step(run, "messy", code)], keep_going=False) == 0

    lines = capfd.readouterr().out.splitlines()
    folder = next(line for line in lines if "latchkey-run-" in line)
    pid = next(int(line) for line in lines if line.isdigit())
    assert not Path(folder).exists()
    _assert_gone(pid)


def test_arguments_for_pytest_come_after_dashes(run):
    assert run.split_at_dashes(["--keep-going", "--", "-k", "x"]) == (["--keep-going"], ["-k", "x"])
    with pytest.raises(SystemExit, match="come after --"):
        run.test(["-k", "x"])


def test_every_command_of_the_help_text_exists(run):
    for line in run.__doc__.splitlines():
        words = line.split()
        if words[:1] == ["./run"] and not words[1].startswith("["):
            assert words[1] in run.COMMANDS


def test_ci_runs_what_the_readme_says():
    script = ROOT / ".ci" / "run"

    assert "exec ./run test\n" in script.read_text()
    assert os.access(script, os.X_OK)
    assert os.access(ROOT / "run", os.X_OK)


# The keeper ----------------------------------------------------------------------------------
def _eventually(fact: Callable[[], bool], *, within_s: float = 60) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if fact():
            return True
        time.sleep(0.02)
    return False


def _assert_gone(pid: int) -> None:
    def gone() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    assert _eventually(gone), f"process {pid} is still there"


def _keeper(*options: str) -> list[str]:
    return [sys.executable, KEEPER, "--parent", str(os.getpid()), *options, "--"]


def test_the_keeper_ends_its_command_when_the_parent_is_killed(tmp_path):
    folder, note = tmp_path / "data", tmp_path / "pid"
    folder.mkdir()
    command = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    parent_code = (
        "import os, subprocess, sys; subprocess.run([sys.executable, sys.argv[1], '--parent', "
        "str(os.getpid()), '--remove', sys.argv[2], '--', sys.executable, '-c', sys.argv[3]])"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", parent_code, KEEPER, str(folder), command], start_new_session=True
    )
    assert _eventually(lambda: note.exists() and note.read_text().isdigit())

    parent.kill()
    parent.wait()

    _assert_gone(int(note.read_text()))
    assert _eventually(lambda: not folder.exists())


def test_the_keeper_kills_what_does_not_end_in_time():
    stubborn = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1); time.sleep(60)"
    keeper = subprocess.Popen(
        [*_keeper("--grace", "0.3"), sys.executable, "-u", "-c", stubborn], stdout=subprocess.PIPE
    )
    assert keeper.stdout
    keeper.stdout.readline()

    keeper.send_signal(signal.SIGTERM)

    assert keeper.wait(timeout=60) == 0


@pytest.mark.parametrize(
    ("code", "expected"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", 137)]
)
def test_the_keeper_returns_the_exit_code_of_its_command(code, expected):
    keeper = subprocess.run([*_keeper(), sys.executable, "-c", code], check=False)

    assert keeper.returncode == expected


def test_a_bundled_valkey_can_be_started_again_at_the_same_address():
    import redis

    with embedded_valkey() as url:
        client = redis.Redis.from_url(url)
        client.set("a", 1)
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(url).ping()

    with embedded_valkey(url) as again:
        assert again == url
        assert redis.Redis.from_url(url).get("a") is None


# The children --------------------------------------------------------------------------------
def test_a_child_that_ends_by_itself_is_named_with_its_code(children):
    children.start("web", [sys.executable, "-c", "raise SystemExit(7)"], os.environ)

    with pytest.raises(ChildEnded, match="web ended by itself with exit code 7"):
        children.watch()


def test_what_children_print_stands_behind_their_names(children, capsys):
    children.start("lab", [sys.executable, "-c", "print('hello')"], os.environ)

    with pytest.raises(ChildEnded):
        children.watch()
    children.stop()

    assert "lab     | hello\n" in capsys.readouterr().out


def test_waiting_for_a_port_ends_when_the_child_does(children):
    children.start("web", [sys.executable, "-c", "raise SystemExit(1)"], os.environ)

    with pytest.raises(ChildEnded):
        children.wait_for_port(free_port(), timeout_s=60)


def test_children_end_together_and_without_the_grace_they_do_not_need(children, monkeypatch):
    """Were the grace waited for, this test would run into its time-out."""
    monkeypatch.setattr("config.children.GRACE_S", 3_600)
    for name in ("web", "workers"):
        children.start(name, [sys.executable, "-c", "import time; time.sleep(3600)"], os.environ)

    children.stop()

    with pytest.raises(ChildEnded):
        children.check()


def test_a_taken_port_is_a_clear_error():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        with pytest.raises(launcher.CannotStart, match=f"Port {port} cannot be used"):
            launcher._refuse_taken_port(port, "another with --port")


@pytest.mark.parametrize(
    ("answers", "asked", "said"),
    [
        ([(202, {}), (503, {}), (200, {"id": 1})], 3, ""),
        ([(202, {"waiting_for": {"code": "site_paused"}})], 1, "site_paused"),
        ([(404, {"answer": "unknown_account"})], 1, "unknown_account"),
    ],
)
def test_a_demonstration_that_cannot_log_in_ends_nothing(
    children, monkeypatch, capsys, answers, asked, said
):
    calls = []
    monkeypatch.setattr(launcher, "_acquire", lambda *_: calls.append(1) or answers[len(calls) - 1])
    monkeypatch.setattr(launcher.time, "sleep", lambda _s: None)

    token = launcher._first_token(children, "http://127.0.0.1:1", "key")

    assert len(calls) == asked
    assert (token is None) == bool(said)
    assert said in capsys.readouterr().out


# The first start -----------------------------------------------------------------------------
@pytest.fixture
def data_folder(transactional_db, settings, tmp_path: Path) -> Path:
    settings.DATA_DIR, settings.STATIC_ROOT = tmp_path, tmp_path / "static"
    return tmp_path


def test_a_first_start_makes_what_is_needed_and_a_second_one_keeps_it(data_folder):
    first = first_start.prepare()
    second = first_start.prepare()

    admin = User.objects.get(username="admin")
    assert first.password
    assert admin.check_password(first.password)
    assert (second.password, second.api_key) == (None, first.api_key)
    assert authenticate(first.api_key).username == "admin"
    assert (data_folder / "static" / "admin").is_dir()
    for name, text in (("admin-password", first.password), ("api-key", first.api_key)):
        assert (data_folder / name).read_text() == f"{text}\n"
        assert (data_folder / name).stat().st_mode & 0o777 == 0o600
    assert first.password not in repr(first)
    assert first.api_key not in repr(first)


def test_a_key_of_another_database_is_replaced(data_folder):
    first = first_start.prepare()
    ApiKey.objects.all().delete()

    assert first_start.prepare().api_key != first.api_key
