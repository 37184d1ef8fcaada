"""A second host on one machine: a network and a host name of its own.

Nothing leaves the machine: inside there is only a loopback interface. What a host may reach
(database, lab, Valkey) is relayed from its loopback to ours, and the relay can be cut.
"""

import asyncio
import ctypes
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

CLONE_NEWNET: Final = 0x40000000
SIOCSIFFLAGS: Final = 0x8914
IFF_UP_RUNNING: Final = 0x41


def why_not() -> str:
    """Return why namespaces cannot be used here; '' if they can."""
    for program in ("unshare", "nsenter"):
        if shutil.which(program) is None:
            return f"there is no {program} (util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--uts", "true"], capture_output=True, text=True, check=False
    )
    return "" if tried.returncode == 0 else tried.stderr.strip() or "unshare is not allowed"


@dataclass(slots=True)
class Namespace:
    """A network and UTS namespace held open by a process; `cut` drops all its connections."""

    holder: subprocess.Popen[bytes]
    loop: asyncio.AbstractEventLoop
    is_cut: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def enter(self) -> list[str]:
        """The command that runs another one in here."""
        at = f"/proc/{self.holder.pid}/ns"
        return ["nsenter", f"--net={at}/net", f"--uts={at}/uts"]

    def cut(self) -> None:
        """Take the host off the network: connections hang, new ones are not answered."""
        self.is_cut = True

    def mend(self) -> None:
        """End what hung while the host was away; new connections work again."""
        self.loop.call_soon_threadsafe(self._mend)

    def _mend(self) -> None:
        # Dropped first: what was held back on the way must not arrive late.
        for writer in self._open:
            writer.transport.abort()
        self.is_cut = False

    async def relay(self, listener: socket.socket, port: int) -> None:
        """Serve connections of the namespace's loopback from ours."""

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there = await asyncio.open_connection("127.0.0.1", port)
            self._open |= {writer, there[1]}
            both = [self._pump(reader, there[1]), self._pump(there[0], writer)]
            tasks = [asyncio.ensure_future(one) for one in both]
            # Either end closed: the other must hear it, as it would on a wire.
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            for end in (writer, there[1]):
                self._open.discard(end)
                end.close()

        await asyncio.start_server(serve, sock=listener)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._connected()
                target.write(data)
                await target.drain()
            await self._connected()  # nobody hears of a closed end either

    async def _connected(self) -> None:
        while self.is_cut:  # noqa: ASYNC110 - set from another thread
            await asyncio.sleep(0.02)


@contextmanager
def namespace(name: str, ports: list[int]) -> Iterator[Namespace]:
    """Make a host called `name` whose loopback reaches these ports of ours."""
    command = ["unshare", "--net", "--uts", "sh", "-c", f"hostname {name} && exec sleep 86400"]
    holder = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=f"relay-{name}", daemon=True)
    thread.start()
    try:
        _wait_for_exec(holder)
        here = Namespace(holder, loop)
        for port, listener in zip(ports, _listeners(holder.pid, ports), strict=True):
            asyncio.run_coroutine_threadsafe(here.relay(listener, port), loop).result(10)
        yield here
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        holder.kill()
        holder.wait()


def _wait_for_exec(holder: subprocess.Popen[bytes]) -> None:
    """Return when the holder is in its namespaces and has its name: it sleeps then."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with open(f"/proc/{holder.pid}/comm", encoding="ascii") as comm:
            if comm.read().strip() == "sleep":
                return
        time.sleep(0.01)
    raise RuntimeError("The namespace was not made in time.")


def _listeners(pid: int, ports: list[int]) -> list[socket.socket]:
    """Make sockets that listen inside; a socket stays in the namespace it was made in."""
    made: list[socket.socket] = []
    failed: list[BaseException] = []

    def inside() -> None:
        try:
            with open(f"/proc/{pid}/ns/net", "rb") as target:
                if ctypes.CDLL(None, use_errno=True).setns(target.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            _loopback_up()
            for port in ports:
                listener = socket.create_server(("127.0.0.1", port))
                made.append(listener)
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            failed.append(error)

    # In a thread of its own: setns moves the calling thread only, and this one ends.
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return made


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP_RUNNING))
