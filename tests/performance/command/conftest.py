"""What runs of the upkeep are tried with."""

import pytest

from apps.common import optimization
from apps.common.optimization import StepOptions, StepReport
from apps.performance.services import upkeep
from tests.tokens.core.conftest import core

__all__ = ["core"]


@pytest.fixture(autouse=True)
def journal(settings, tmp_path):
    settings.LATCHKEY_AUDIT_DIR = tmp_path / "audit"


@pytest.fixture
def broken_step(monkeypatch):
    """A step of the clean-up that fails, with a secret in its error, before all others."""

    def fail(_: StepOptions) -> StepReport:
        """Fail."""
        raise RuntimeError("password=hunter2hunter2")

    upkeep.discover()
    monkeypatch.setattr(optimization, "_steps", dict(optimization._steps))
    optimization.register_step("broken", order=0, flag="cleanup_days")(fail)
