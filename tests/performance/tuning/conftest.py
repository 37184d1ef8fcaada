"""The services of the token app with a scripted connector and no queue."""

from tests.tokens.core.conftest import core

__all__ = ["core"]
