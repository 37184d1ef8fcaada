"""A kept connection is looked at before each request; Django asks the server, `SELECT 1`.

That is a round trip and the start of every piece of work. Who closes a connection, PostgreSQL that
restarts or an operator who ends it, makes its socket readable; silence means that nothing has
happened that this side could know of, and a server that vanished without a word lets `SELECT 1`
wait just as it does the first real query (`tcp_user_timeout` ends both).
"""

import select
import time

import psycopg
from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Asks the server only where something has come from it."""

    def close_if_health_check_failed(self) -> None:
        """Close a kept connection that the other side has ended."""
        if self.connection is not None and self._is_silent():
            self.health_check_done = True
        super().close_if_health_check_failed()

    def answer_within(self, seconds: float) -> None:
        """Ask the server a trifle. Raises OperationalError if it does not answer, or is not there.

        `statement_timeout` is the server's: one that is stopped, or whose host is, keeps none, and
        the kernel takes what is sent to it, so that no other time-out of ours ends the wait.
        """
        self.ensure_connection()
        server = self.connection.pgconn
        ends = time.monotonic() + seconds
        with self.wrap_database_errors:
            server.send_query(b"SELECT 1")
            while server.flush() or server.is_busy():
                if not self._says_something(max(0.0, ends - time.monotonic())):
                    self.close()
                    raise psycopg.OperationalError(f"The database said nothing for {seconds:g} s.")
                server.consume_input()
            while server.get_result() is not None:
                pass

    def _is_silent(self) -> bool:
        return not self.connection.closed and not self._says_something(0)

    def _says_something(self, within_s: float) -> bool:
        # Not `select.select`: it takes no descriptor over 1,023.
        waiting = select.poll()
        waiting.register(self.connection.pgconn.socket, select.POLLIN | select.POLLHUP)
        return bool(waiting.poll(within_s * 1000))
