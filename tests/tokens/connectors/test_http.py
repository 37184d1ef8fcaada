"""What the guarded client lets out, and what it makes of what comes back."""

import asyncio
import gzip
import ssl
import traceback
import tracemalloc

import httpx
import pytest

from apps.tokens.connectors import http
from apps.tokens.errors import (
    HostNotAllowed,
    LeaseLost,
    LoginTimedOut,
    NetworkFailure,
    RecipeError,
    UnexpectedPage,
)
from tests.tokens.connectors.fakes import FakeContext, make_site
from tests.tokens.connectors.loopback import answer, loopback

SECRET = "s3cret"
# Before there is a connection, before the headers, before the body.
CHECKS_A_REQUEST = 3


def context_for(port, **changes):
    return FakeContext(site=make_site(allowed_hosts=(f"127.0.0.1:{port}",), **changes))


async def test_a_host_that_is_not_listed_is_refused_before_anything_is_sent():
    async with loopback({"/": answer()}) as server:
        context = FakeContext(site=make_site(allowed_hosts=("portal.example",)))
        async with context.http() as client:
            with pytest.raises(HostNotAllowed):
                await client.get(server.base + "/")
    assert server.connections == 0
    assert context.events == []


async def test_a_redirect_to_a_host_that_is_not_listed_is_not_followed():
    async with loopback({"/stolen": answer()}) as other:
        moved = answer(status="302 Found", headers={"Location": other.base + "/stolen"})
        async with (
            loopback({"/": moved}) as server,
            context_for(server.port).http(follow_redirects=True) as client,
        ):
            with pytest.raises(HostNotAllowed):
                await client.get(server.base + "/")
    assert other.connections == 0


async def test_the_lease_is_checked_before_every_hop():
    moved = answer(status="302 Found", headers={"Location": "/next"})
    async with loopback({"/": moved, "/next": answer()}) as server:
        context = context_for(server.port)
        context.leases = CHECKS_A_REQUEST
        async with context.http(follow_redirects=True) as client:
            with pytest.raises(LeaseLost):
                await client.get(server.base + "/")
    assert server.paths == ["/"]


@pytest.mark.parametrize("checks", range(CHECKS_A_REQUEST))
async def test_a_lease_that_ends_on_the_way_stops_what_has_not_left(checks):
    """A worker stopped between its look at the lease and its writing would send later."""
    async with loopback({"/": answer()}) as server:
        context = context_for(server.port)
        context.leases = checks
        async with context.http() as client:
            with pytest.raises(LeaseLost):
                await client.post(server.base + "/", json={"password": SECRET})
        await asyncio.sleep(0)
    assert server.connections == (1 if checks else 0)
    assert server.paths == (["/"] if checks == CHECKS_A_REQUEST - 1 else [])


async def test_what_was_about_to_be_written_is_not_sent_after_hanging_up():
    """Stopped right after its last look, a worker hangs up before it goes on."""
    looks = []

    async def look():
        looks.append(True)
        if len(looks) == CHECKS_A_REQUEST - 1:
            http.hang_up()

    async with loopback({"/": answer()}) as server:
        site = context_for(server.port).site
        async with http.guarded_client(site, before_send=look) as client:
            with pytest.raises(NetworkFailure):
                await client.post(server.base + "/", json={"password": SECRET})
        await asyncio.sleep(0)
    assert (server.connections, server.paths) == (1, [])


async def test_a_refused_connection_is_the_network():
    async with loopback({}) as server:
        pass
    async with context_for(server.port).http() as client:
        with pytest.raises(NetworkFailure) as caught:
            await client.get(f"{server.base}/path?password=s3cret")
    assert isinstance(caught.value.__cause__, httpx.ConnectError)
    assert "s3cret" not in caught.value.message
    assert "/path" not in caught.value.message


async def test_an_answer_that_drips_is_cut_at_the_time_out_of_the_whole_exchange():
    async with (
        loopback({"/": answer()}, drip_s=0.1) as server,
        context_for(server.port, request_timeout_s=0.2).http() as client,
    ):
        with pytest.raises(LoginTimedOut):
            await client.get(server.base + "/")


async def test_a_request_does_not_outlive_the_login():
    async with loopback({"/": answer()}, drip_s=0.1) as server:
        context = context_for(server.port)
        context.deadline = lambda: 0.2
        async with context.http() as client:
            with pytest.raises(LoginTimedOut):
                await client.get(server.base + "/")


