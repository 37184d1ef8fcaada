"""Calls that hang hold up nobody: not who made them, and not the interpreter's end."""

import asyncio
import socket
import subprocess
import sys
import time

import pytest

from apps.common import detached

HANGS_S = 20.0


def test_names_are_looked_up():
    async def look_up():
        loop = asyncio.get_running_loop()
        return await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)

    assert [address for *_, address in detached.run(look_up())] == [("127.0.0.1", 80)]


def test_an_error_comes_back():
    def fails():
        raise LookupError("no such name")

    with pytest.raises(LookupError, match="no such name"):
        detached.begin(fails).result(5)


def test_nobody_waits_for_a_resolver_that_hangs(hanging_resolver):
    async def look_up():
        async with asyncio.timeout(0.05):
            await asyncio.get_running_loop().getaddrinfo("hangs.example", 80)

    began = time.monotonic()
    with pytest.raises(TimeoutError):
        detached.run(look_up())

    assert time.monotonic() - began < HANGS_S / 2


def test_the_interpreter_does_not_wait_for_it():
    script = (
        "import time; from apps.common import detached\n"
        f"detached.begin(lambda: time.sleep({HANGS_S})); print('end')"
    )
    began = time.monotonic()

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)

    assert done.stdout == b"end\n"
    assert time.monotonic() - began < HANGS_S
