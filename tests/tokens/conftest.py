import pytest

from apps.common import redaction
from tests.tokens import scripted


@pytest.fixture(autouse=True)
def nothing_left_of_the_test_before():
    """The scripted connector numbers its tokens from one, and no earlier password is redacted.

    Passwords are kept out of answers for a minute; a test's password may be a word of the next
    test's answer.
    """
    scripted.forget()
    redaction._lingering.clear()
