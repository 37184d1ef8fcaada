"""What an answer means: success, a challenge, or a failure with its blame."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final

from apps.tokens.connectors.answers import Answer
from apps.tokens.connectors.captures import capture
from apps.tokens.connectors.conditions import all_hold, holds, names_status, rendered
from apps.tokens.connectors.scope import Scope
from apps.tokens.errors import (
    AccountLocked,
    AccountNeedsAction,
    ChallengeUnanswered,
    InvalidCredentials,
    LoginFailure,
    OneTimeCodeRejected,
    RateLimited,
    SiteUnavailable,
    UnexpectedPage,
)

MAX_RETRY_AFTER_S: Final = 24 * 3600
MEANINGS: Final[Mapping[str, type[LoginFailure]]] = {
    "invalid_credentials": InvalidCredentials,
    "account_locked": AccountLocked,
    "account_needs_action": AccountNeedsAction,
    "one_time_code_rejected": OneTimeCodeRejected,
    "challenge_needed": ChallengeUnanswered,
    "rate_limited": RateLimited,
    "site_unavailable": SiteUnavailable,
    "unexpected_page": UnexpectedPage,
}

Failure = Mapping[str, Any]
Step = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """How answers are read where a step says nothing itself.

    `unauthorized` is what an unmatched 401 means. With `strict`, a redirect is no success: an
    expired session is usually answered with one to the login page.
    """

    unauthorized: type[LoginFailure] = UnexpectedPage
    strict: bool = False


LOGIN: Final = Rules()


def judge(
    step: Step, answer: Answer, scope: Scope, *, code_sent: bool, rules: Rules = LOGIN
) -> Failure | None:
    """Return None for success, or the failure whose challenge a person can answer.

    `code_sent` says whether a one-time code has left in this run. Raises LoginFailure.
    """
    found: list[Failure] = [
        item for item in step.get("failures", []) if _matches(item, answer, scope)
    ]
    if found:
        first = found[0]
        _check_ambiguity(found, step, scope)
        if first["is"] == "challenge_needed" and "challenge" in first:
            return first
        raise _failure(first, step, answer, scope, code_sent=code_sent)
    wanted = [rendered(item, scope.native) for item in step.get("success", [])]
    if _is_success(wanted, answer, rules):
        return None
    raise _default(answer, scope, rules)


def retry_after_s(text: str) -> float | None:
    """Return a Retry-After in seconds or as an HTTP date, as seconds from 0 to a day.

    None if it cannot be read (RFC 9110, 10.2.3).
    """
    text = text.strip()
    try:
        if text.isascii() and text.replace(".", "", 1).isdigit():
            wait_s = float(text)
        else:
            date = parsedate_to_datetime(text)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            wait_s = date.timestamp() - time.time()
    except (ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_RETRY_AFTER_S)


def _matches(failure: Failure, answer: Answer, scope: Scope) -> bool:
    when = rendered(failure["when"], scope.native)
    if not holds(when, answer):
        return False
    # An error page that happens to speak of passwords says nothing about this one.
    overloaded = answer.status == 429 or answer.status >= 500
    guessed = failure["is"] == "invalid_credentials" and not names_status(when)
    return not (overloaded and guessed)


def _check_ambiguity(found: list[Failure], step: Step, scope: Scope) -> None:
    """Never call a page that may mean something else a wrong password."""
    meanings = {item["is"] for item in found}
    if "invalid_credentials" not in meanings or len(meanings) == 1:
        return
    if meanings == {"invalid_credentials", "one_time_code_rejected"}:
        raise OneTimeCodeRejected(step=scope.step)
    raise UnexpectedPage(
        f"The answer matches several failures: {', '.join(sorted(meanings))}.", step=scope.step
    )


def _failure(
    failure: Failure, step: Step, answer: Answer, scope: Scope, *, code_sent: bool
) -> LoginFailure:
    meaning = MEANINGS[failure["is"]]
    if meaning is InvalidCredentials and code_sent and not _is_precise(failure, step):
        meaning = OneTimeCodeRejected
    wait_s = _wait_s(failure, answer)
    return meaning(failure.get("message", ""), step=scope.step, retry_after_s=wait_s)


def _is_precise(failure: Failure, step: Step) -> bool:
    """Say whether the recipe tells a wrong password from a wrong code: by `precise`, or because
    the step knows both."""
    others = {item["is"] for item in step.get("failures", [])}
    return bool(failure.get("precise", "one_time_code_rejected" in others))


def _wait_s(failure: Failure, answer: Answer) -> float | None:
    spec = failure.get("retry_after", {"header": "Retry-After"})
    found = capture(spec, answer)
    return None if found is None else retry_after_s(str(found))


def _is_success(wanted: list[Any], answer: Answer, rules: Rules) -> bool:
    broken = answer.status == 429 or answer.status >= 500
    if broken and not any(names_status(item) for item in wanted):
        return False
    if wanted:
        return all_hold(wanted, answer)
    return answer.status < (300 if rules.strict else 400)


def _default(answer: Answer, scope: Scope, rules: Rules) -> LoginFailure:
    wait_s = retry_after_s(answer.headers.get("retry-after", ""))
    if answer.status == 429:
        return RateLimited(step=scope.step, retry_after_s=wait_s)
    if answer.status >= 500:
        said = f"The site answered with status {answer.status}."
        return SiteUnavailable(said, step=scope.step, retry_after_s=wait_s)
    if answer.status == 401 and rules.unauthorized is not UnexpectedPage:
        return rules.unauthorized(step=scope.step)
    said = (
        f"The answer (status {answer.status}) is neither a success nor a failure the recipe knows."
    )
    return UnexpectedPage(said, step=scope.step)
