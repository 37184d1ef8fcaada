"""What a worker does with the signals it gets."""

import asyncio
import os
import signal
import socket
from uuid import uuid4

import pytest

from apps.tokens.services import worker
from apps.tokens.services.owner import Owner, ticking_s


@pytest.mark.django_db(transaction=True)
def test_a_resolver_that_hangs_for_one_site_holds_up_no_other(monkeypatch, hanging_resolver):
    async def look_up(*_):
        loop = asyncio.get_running_loop()
        hanging = [asyncio.create_task(loop.getaddrinfo("hangs.example", 80)) for _ in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            found = await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        for one in hanging:
            one.cancel()
        return found

    monkeypatch.setattr(worker, "_drain", look_up)

    assert [address for *_, address in worker.drain("default")] == [("127.0.0.1", 80)]


@pytest.mark.parametrize(("ends_in_s", "hung_up"), [(60.0, 0), (-0.001, 1)])
def test_a_worker_that_was_stopped_past_its_lease_hangs_up_when_it_is_back(
    monkeypatch, ends_in_s, hung_up
):
    calls = []
    monkeypatch.setattr(worker, "hang_up", lambda: calls.append(True))
    owner = Owner(id=uuid4(), lease_s=30, lease_ends_s=ticking_s() + ends_in_s)
    before = signal.getsignal(signal.SIGCONT)

    with worker._hangs_up_when_it_was_away(owner):
        os.kill(os.getpid(), signal.SIGCONT)
        assert len(calls) == hung_up  # at once, not in a later turn of the event loop

    assert signal.getsignal(signal.SIGCONT) == before
