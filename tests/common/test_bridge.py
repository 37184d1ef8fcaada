"""Django inside the ASGI server: what goes in, what comes out, and who has to wait."""

import asyncio
import threading
from contextvars import ContextVar

import pytest

from apps.common import bridge
from apps.common.bridge import TURNS, Bridge

word = ContextVar("word", default="")


class Caller:
    """One connection: what the server gives to an application, and what it is given back."""

    def __init__(self, *parts, method="GET", path="/a", headers=(), query=b"", **scope):
        self.scope = {
            "type": "http", "method": method, "path": path, "query_string": query,
            "http_version": "1.1", "scheme": "https", "server": ("here", 8000),
            "client": ("10.0.0.9", 4711), "headers": list(headers), **scope,
        }  # fmt: skip
        self.messages = [
            {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
            for number, part in enumerate(parts or (b"",))
        ]
        self.sent, self.left = [], asyncio.Event()

    async def receive(self):
        if self.messages:
            return self.messages.pop(0)
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent.append(message)

    async def ask(self, app):
        await app(self.scope, self.receive, self.send)
        return b"".join(message.get("body", b"") for message in self.sent)


class Answer(list):
    """What Django returns where it does not stream."""

    streaming = False

    def __init__(self, *pieces):
        super().__init__(pieces)
        self.closed = 0

    def close(self):
        self.closed += 1


async def until(fact):
    """Wait for what another thread does."""
    async with asyncio.timeout(60):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def bridged(application, threads=8):
    return Bridge(application, threads=threads)


def telling(environ, start_response):
    """Answer what the environment holds."""
    start_response("200 OK", [("X-Told", "yes"), ("Content-Type", "text/plain")])
    found = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return Answer(repr(found | {"body": body}).encode())


async def told(*parts, **about):
    return eval(await Caller(*parts, **about).ask(bridged(telling)))  # our own repr


async def test_a_request_arrives_as_wsgi_says():
    headers = [(b"content-type", b"application/json"), (b"x-a", b"1"), (b"x-a", b"2")]
    found = await told(b'{"a"', b": 1}", method="POST", path="/é", query=b"q=%20", headers=headers)

    assert found["body"] == b'{"a": 1}'
    assert found["CONTENT_LENGTH"] == "8"  # also where the caller did not say
    assert (found["REQUEST_METHOD"], found["QUERY_STRING"]) == ("POST", "q=%20")
    assert found["PATH_INFO"].encode("latin-1").decode() == "/é"
    assert (found["CONTENT_TYPE"], found["HTTP_X_A"]) == ("application/json", "1,2")
    assert "HTTP_CONTENT_TYPE" not in found
    assert (found["REMOTE_ADDR"], found["wsgi.url_scheme"]) == ("10.0.0.9", "https")


async def test_a_header_cannot_pass_for_another():
    headers = [(b"x_forwarded_proto", b"https"), (b"x-forwarded-for", b"1.2.3.4")]
    found = await told(headers=headers)

    assert "HTTP_X_FORWARDED_PROTO" not in found
    assert found["HTTP_X_FORWARDED_FOR"] == "1.2.3.4"


async def test_an_answer_leaves_whole_and_is_closed():
    answer = Answer(b"a", b"b")

    def application(environ, start_response):
        start_response("404 Not Found", [("X-One", "é")])
        return answer

    caller = Caller()
    assert await caller.ask(bridged(application)) == b"ab"
    headers = [(b"x-one", "é".encode("latin-1"))]
    assert caller.sent == [
        {"type": "http.response.start", "status": 404, "headers": headers},
        {"type": "http.response.body", "body": b"ab"},
    ]
    assert answer.closed == 1


async def test_a_body_is_read_only_as_far_as_shows_that_it_is_too_long(settings):
    settings.LATCHKEY_MAX_BODY_BYTES = 10
    caller = Caller(b"12345678", b"9012", b"more", method="POST")
    found = eval(await caller.ask(bridged(telling)))

    assert found["body"] == b"123456789012"
    assert len(caller.messages) == 1


async def test_nobody_is_asked_for_a_caller_who_left_in_the_middle_of_the_body():
    asked = []
    caller = Caller(b"12", method="POST")
    caller.messages[0]["more_body"] = True
    caller.left.set()
    await caller.ask(bridged(lambda *_: asked.append(1)))

    assert (asked, caller.sent) == ([], [])


async def test_an_error_goes_to_the_server():
    def application(environ, start_response):
        raise LookupError("broken")

    with pytest.raises(LookupError):
        await Caller().ask(bridged(application))


async def test_the_context_of_the_request_goes_into_the_thread_and_not_back():
    def application(environ, start_response):
        start_response("200 OK", [])
        seen = word.get()
        word.set("changed")
        return Answer(seen.encode())

    word.set("mine")
    app = bridged(application, threads=1)
    assert await Caller().ask(app) == b"mine"
    assert await Caller().ask(app) == b"mine"


async def test_a_stream_leaves_piece_by_piece_from_one_thread():
    threads = set()

    def pieces():
        for number in range(3):
            threads.add(threading.get_ident())
            yield str(number).encode()

    class Streaming:
        streaming, closed = True, 0

        def __iter__(self):
            return pieces()

        def close(self):
            Streaming.closed += 1

    def application(environ, start_response):
        start_response("200 OK", [])
        return Streaming()

    caller = Caller()
    assert await caller.ask(bridged(application)) == b"012"
    assert [message.get("more_body", False) for message in caller.sent] == [
        False,
        *[True] * 3,
        False,
    ]
    assert len(threads) == 1
    assert Streaming.closed == 1


async def test_a_stream_ends_when_its_caller_leaves():
    made, ended = [], threading.Event()

    class Endless:
        streaming = True

        def __iter__(self):
            while True:
                made.append(1)
                yield b"x"

        def close(self):
            ended.set()

    def application(environ, start_response):
        start_response("200 OK", [])
        return Endless()

    caller = Caller()
    asking = asyncio.create_task(caller.ask(bridged(application)))
    await until(lambda: len(caller.sent) >= 3)
    caller.left.set()
    await asyncio.wait_for(asking, 60)

    assert ended.is_set()


class Held:
    """An application that holds its callers until they are let go."""

    def __init__(self):
        self.inside, self.most, self.lock = 0, 0, threading.Lock()
        self.go = threading.Event()

    def __call__(self, environ, start_response):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.go.wait(60)
        with self.lock:
            self.inside -= 1
        start_response("200 OK", [])
        return Answer(b"")

    async def until(self, inside):
        await until(lambda: self.inside >= inside)


async def all_of(app, *methods):
    return [asyncio.create_task(Caller(method=method).ask(app)) for method in methods]


async def test_few_compute_at_a_time_and_writes_do_not_queue_behind_reads(monkeypatch):
    monkeypatch.setattr(bridge, "PATIENCE_S", 60)
    held = Held()
    app = bridged(held)
    asking = await all_of(app, *["GET"] * 6)
    await held.until(TURNS)
    asking += await all_of(app, "POST")
    await held.until(TURNS + 1)
    held.go.set()
    await asyncio.gather(*asking)

    assert held.most == TURNS + 1


async def test_those_who_hold_their_turn_for_long_hold_up_nobody(monkeypatch):
    monkeypatch.setattr(bridge, "PATIENCE_S", 0.01)
    held = Held()
    asking = await all_of(bridged(held), *["GET"] * 6)
    await held.until(6)
    held.go.set()
    await asyncio.gather(*asking)
