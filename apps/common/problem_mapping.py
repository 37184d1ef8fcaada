"""Foreign exceptions as errors of this software."""

from collections.abc import Mapping
from typing import Any, Final

from django.core import exceptions as django_errors
from django.db import Error as DatabaseError
from django.db import IntegrityError
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions as drf_errors

from apps.common.database import is_unavailable
from apps.common.errors import (
    BrokerError,
    DatabaseUnavailable,
    ErrorType,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    SystemFailed,
    TooManyRequests,
    ValidationFailed,
)
from apps.common.parsers import BodyTooLarge

DATABASE_RETRY_AFTER_S: Final = 5.0


class DatabaseFailed(BrokerError):
    """The database refused a statement."""

    error_type = ErrorType.DATABASE
    code = "database_error"
    default_message = "The database could not do this."


class Conflict(BrokerError):
    """The change contradicts what is stored, for example a name that is taken."""

    error_type = ErrorType.DATABASE
    code = "conflict"
    status = 409
    default_message = "This contradicts what is stored already."


class Unexpected(SystemFailed):
    """An exception nobody foresaw. Its text stays in the log."""

    code = "unexpected_error"


class HttpRefused(ValidationFailed):
    """A request that HTTP itself does not allow: method, media type, Accept header."""

    def __init__(self, message: str, *, code: str, status: int) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]
        self.status = status  # type: ignore[misc]


def broker_error_of(error: BaseException) -> BrokerError:
    """Return the error of this software that says the same; `Unexpected` if there is none."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, drf_errors.APIException):
        return _of_drf(error)
    if isinstance(error, DatabaseError) or is_unavailable(error):
        return _of_database(error)
    return _of_django(error)


def _of_database(error: BaseException) -> BrokerError:
    if is_unavailable(error):
        return DatabaseUnavailable(retry_after_s=DATABASE_RETRY_AFTER_S)
    return Conflict() if isinstance(error, IntegrityError) else DatabaseFailed()


def _of_django(error: BaseException) -> BrokerError:
    if isinstance(error, Http404):
        return NotFound()
    if isinstance(error, django_errors.PermissionDenied):
        return NotPermitted()
    if isinstance(error, django_errors.RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(error, django_errors.ValidationError):
        return ValidationFailed(details={"errors": _of_validation(error)})
    if isinstance(error, django_errors.BadRequest | django_errors.SuspiciousOperation):
        return ValidationFailed("The request is malformed.")
    if isinstance(error, UnreadablePostError):
        return ValidationFailed("The body could not be read.")
    return Unexpected()


def _of_drf(error: drf_errors.APIException) -> BrokerError:
    if isinstance(error, drf_errors.ValidationError):
        return ValidationFailed(details={"errors": field_errors(error.detail)})
    message = str(error.detail)
    if isinstance(error, drf_errors.Throttled):
        return TooManyRequests(retry_after_s=getattr(error, "wait", None))
    if error.status_code == 401:
        return NotAuthenticated(message)
    if error.status_code == 403:
        return NotPermitted(message)
    if error.status_code == 404:
        return NotFound()
    if error.status_code < 500:
        return HttpRefused(message, code=str(error.default_code), status=error.status_code)
    return SystemFailed()


def _of_validation(error: django_errors.ValidationError) -> dict[str, list[dict[str, str]]]:
    fields = error.error_dict if hasattr(error, "error_dict") else {"": error.error_list}
    return {
        name.replace(django_errors.NON_FIELD_ERRORS, ""): [
            {"code": str(item.code or "invalid"), "message": text}
            for item in items
            for text in item.messages
        ]
        for name, items in fields.items()
    }


def field_errors(detail: Any, path: str = "") -> dict[str, list[dict[str, str]]]:
    """Flatten the `detail` of a DRF ValidationError into `path → [{code, message}]`.

    Paths are dotted, with positions for list items: `accounts.0.username`. What concerns the
    whole input is under the empty path.
    """
    found: dict[str, list[dict[str, str]]] = {}
    if isinstance(detail, Mapping):
        for name, item in detail.items():
            own = "" if name == "non_field_errors" else str(name)
            _merge(found, field_errors(item, ".".join(filter(None, (path, own)))))
    elif isinstance(detail, list):
        for position, item in enumerate(detail):
            nested = isinstance(item, Mapping | list)
            _merge(found, field_errors(item, f"{path}.{position}".lstrip(".") if nested else path))
    else:
        code = getattr(detail, "code", None) or "invalid"
        found[path] = [{"code": str(code), "message": str(detail)}]
    return found


def _merge(into: dict[str, list[dict[str, str]]], more: dict[str, list[dict[str, str]]]) -> None:
    for path, items in more.items():
        into.setdefault(path, []).extend(items)
