"""Records for the tests."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from apps.history.contracts import AcquisitionRecord, HistoryStatus

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)


def make_record(**changes) -> AcquisitionRecord:
    """A successful acquisition at `court_zxfw` that finished at NOON, with changes."""
    finished_at = changes.pop("finished_at", NOON)
    values = {
        "request_id": uuid4(),
        "site": "court_zxfw",
        "account": "clerk",
        "status": HistoryStatus.SUCCESS,
        "trigger_reason": "no_token",
        "queue": "interactive",
        "attempts": 1,
        "retries": 0,
        "total_s": 12.5,
        "login_s": 10.25,
        "token_fingerprint": "f" * 32,
        "error_code": "",
        "error_message": "",
        "created_at": finished_at - timedelta(seconds=13),
        "started_at": finished_at - timedelta(seconds=11),
        "finished_at": finished_at,
    }
    return AcquisitionRecord(**(values | changes))