async def test_nothing_is_sent_after_the_deadline():
    async with loopback({"/": answer()}) as server:
        context = context_for(server.port)
        context.deadline = lambda: 0.0
        async with context.http() as client:
            with pytest.raises(LoginTimedOut):
                await client.get(server.base + "/")
    assert server.connections == 0


async def test_a_large_answer_is_refused():
    async with (
        loopback({"/": answer(b"x" * (http.MAX_ANSWER_BYTES + 1))}) as server,
        context_for(server.port).http() as client,
    ):
        with pytest.raises(UnexpectedPage, match="larger"):
            await client.get(server.base + "/")


async def test_a_bomb_is_noticed_before_it_is_unpacked():
    bomb = answer(gzip.compress(b"x" * 50_000_000), headers={"Content-Encoding": "gzip"})
    async with loopback({"/": bomb}) as server, context_for(server.port).http() as client:
        tracemalloc.start()
        try:
            with pytest.raises(UnexpectedPage, match="larger"):
                await client.get(server.base + "/")
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 20_000_000


async def test_a_compressed_answer_is_measured_unpacked_and_read_once():
    headers = {"Content-Encoding": "gzip"}
    answers = {
        "/bomb": answer(gzip.compress(b"x" * 50_000_000), headers=headers),
        "/fine": answer(gzip.compress("法院".encode()), headers=headers),
        "/torn": answer(b"not gzip at all", headers=headers),
    }
    async with (
        loopback(answers) as server,
        context_for(server.port).http() as client,
    ):
        assert (await client.get(server.base + "/fine")).text == "法院"
        with pytest.raises(UnexpectedPage, match="larger"):
            await client.get(server.base + "/bomb")
        with pytest.raises(UnexpectedPage, match="decompressed"):
            await client.get(server.base + "/torn")


@pytest.mark.parametrize("location", ["/", "http://127.0.0.1:none/"])
async def test_a_redirect_that_leads_nowhere_is_an_unexpected_page(location):
    moved = answer(status="302 Found", headers={"Location": location})
    async with (
        loopback({"/": moved}) as server,
        context_for(server.port).http(follow_redirects=True) as client,
    ):
        with pytest.raises(UnexpectedPage):
            await client.get(server.base + "/")


async def test_a_malformed_header_is_ours_and_is_not_repeated_in_the_traceback():
    async with (
        loopback({"/": answer()}) as server,
        context_for(server.port).http() as client,
    ):
        with pytest.raises(RecipeError) as caught:
            await client.get(server.base + "/", headers={"X-Auth": f"{SECRET}\nX-Evil: 1"})
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_a_bad_proxy_is_ours_and_its_password_is_not_repeated():
    context = FakeContext(site=make_site(proxy=f"gopher://user:{SECRET}@proxy"))
    with pytest.raises(RecipeError) as caught:
        async with context.http():
            pass
    assert SECRET not in "".join(traceback.format_exception(caught.value))


async def test_requests_go_through_the_sites_proxy():
    async with loopback({"http://portal.example/x": answer(b"by proxy")}) as proxy:
        context = FakeContext(site=make_site(proxy=proxy.base))
        async with context.http() as client:
            assert (await client.get("http://portal.example/x")).text == "by proxy"


@pytest.mark.parametrize("option", ["mounts", "proxy", "trust_env", "cert"])
async def test_options_that_go_around_the_guard_are_refused(option):
    with pytest.raises(RecipeError, match=option):
        async with FakeContext().http(**{option: {}}):
            pass


async def test_certificates_cannot_be_switched_off():
    with pytest.raises(RecipeError, match="verify"):
        async with FakeContext().http(verify=False):
            pass


async def test_the_environment_is_not_trusted(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with (
        loopback({"/": answer()}) as server,
        context_for(server.port).http() as client,
    ):
        assert (await client.get(server.base + "/")).status_code == 200


async def test_the_sites_user_agent_is_sent_and_may_be_replaced():
    context = FakeContext(handler=lambda request: httpx.Response(200))
    async with context.http() as client:
        await client.get("https://portal.example/")
    async with context.http(headers={"user-agent": "other"}) as client:
        await client.get("https://portal.example/")
    first, second = [request.headers["user-agent"] for request in context.requests]
    assert (first, second) == (context.site.user_agent, "other")


async def test_all_logins_of_a_process_share_one_tls_context(monkeypatch):
    http.shared_ssl_context()
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: pytest.fail("a second context"))
    clients = [FakeContext().http() for _ in range(20)]
    await asyncio.gather(*(client.__aenter__() for client in clients))
    await asyncio.gather(*(client.__aexit__(None, None, None) for client in clients))
