"""Settings of the tests: fixed secrets, fast password hashes, short times."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("LATCHKEY_SECRET_KEY", "test-secret-key-" + "x" * 48)
os.environ.setdefault("LATCHKEY_KEYS", "t1:" + "QUFB" * 10 + "QUE=")
os.environ.setdefault("LATCHKEY_FINGERPRINT_KEY", "test-fingerprint-key")
if "LATCHKEY_DATA_DIR" not in os.environ:  # the pytest plugin sets and removes its own
    os.environ["LATCHKEY_DATA_DIR"] = tempfile.mkdtemp(prefix="latchkey-test-")
    atexit.register(shutil.rmtree, os.environ["LATCHKEY_DATA_DIR"], ignore_errors=True)

from config.settings.base import *  # noqa: F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LATCHKEY_ALLOW_FAULT_LAB = True
# No threads behind a test's back; the cache's own tests turn them on.
LATCHKEY_CACHE_BACKGROUND = os.environ.get("LATCHKEY_TEST_CACHE_BACKGROUND") == "1"
LATCHKEY_METRICS_BACKGROUND = os.environ.get("LATCHKEY_TEST_METRICS_BACKGROUND") == "1"

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":  # noqa: F405
    # A file, as in production: other processes can open it, and WAL works.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}  # noqa: F405

STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405
