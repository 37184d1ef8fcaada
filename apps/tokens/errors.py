"""What can go wrong on the way to a token.

Two families. A `LoginFailure` is what a connector raises, and says once whose fault it was. The
others are answers to a caller.
"""

from enum import StrEnum
from typing import ClassVar

from apps.common.errors import (
    ApiFailed,
    BrokerError,
    BusinessRuleViolated,
    ErrorType,
    NotFound,
    ValidationFailed,
)
from apps.common.redaction import redact_text
from apps.common.texts import storable


class Blame(StrEnum):
    """Who is at fault for a failed login; only the guilty part is penalised."""

    CREDENTIALS = "credentials"
    ACCOUNT = "account"
    SITE = "site"
    NETWORK = "network"
    OURSELVES = "ourselves"


class LoginFailure(ApiFailed):
    """A login did not give a token.

    `transient` says whether the same login may be tried again later. `step` names the step of
    the recipe. `message` never holds a secret or a piece of a page: what the login sends is taken
    out here, whoever wrote the text, and so are characters that no row can hold.
    """

    code = "login_failed"
    blame: ClassVar[Blame] = Blame.OURSELVES
    transient: ClassVar[bool] = False

    def __init__(
        self, message: str = "", *, step: str = "", retry_after_s: float | None = None
    ) -> None:
        message = storable(redact_text(message))
        super().__init__(
            message, details={"step": step} if step else None, retry_after_s=retry_after_s
        )
        self.step = step


class InvalidCredentials(LoginFailure):
    """The site says the username or the secret is wrong. Sending them again cannot help."""

    code = "invalid_credentials"
    blame = Blame.CREDENTIALS
    default_message = "The site rejected these credentials."


class OneTimeCodeRejected(LoginFailure):
    """The site rejected a one-time code, or something that may have been the code."""

    code = "one_time_code_rejected"
    blame = Blame.ACCOUNT
    transient = True
    default_message = "The site rejected the one-time code."


class AccountLocked(LoginFailure):
    """The site has locked this account, for a while or until a person acts."""

    code = "account_locked"
    blame = Blame.ACCOUNT
    default_message = "The site has locked this account."


class AccountNeedsAction(LoginFailure):
    """A person must do something at the site: accept terms, change a password, confirm a mail."""

    code = "account_needs_action"
    blame = Blame.ACCOUNT
    default_message = "The site wants a person to act on this account."


class ChallengeUnanswered(LoginFailure):
    """The site asked for something only a person or a solver can give, and nobody answered."""

    code = "challenge_unanswered"
    blame = Blame.ACCOUNT
    default_message = "The site asked a question that nobody answered."


class RateLimited(LoginFailure):
    """The site wants fewer logins; `retry_after_s` if it said for how long."""

    code = "site_rate_limited"
    blame = Blame.SITE
    transient = True
    default_message = "The site asks to slow down."


class SiteUnavailable(LoginFailure):
    """The site answered, and said that it cannot serve (5xx, maintenance page)."""

    code = "site_unavailable"
    blame = Blame.SITE
    transient = True
    default_message = "The site is not available."


class LoginTimedOut(LoginFailure):
    """The site did not finish before the deadline."""

    code = "login_timeout"
    blame = Blame.SITE
    transient = True
    default_message = "The site did not answer in time."


class UnexpectedPage(LoginFailure):
    """The answer matched neither success nor any failure the recipe knows.

    Also used where a page could mean two things: what is ambiguous is never a wrong password.
    """

    code = "unexpected_page"
    blame = Blame.SITE
    transient = True
    default_message = "The site answered with something the recipe does not know."


class NetworkFailure(LoginFailure):
    """The site could not be reached: DNS, refused, reset, TLS."""

    code = "network_error"
    blame = Blame.NETWORK
    transient = True
    default_message = "The site could not be reached."


class RecipeError(LoginFailure):
    """The recipe or the connector's configuration is wrong; a person has to change it."""

    code = "recipe_error"
    blame = Blame.OURSELVES
    default_message = "The recipe is wrong."


class HostNotAllowed(RecipeError):
    """A step or a redirect points to a host that is not listed for the site."""

    code = "host_not_allowed"
    default_message = "This host is not on the site's list of allowed hosts."


class LeaseLost(LoginFailure):
    """This worker no longer owns the login and must not send anything more."""

    code = "lease_lost"
    blame = Blame.OURSELVES
    transient = True
    default_message = "The worker lost the lease of this login."


class WorkerFailed(LoginFailure):
    """Our own code raised something it should not have, or the worker died."""

    code = "worker_failed"
    blame = Blame.OURSELVES
    transient = True
    default_message = "The worker failed."


class RefreshRejected(LoginFailure):
    """The site does not accept the refresh token (any more); a full login is needed."""

    code = "refresh_rejected"
    blame = Blame.ACCOUNT
    default_message = "The site rejected the refresh token."


class UnknownSite(NotFound):
    """No such site, or none that this caller may ask for."""

    code = "unknown_site"
    default_message = "There is no such site, or your key has no grant for it."


class UnknownAccount(NotFound):
    """No such account at this site, or none that this caller may ask for."""

    code = "unknown_account"
    default_message = "There is no such account at this site, or your key has no grant for it."


class InvalidRecipe(ValidationFailed):
    """A recipe does not follow the schema; `details.errors` lists line, path and reason."""

    code = "invalid_recipe"
    default_message = "The recipe is not valid."


class SiteDisabled(BusinessRuleViolated):
    """The site is switched off."""

    code = "site_disabled"
    default_message = "The site is disabled."


class NoAccountAvailable(BusinessRuleViolated):
    """No account of the site can be used, and waiting cannot change that."""

    code = "no_account_available"
    default_message = "No account of this site can be used."


class AcquisitionFailed(BrokerError):
    """The login that was waited for has ended without a token."""

    error_type = ErrorType.API
    code = "acquisition_failed"
    status = 502
    default_message = "No token could be acquired."
