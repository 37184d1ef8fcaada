"""A kept connection is looked at before each request; Django asks the server, `SELECT 1`.

That is a round trip and the start of every piece of work. Who closes a connection, PostgreSQL that
restarts or an operator who ends it, makes its socket readable; silence means that nothing has
happened that this side could know of, and a server that vanished without a word lets `SELECT 1`
wait just as it does the first real query (`tcp_user_timeout` ends both).
"""

import select

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Asks the server only where something has come from it."""

    def close_if_health_check_failed(self) -> None:
        """Close a kept connection that the other side has ended."""
        if self.connection is not None and self._is_silent():
            self.health_check_done = True
        super().close_if_health_check_failed()

    def _is_silent(self) -> bool:
        if self.connection.closed:
            return False
        # Not `select.select`: it takes no descriptor over 1,023.
        waiting = select.poll()
        waiting.register(self.connection.pgconn.socket, select.POLLIN | select.POLLHUP)
        return not waiting.poll(0)
