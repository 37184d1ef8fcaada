"""The fixtures of the core's tests, and a client of the API."""

from tests.tokens.api.conftest import api, key, robot
from tests.tokens.core.conftest import core

__all__ = ["api", "core", "key", "robot"]
