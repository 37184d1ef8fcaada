"""The embedded installation: one machine, SQLite, secrets made on first use."""

import os
from pathlib import Path

from config.local_secrets import provide

provide(Path(os.environ.get("LATCHKEY_DATA_DIR", Path(__file__).parents[2] / ".latchkey")))

from config.settings.base import *  # noqa: E402, F403

LATCHKEY_ALLOW_FAULT_LAB = True
