"""What can go wrong, as one class per decision a caller can take.

Apps derive their own errors from the six kinds here. `apps.common.problems` turns any of them
into an RFC 9457 problem with texts in the caller's language.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, ClassVar


class ErrorType(StrEnum):
    """The six kinds of error that every answer names in `error_type`."""

    VALIDATION = "validation_error"
    DATABASE = "database_error"
    CACHE = "cache_error"
    API = "api_error"
    BUSINESS_LOGIC = "business_logic_error"
    SYSTEM = "system_error"


class BrokerError(Exception):
    """Base of all errors of this software.

    `message` is one English sentence for a developer, `details` is JSON-serialisable; neither
    may hold a secret. `retry_after_s` says when asking again can help.
    """

    error_type: ClassVar[ErrorType] = ErrorType.SYSTEM
    code: ClassVar[str] = "system_error"
    status: ClassVar[int] = 500
    default_message: ClassVar[str] = "Something went wrong."

    def __init__(
        self,
        message: str = "",
        *,
        details: Mapping[str, Any] | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class ValidationFailed(BrokerError):
    """The input cannot be accepted as it is."""

    error_type = ErrorType.VALIDATION
    code = "validation_error"
    status = 400
    default_message = "The input is not valid."


class NotFound(ValidationFailed):
    """The thing named by the caller does not exist, or the caller may not know that it does."""

    code = "not_found"
    status = 404
    default_message = "There is no such thing."


class NotPermitted(ValidationFailed):
    """The caller is known and may not do this."""

    code = "permission_denied"
    status = 403
    default_message = "You may not do this."


class NotAuthenticated(ValidationFailed):
    """No usable key or session came with the request."""

    code = "not_authenticated"
    status = 401
    default_message = "Send a valid API key."


class TooManyRequests(BrokerError):
    """The caller is over its rate limit."""

    error_type = ErrorType.API
    code = "rate_limited"
    status = 429
    default_message = "Too many requests."


class DatabaseUnavailable(BrokerError):
    """The database cannot be reached or did not answer."""

    error_type = ErrorType.DATABASE
    code = "database_unavailable"
    status = 503
    default_message = "The database is not available."


class CacheFailed(BrokerError):
    """The cache could not do what was asked; never raised for a mere miss."""

    error_type = ErrorType.CACHE
    code = "cache_error"
    status = 503
    default_message = "The cache is not available."


class ApiFailed(BrokerError):
    """A service called on the caller's behalf failed."""

    error_type = ErrorType.API
    code = "api_error"
    status = 502
    default_message = "A service that was called failed."


class BusinessRuleViolated(BrokerError):
    """The request is well formed, and the present state forbids it."""

    error_type = ErrorType.BUSINESS_LOGIC
    code = "business_logic_error"
    status = 409
    default_message = "This cannot be done now."


class SystemFailed(BrokerError):
    """Our own code or machine failed."""
