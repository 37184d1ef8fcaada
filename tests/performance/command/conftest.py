from tests.tokens.core.conftest import core

__all__ = ["core"]
