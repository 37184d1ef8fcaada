"""How a run of the upkeep looks: bars on a terminal, plain lines in a log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TextIO

from django.core.management.base import OutputWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from apps.common.optimization import Step, StepProgress, StepReport


class Display(Protocol):
    """What a run tells while it goes on."""

    def begin(self, step: Step) -> None: ...

    def progress(self, progress: StepProgress) -> None: ...

    def end(self, report: StepReport) -> None: ...


@contextmanager
def display(
    out: OutputWrapper | TextIO, errors: OutputWrapper | TextIO, *, quiet: bool = False
) -> Iterator[Display]:
    """Show bars where `out` is a terminal, lines elsewhere, nothing with `quiet`.

    Lines of what failed go to `errors`: cron is told to mail those alone.
    """
    if quiet:
        yield Silence()
    elif out.isatty():
        # Rich moves the cursor: it needs the stream itself, not Django's wrapper.
        stream: Any = getattr(out, "_out", out)
        console = Console(file=stream)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console, transient=True) as bars:
            yield Bars(bars)
    else:
        yield Lines(out, errors)


class Silence:
    """For output that a program reads."""

    def begin(self, step: Step) -> None:
        """Say nothing."""

    def progress(self, progress: StepProgress) -> None:
        """Say nothing."""

    def end(self, report: StepReport) -> None:
        """Say nothing."""


class Lines:
    """A line for each tenth of the way, and one for each step's end."""

    def __init__(self, out: OutputWrapper | TextIO, errors: OutputWrapper | TextIO) -> None:
        self.out = out
        self.errors = errors
        self.tenths = 0

    def begin(self, step: Step) -> None:
        self.tenths = 0

    def progress(self, progress: StepProgress) -> None:
        if not progress.total:
            return
        tenths = progress.done * 10 // progress.total
        if self.tenths < tenths < 10:
            self.tenths = tenths
            _write(self.out, f"{progress.step}: {progress.done} of {progress.total}")

    def end(self, report: StepReport) -> None:
        _write(self.out if report.ok else self.errors, line_of(report))


class Bars:
    """A bar for the step that runs; its line when it has ended."""

    def __init__(self, bars: Progress) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def begin(self, step: Step) -> None:
        self.task = self.bars.add_task(step.name, total=None)

    def progress(self, progress: StepProgress) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=progress.done, total=progress.total)

    def end(self, report: StepReport) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
            self.task = None
        style = "green" if report.ok else "bold red"
        self.bars.console.print(line_of(report), style=style, markup=False, highlight=False)


def _write(to: OutputWrapper | TextIO, line: str) -> None:
    to.write(line if isinstance(to, OutputWrapper) else f"{line}\n")
    # Who follows a log wants the line now, not with the next few kilobytes.
    to.flush()


def line_of(report: StepReport) -> str:
    """Return what a step did in one line, and below it what more there is to tell."""
    told = f"{'ok  ' if report.ok else 'FAIL'} {report.name}: {report.summary}"
    return "\n     ".join((told, *report.lines))
