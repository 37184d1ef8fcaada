"""The lab as one process: a socket on loopback, one event loop, an end at once."""

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn
import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from apps.tokens.faultlab.app import LabApp
from apps.tokens.faultlab.http import TRANSPORT
from apps.tokens.faultlab.sites import Lab

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8901
BACKLOG: Final = 4_096
DEMO: Final[dict[str, dict[str, Any]]] = {
    "court_zxfw": {
        "accounts": {"demo": {"password": "correct-horse"}},
        "latency_s": 2,
        "expires_in": 3600,
    }
}


class HostRefused(Exception):
    """The lab hands out sessions for a known password; it serves this machine only."""


class LabProtocol(HttpToolsProtocol):
    """Gives the application its connection, so that a site can cut it."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRANSPORT] = self.transport  # type: ignore[typeddict-unknown-key]


class _Server(uvicorn.Server):
    """Leaves signals to `_serve`: uvicorn would wait for hanging clients first."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(host: str, port: int, *, demo: bool, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then end at once, whoever is still waiting.

    `announce` is called with the base URL once the lab answers. Port 0 takes a free one.
    Raises HostRefused, OSError if the port is taken.
    """
    listening = _listen(host, port)
    with listening:
        uvloop.run(_serve(listening, DEMO if demo else {}, announce))


def _listen(host: str, port: int) -> socket.socket:
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise HostRefused(f"{host} is not an address; use 127.0.0.1.") from None
    if not address.is_loopback:
        raise HostRefused(f"The fault lab serves loopback only, not {host}.")
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((str(address), port))
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


async def _serve(
    listening: socket.socket, sites: dict[str, dict[str, Any]], announce: Callable[[str], None]
) -> None:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    config = uvicorn.Config(
        LabApp(Lab(sites)),
        http=LabProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=BACKLOG,
        # Longer than any client keeps a connection: a reset must be one that was asked for.
        timeout_keep_alive=3_600,
    )
    serving = asyncio.create_task(_Server(config).serve([listening]))
    host, port = listening.getsockname()[:2]
    announce(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    serving.cancel()
