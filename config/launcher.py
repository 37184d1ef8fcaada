"""Everything on one machine: what `./run` starts once the environment stands.

Web, workers and the fault lab as child processes, a first token from the demonstration site, and
a summary of where everything is. Ends with Ctrl-C or SIGTERM, or when one of the children ends.
"""

import argparse
import errno
import json
import os
import shutil
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack, closing
from typing import Any, Final

from config.children import ChildEnded, Children, Stopped, stopping_on_signals
from config.embedded import embedded_valkey
from config.first_start import ADMIN, Prepared, prepare

API: Final = "/api/v1/automation"
LAB_PORT: Final = 8901
DEMO: Final = {"site": "court_zxfw", "account": "demo"}
READY_TIMEOUT_S: Final = 60
TOKEN_TIMEOUT_S: Final = 60


class CannotStart(RuntimeError):
    """Something on this machine is in the way; the message says what to do."""


def main() -> int:
    """Return 0 when asked to stop, 1 when something ended that should not have."""
    options = parser().parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings.local")
    try:
        with stopping_on_signals():
            _run(options)
    except Stopped as reason:
        _say(f"Stopped ({reason}).")
        return 0
    except (ChildEnded, CannotStart, TimeoutError) as error:
        _say(f"run: {error}")
    return 1


def parser() -> argparse.ArgumentParser:
    """Return what reads the options of `./run` without a command."""
    words = argparse.ArgumentParser(prog="./run", description="Start Latchkey on this machine.")
    words.add_argument("--port", type=int, default=8000, help="of the web server (8000)")
    words.add_argument("--valkey", action="store_true", help="also run a bundled Valkey")
    words.add_argument("--no-demo", action="store_true", help="without the login site to try")
    return words


def _run(options: argparse.Namespace) -> None:
    _refuse_taken_port(options.port, "another with --port")
    if not options.no_demo:
        _refuse_taken_port(LAB_PORT, "to do without the demonstration site with --no-demo")
    with ExitStack() as stack:
        if options.valkey:
            os.environ["REDIS_URL"] = stack.enter_context(embedded_valkey())
        began = time.monotonic()
        _say("Preparing the database and the static files ...")
        prepared = prepare()
        _say(f"  done in {time.monotonic() - began:.1f} s")
        children = Children()
        # Entered before the first start, so that a stop in the middle ends what runs already.
        stack.callback(children.stop)
        stack.callback(_say, "Stopping ...")
        _start(children, options)
        children.wait_for_port(options.port, timeout_s=READY_TIMEOUT_S)
        base = f"http://127.0.0.1:{options.port}"
        token = None if options.no_demo else _first_token(children, base, prepared.api_key)
        _say(_summary(base, prepared, token, demo=not options.no_demo))
        children.watch()


def _start(children: Children, options: argparse.Namespace) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    manage = [sys.executable, "manage.py"]
    if not options.no_demo:
        children.start("lab", [*manage, "fault_lab", "--demo"], environment)
        children.wait_for_port(LAB_PORT, timeout_s=READY_TIMEOUT_S)
        _register_demo()
    web = [sys.executable, "-m", "uvicorn", "config.asgi:application", "--host", "127.0.0.1"]
    web += ["--port", str(options.port), "--log-level", "warning"]
    children.start("web", [*web, "--timeout-graceful-shutdown", "5"], environment)
    children.start("workers", [*manage, "workers"], environment)


def _register_demo() -> None:
    from django.core.management import call_command
    from django.db import connections

    call_command("demo")
    connections.close_all()


def _refuse_taken_port(port: int, instead: str) -> None:
    """Raises CannotStart while somebody listens on the port."""
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            raise CannotStart(
                f"Port {port} cannot be used ({error.strerror}); choose {instead}."
            ) from error


def _first_token(children: Children, base: str, api_key: str) -> Mapping[str, Any] | None:
    """Ask as any program would; return the answer, or say why there is none.

    The demonstration site is the owner's to change, pause or break: that ends nothing else.
    """
    deadline = time.monotonic() + TOKEN_TIMEOUT_S
    _say(f"Asking for a token of {DEMO['account']} at {DEMO['site']} ...")
    status = 0
    answer: dict[str, Any] = {}
    while time.monotonic() < deadline:
        children.check()
        status, answer = _acquire(base, api_key)
        if status == 200:
            return answer
        if status not in (202, 503) or answer.get("waiting_for"):
            break
        time.sleep(0.5)
    _say(f"No token; the answer was {status}: {json.dumps(answer, ensure_ascii=False)}")
    return None


def _acquire(base: str, api_key: str) -> tuple[int, dict[str, Any]]:
    """Call the API once; return status and content."""
    request = urllib.request.Request(  # noqa: S310  # our own address
        f"{base}{API}/tokens/acquire",
        data=json.dumps({**DEMO, "max_wait_s": 5, "purpose": "first start"}).encode(),
        headers={"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"},
    )
    # A proxy of the caller's environment has no business between us and ourselves.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, {"answer": error.read(2_000).decode(errors="replace")}


def _summary(base: str, prepared: Prepared, token: Mapping[str, Any] | None, *, demo: bool) -> str:
    key_file = prepared.folder / "api-key"
    password = prepared.password or f"in {prepared.folder / 'admin-password'}"
    rows = [
        ("Admin", f"{base}/admin/   user {ADMIN}, password {password}"),
        ("API", f"{base}{API}/docs"),
        ("API key", f"{prepared.api_key}   also in {key_file}"),
    ]
    if demo:
        rows.insert(2, ("Fault lab", f"http://127.0.0.1:{LAB_PORT}/"))
    rule = "=" * min(100, shutil.get_terminal_size((80, 24)).columns)
    lines = [rule, "Latchkey is running. Ctrl-C ends it.", ""]
    lines += [f"  {name:<10} {value}" for name, value in rows]
    if token is not None:
        lines += ["", "A token of the demonstration site, obtained just now:", _indented(token)]
        lines += ["", "The same by hand:", "", _curl(base, str(key_file))]
    return "\n".join([*lines, rule])


def _indented(value: Mapping[str, Any]) -> str:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "\n".join(f"  {line}" for line in text.splitlines())


def _curl(base: str, key_file: str) -> str:
    body = json.dumps({**DEMO, "max_wait_s": 30})
    return (
        f'  curl -s {base}{API}/tokens/acquire -H "Authorization: Bearer $(cat {key_file})" \\\n'
        f"    -H 'Content-Type: application/json' -d '{body}'"
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
