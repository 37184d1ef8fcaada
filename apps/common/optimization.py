"""Steps of upkeep: each app registers its own, one command and one schedule run them.

@register_step("history.cleanup", order=20, flag="cleanup_days")
def cleanup(options: StepOptions) -> StepReport: ...
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog

from apps.common.errors import BrokerError
from apps.common.redaction import redact

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepProgress:
    """How far a step is; `total` is None where nobody knows."""

    step: str
    done: int
    total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepOptions:
    """What the steps are told.

    `cleanup_days` is the age past which records go; None means each step's own default.
    `warm_cache` names sites, () means all. `apply` lets a step change settings it would
    otherwise only suggest; with `dry_run` nothing is changed at all. `archive_to` is a folder
    for what is deleted. `extra` carries options of single steps.
    """

    cleanup_days: int | None = None
    warm_cache: tuple[str, ...] = ()
    apply: bool = False
    dry_run: bool = False
    archive_to: Path | None = None
    on_progress: Callable[[StepProgress], None] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def progress(self, step: str, done: int, total: int | None = None) -> None:
        """Tell whoever watches how far a step is."""
        if self.on_progress is not None:
            self.on_progress(StepProgress(step=step, done=done, total=total))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """What a step did: one sentence, numbers by name, and plain data as `details`.

    `lines` are for who reads the sentence and wants to know more, one thing each.
    """

    name: str
    ok: bool
    summary: str
    counts: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    lines: tuple[str, ...] = ()


StepFunction = Callable[[StepOptions], StepReport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A registered step; `flag` is the option of the command that asks for it."""

    name: str
    order: int
    flag: str
    run: StepFunction


_steps: Final[dict[str, Step]] = {}


def register_step(name: str, *, order: int, flag: str) -> Callable[[StepFunction], StepFunction]:
    """Register a step; lower `order` runs earlier. Raises ValueError if the name is taken."""

    def register(function: StepFunction) -> StepFunction:
        taken = _steps.get(name)
        if taken is not None and taken.run is not function:
            raise ValueError(f"There is a step {name} already.")
        _steps[name] = Step(name=name, order=order, flag=flag, run=function)
        return function

    return register


def steps() -> tuple[Step, ...]:
    """Return all steps in the order in which they run."""
    return tuple(sorted(_steps.values(), key=lambda step: (step.order, step.name)))


def run_steps(options: StepOptions, *, flags: Collection[str]) -> list[StepReport]:
    """Run the steps whose flag is among `flags`; one that fails does not stop the others."""
    return [run_step(step, options) for step in steps() if step.flag in flags]


def run_step(step: Step, options: StepOptions) -> StepReport:
    """Run one step; what it raises becomes a report that says so, without secrets."""
    try:
        return step.run(options)
    except BrokerError as error:
        # What it says is meant to be read; where it was raised tells nobody more.
        log.warning("optimization_step_failed", step=step.name, code=error.code)
        return StepReport(name=step.name, ok=False, summary=str(redact(error.message))[:500])
    except Exception as error:
        log.exception("optimization_step_failed", step=step.name)
        summary = str(redact(f"{type(error).__name__}: {error}"))[:500]
        return StepReport(name=step.name, ok=False, summary=summary)
