"""`history_recorder`: a door to the history."""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from apps.common import clock
from apps.history import services as history
from apps.history.contracts import AcquisitionRecord, CleanupReport, HistoryStatus, Window


class TokenHistoryRecorder:
    """Writes rows of `TokenAcquisitionHistory`, adds them up, and cleans them up."""

    def record_acquisition_history(
        self,
        *,
        site_name: str,
        account: str,
        status: str,
        total_duration: float,
        login_duration: float | None = None,
        acquisition_id: UUID | None = None,
        trigger_reason: str = "manual",
        attempt_count: int = 1,
        error_message: str = "",
        created_at: datetime | None = None,
    ) -> None:
        """Write one row; durations in seconds. Raises ValueError for a status there is not.

        A row of the same request is not written twice.
        """
        ended = clock.now()
        began = created_at or ended - timedelta(seconds=total_duration)
        history.record(
            AcquisitionRecord(
                request_id=acquisition_id or uuid4(),
                site=site_name,
                account=account,
                status=HistoryStatus(status),
                trigger_reason=trigger_reason,
                queue="default",
                attempts=attempt_count,
                retries=max(0, attempt_count - 1),
                total_s=total_duration,
                login_s=login_duration,
                token_fingerprint="",
                error_code="" if status == HistoryStatus.SUCCESS else status,
                error_message=error_message,
                created_at=began,
                started_at=began,
                finished_at=ended,
            )
        )

    def get_statistics(self, days: int = 7, site_name: str = "") -> dict[str, Any]:
        """Return counts, rates and times of the last so many days."""
        end = clock.now()
        window = Window(start=end - timedelta(days=days), end=end, site=site_name)
        return asdict(history.statistics(window))

    def cleanup_old_records(self, days: int = 30) -> CleanupReport:
        """Delete what is older than so many days."""
        return history.cleanup(days)


history_recorder: Final = TokenHistoryRecorder()
