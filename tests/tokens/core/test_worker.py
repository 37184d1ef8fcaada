"""What a worker does with the signals it gets."""

import os
import signal
from uuid import uuid4

import pytest

from apps.tokens.services import worker
from apps.tokens.services.owner import Owner, ticking_s


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
