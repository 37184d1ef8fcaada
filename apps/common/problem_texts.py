"""What people read when something fails: one sentence and what to try, per error.

The texts of the six error types, and those of an unexpected error, are the product's wording;
their Chinese form is in `locale/zh_Hans`. Codes may have texts of their own: apps add theirs
with `register`.
"""

from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext, override
from django.utils.translation import gettext_noop as _

from apps.common.errors import BrokerError, ErrorType


@dataclass(frozen=True, slots=True)
class Texts:
    """One sentence for a person, and suggestions in the order to try them; English originals."""

    user_message: str
    suggestions: tuple[str, ...]

    def translated(self, language: str) -> tuple[str, list[str]]:
        """Return the sentence and the suggestions in this language; English where unknown."""
        with override(language):
            return gettext(self.user_message), [gettext(item) for item in self.suggestions]


_DEFAULT: Final = (_("Contact technical support"),)

UNEXPECTED: Final = Texts(
    _("The system ran into a problem. Please try again later"),
    (_("Check your network connection"), _("Reload the page and try again"), *_DEFAULT),
)

_BY_TYPE: Final = {
    ErrorType.VALIDATION: Texts(
        _("The format of the data entered is not correct"),
        (
            _("Check that the format of the input is correct"),
            _("Make sure that all required fields are filled in"),
            _("Enter it again following the example"),
        ),
    ),
    ErrorType.DATABASE: Texts(
        _("The data could not be saved. Please try again"),
        (
            _("Try again in a while"),
            _("Check whether the data is too large"),
            _("Ask an administrator to check the state of the system"),
        ),
    ),
    ErrorType.CACHE: Texts(
        _("The system is busy. Please try again later"),
        (
            _("Reload the page and try again"),
            _("Clear the browser's cache"),
            _("Try again later"),
        ),
    ),
    ErrorType.API: Texts(
        _("The call of a service failed. Please check the network connection"), _DEFAULT
    ),
    ErrorType.BUSINESS_LOGIC: Texts(_("The operation cannot be completed"), _DEFAULT),
    ErrorType.SYSTEM: Texts(_("The system ran into a problem"), _DEFAULT),
}

_by_code: dict[str, Texts] = {
    "not_found": Texts(
        _("What you asked for does not exist, or you may not see it"),
        (_("Check the name or the address"), _("Ask an administrator for access")),
    ),
    "permission_denied": Texts(_("You may not do this"), (_("Ask an administrator for access"),)),
    "not_authenticated": Texts(
        _("You are not signed in"),
        (_("Sign in, or send a valid API key"), _("Check whether the API key has expired")),
    ),
    "rate_limited": Texts(
        _("Too many requests. Please wait a while"),
        (_("Wait as long as the answer says, then try again"), _("Send fewer requests")),
    ),
    "body_too_large": Texts(_("The data sent is too large"), (_("Send less at once"), *_DEFAULT)),
    "invalid_credentials": Texts(
        _("The site rejected the user name or the password"),
        (_("Correct the credentials of the account"),),
    ),
    "no_account_available": Texts(
        _("No account of this site can be used"),
        (
            _("Look at the accounts of the site: blocked, locked or disabled"),
            _("Add an account, or correct the credentials of one"),
        ),
    ),
    "unknown_site": Texts(
        _("There is no such site, or your key may not use it"),
        (_("Check the name of the site"), _("Ask an administrator for a grant")),
    ),
    "unknown_account": Texts(
        _("There is no such account at this site, or your key may not use it"),
        (_("Check the name of the account"), _("Ask an administrator for a grant")),
    ),
    "invalid_recipe": Texts(
        _("The recipe of the site has mistakes"),
        (_("Correct what the answer lists, line by line"),),
    ),
    "acquisition_failed": Texts(
        _("No token could be obtained"),
        (
            _("Look at the reason in the details of the answer"),
            _("Correct the account or the site, then ask again"),
        ),
    ),
    "audit_unavailable": Texts(
        _("The hand-out could not be recorded, so nothing was handed out"),
        (_("Ask an administrator to check the audit folder"),),
    ),
    "site_disabled": Texts(
        _("The site is switched off"), (_("Ask an administrator to enable the site"),)
    ),
}


def register(code: str, user_message: str, *suggestions: str) -> None:
    """Give an error code texts of its own; English originals, marked with `gettext_noop`.

    Raises ValueError if the code has texts already.
    """
    if code in _by_code:
        raise ValueError(f"{code} has texts already.")
    _by_code[code] = Texts(user_message, suggestions or _DEFAULT)


def texts_of(error: BrokerError) -> Texts:
    """Return the texts of the error's code, else those of its type."""
    return _by_code.get(error.code) or _BY_TYPE[error.error_type]
