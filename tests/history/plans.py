"""What the database would do for a query."""

import re

from django.db import connection

_SEARCHED = {
    "sqlite": r"SEARCH \w+ USING (?:COVERING )?INDEX \w+ \({}[=<>]",
    "postgresql": r"Index Cond: \(+{}\b",
}


def searches(rows, column: str) -> bool:
    """Say whether an index is searched for a column, even if the table is as small as in a test."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
        else:
            # Without statistics: SQLite goes on by those of a test before, rolled back or not.
            cursor.execute("ANALYZE")
            cursor.execute("DELETE FROM sqlite_stat1")
            cursor.execute("ANALYZE sqlite_schema")
    return re.search(_SEARCHED[connection.vendor].format(column), rows.explain()) is not None
