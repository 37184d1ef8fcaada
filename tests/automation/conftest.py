from tests.tokens.api.conftest import api, key, robot, service

__all__ = ["api", "key", "robot", "service"]
