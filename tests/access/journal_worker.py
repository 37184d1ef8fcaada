"""Processes that write or import the audit and are killed while they do.

`write`: records numbered lines until killed; prints each number after `record` returned.
`import <n>`: imports, and stops after the n-th batch is committed, to be killed there.
"""

import sys
import time
from itertools import count

import django

django.setup()

from apps.access import audit, audit_import  # noqa: E402
from apps.access.contracts import AuditRecord  # noqa: E402


def write(name):
    for number in count():
        audit.record(
            AuditRecord(
                kind="hand_out",
                principal_kind="key",
                principal_id=name,
                principal_name=name,
                request_id=f"{name}-{number:08}",
            )
        )
        print(number, flush=True)
        time.sleep(0.001)


def bring_in(stop_at):
    add = audit_import._add
    batches = count(1)

    def stop_after(*arguments):
        added = add(*arguments)
        if next(batches) == stop_at:
            print("stopped", flush=True)
            time.sleep(60)
        return added

    audit_import._add = stop_after
    audit.import_journals()


if sys.argv[1] == "write":
    write(sys.argv[2])
else:
    bring_in(int(sys.argv[2]))
