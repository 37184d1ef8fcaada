"""Settings of the tests: fixed secrets, fast password hashes, short times."""

import os
import tempfile

os.environ.setdefault("LATCHKEY_SECRET_KEY", "test-secret-key-" + "x" * 48)
os.environ.setdefault("LATCHKEY_KEYS", "t1:" + "QUFB" * 10 + "QUE=")
os.environ.setdefault("LATCHKEY_FINGERPRINT_KEY", "test-fingerprint-key")
os.environ.setdefault("LATCHKEY_DATA_DIR", tempfile.mkdtemp(prefix="latchkey-test-"))

from config.settings.base import *  # noqa: E402, F403

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LATCHKEY_ALLOW_FAULT_LAB = True
