"""The way from the ASGI server to Django."""

import asyncio
import subprocess
import sys

from config.asgi import application


async def request_id_of(name: bytes) -> str:
    """Ask for a page that does not exist; return the request id of the answer."""
    begun, left = [], asyncio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        return messages.pop() if messages else await left.wait()

    async def send(message):
        begun.append(message)

    scope = {
        "type": "http", "method": "GET", "path": "/nowhere", "query_string": b"", "scheme": "http",
        "http_version": "1.1", "server": ("localhost", 80), "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (name, b"chosen-by-the-caller")],
    }  # fmt: skip
    await application(scope, receive, send)
    return dict(begun[0]["headers"])[b"x-request-id"].decode()


async def test_a_header_with_an_underscore_does_not_pass_for_the_one_with_a_hyphen():
    """A proxy in front checks and replaces the one with a hyphen only."""
    assert await request_id_of(b"x-request-id") == "chosen-by-the-caller"
    assert await request_id_of(b"x_request_id") != "chosen-by-the-caller"


async def test_a_caller_who_sends_slowly_has_no_turn_yet():
    """Or a few who never finish would hold up everybody."""
    coming = asyncio.Event()

    async def slowly():
        await coming.wait()
        return {"type": "http.disconnect"}

    async def nothing(message):
        raise AssertionError(message)

    scope = {"type": "http", "method": "POST", "path": "/nowhere", "headers": []}
    waiting = [asyncio.create_task(application(scope, slowly, nothing)) for _ in range(40)]
    assert await request_id_of(b"x-request-id") == "chosen-by-the-caller"
    coming.set()
    await asyncio.gather(*waiting)


STARTED = """
import asyncio, gc, sys
from config.asgi import application

async def main():
    messages = [{"type": "lifespan.shutdown"}, {"type": "lifespan.startup"}]
    answers = []
    async def receive():
        return messages.pop()
    async def send(message):
        answers.append(message["type"])
        if len(answers) == 1:
            print("apps.tokens.viewsets.sites" in sys.modules, gc.get_freeze_count() > 100_000)
    await application({"type": "lifespan"}, receive, send)
    print(answers)

asyncio.run(main())
"""


def test_a_process_that_has_started_has_loaded_everything_and_looks_through_it_no_more():
    """Or the first request waits for it, and every large collection stops the process."""
    done = subprocess.run(
        [sys.executable, "-c", STARTED], capture_output=True, text=True, check=True, timeout=60
    )
    first, second = done.stdout.splitlines()
    assert first == "True True"
    assert second == "['lifespan.startup.complete', 'lifespan.shutdown.complete']"
