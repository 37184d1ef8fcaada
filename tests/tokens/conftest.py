import pytest

from tests.tokens import scripted


@pytest.fixture(autouse=True)
def nothing_scripted_yet():
    """The scripted connector numbers its tokens from the start of each test."""
    scripted.forget()
