"""The audit of an event loop: the lines of one turn of the loop are written together.

Every step that brings a line to the file lets go of the interpreter, and under load gets it back
only after the threads that want it too. So a hundred hand-outs at once take those steps once.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from apps.access.journal import JOURNAL, AuditUnavailable


@dataclass(slots=True)
class Together:
    """Lines that wait for the end of this turn, and what becomes of them."""

    _lines: list[bytes] = field(default_factory=list)
    _written: "asyncio.Future[bool] | None" = None

    async def append(self, line: bytes) -> bool:
        """Return True when the operating system has the line.

        False means that it would have had to wait, and was not written: use a thread. Raises
        AuditUnavailable.
        """
        if self._written is None:
            loop = asyncio.get_running_loop()
            self._written = loop.create_future()
            loop.call_soon(self._write)
        self._lines.append(line)
        # One who leaves must not take the others along.
        return await asyncio.shield(self._written)

    def _write(self) -> None:
        written, lines = self._written, b"".join(self._lines)
        self._written, self._lines = None, []
        assert written is not None  # noqa: S101 - it was made before this was asked for
        try:
            written.set_result(JOURNAL.append_held(lines))
        except AuditUnavailable as error:
            written.set_exception(error)


TOGETHER: Final = Together()
