"""Errors of the API: what the tap does for each code and HTTP status, and its exceptions.

Pancake answers most errors with HTTP 200 and ``success: false``, so the body is checked before the
status. No message made here contains a URL or a token.

Source: reference, section 2 (envelope, codes seen, HTTP statuses).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Any

# The only message that is matched, as this refusal has no code: Vietnamese for "plan".
_NO_PLAN = "gói cước"
_CODE = re.compile("[0-9]{1,9}")

_NEW_USER_TOKEN = "copy a new one from Account → Personal settings into `access_token`"  # noqa: S105
_NEW_PAGE_TOKEN = "copy the current one from the page's Settings → Tools into `page_access_tokens`"  # noqa: S105
_OTHER_TOKEN = f"{_NEW_PAGE_TOKEN}, or remove it there and set `access_token`, which finds it"


class PancakeError(Exception):
    """An error that the user can act on: its text is one line, with cause and remedy."""


class ConfigurationError(PancakeError):
    """A setting, the catalog or the state cannot be used."""


class RunStopped(PancakeError):
    """The run cannot go on, for example because the user token was refused."""


class PageFailed(PancakeError):
    """A request was refused, or its answer cannot be used. The run ends with an exit code not 0."""

    whole_page = False
    """Whether the error may affect all streams of the page; a `PageUnreadable` always does."""


class UnknownRefusal(PageFailed):
    """A refusal with a code whose meaning is not documented. It may pass: the tap retries twice."""


class PageSkipped(PageFailed):
    """A permission or plan is missing: the tap skips the stream of the page, with a WARNING.

    With `fail_on_skip`, the run ends with an error.
    """


class PageIdle(PageSkipped):
    """A page without traffic, for which the API answers HTTP 500. No setting makes it a failure."""

    def __init__(self, where: str) -> None:
        """Make the text from page and stream."""
        msg = (
            f"{where}: the API answers HTTP 500, as it may for a page without traffic: later runs"
            " try again"
        )
        super().__init__(msg)


class PageUnreadable(PageFailed):
    """No stream of a page can be read, for example because its token was refused."""

    whole_page = True


class PageDeactivated(PageUnreadable, PageSkipped):
    """A deactivated page: the tap skips all its streams, as for a `PageSkipped`."""


class PageTokenRenewed(PageUnreadable):
    """The page token is no longer valid; list-pages may hold a newer one."""


class PathNotFound(PageFailed):
    """The API has no such path."""


class TransientError(PageFailed):
    """A fault that is expected to pass; the user sees it only after the last retry."""

    def __init__(
        self,
        text: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        unreadable: bool = False,
        whole_page: bool = False,
    ) -> None:
        """Keep the text and the facts that decide about retries.

        Args:
            text: the message for the user.
            status: HTTP status; None without a complete answer.
            retry_after: seconds that the answer asked to wait; None if it did not.
            unreadable: whether the body was not JSON, as for a path that does not exist.
            whole_page: whether the connection or a gateway failed, and not one stream. If the
                page's next stream has the same fault, the page ends.
        """
        super().__init__(text)
        self.status = status
        self.retry_after = retry_after
        self.unreadable = unreadable
        self.whole_page = whole_page

    @property
    def limited(self) -> bool:
        """Whether the answer was HTTP 429: the page slows down, and no retry is counted."""
        return self.status == HTTPStatus.TOO_MANY_REQUESTS

    def is_like(self, other: PageFailed | None) -> bool:
        """Return whether both are the same fault of the connection or of a gateway."""
        return (
            isinstance(other, TransientError)
            and self.whole_page
            and other.whole_page
            and self.status == other.status
        )


class Verdict(Enum):
    """What the tap does about an error."""

    RETRY = "try again, later"
    REREAD = "read the page token from list-pages again, once"
    SKIP_STREAM = "leave this stream of the page out, with a warning"
    SKIP_PAGE = "leave this page out, with all its streams and a warning"
    RETRY_TWICE = "try again twice, then this stream of the page fails"
    FAIL_STREAM = "this stream of the page fails"
    ABSENT = "this stream fails, unless its path has another form"
    FAIL_PAGE = "this page fails, with all its streams"
    STOP = "the run stops"


@dataclass(frozen=True)
class _Case:
    verdict: Verdict
    text: str


_PAGE_TOKEN_REFUSED = _Case(Verdict.FAIL_PAGE, f"the page token was refused: {_OTHER_TOKEN}")
_PAGE_TOKEN_RENEWED = _Case(
    Verdict.REREAD, f"the page token was replaced by a newer one: {_NEW_PAGE_TOKEN}"
)
_USER_TOKEN_REFUSED = _Case(Verdict.STOP, f"the user token was refused: {_NEW_USER_TOKEN}")
_USER_TOKEN_EXPIRED = _Case(Verdict.STOP, f"the user token has expired: {_NEW_USER_TOKEN}")
_RENEW = "renew the subscription (gói cước) in Pancake, under Account"
_NO_PERMISSION = _Case(
    Verdict.SKIP_STREAM,
    "permission was denied: ask an administrator of the page to grant {right} in Pancake, under"
    " the page's Settings",
)
_NOT_A_MEMBER = _Case(
    Verdict.SKIP_STREAM, "permission was denied: use the user token of a member of the pages"
)
_NO_PLAN_CASE = _Case(Verdict.SKIP_STREAM, f"the page or account has no valid plan: {_RENEW}")
_NO_ACCOUNT_PLAN = _Case(Verdict.SKIP_STREAM, f"the account has no valid plan: {_RENEW}")
_REFUSED = _Case(
    Verdict.FAIL_STREAM,
    "the API refused the call: if the reason in brackets does not help, report this",
)
_UNKNOWN = _Case(Verdict.RETRY_TWICE, _REFUSED.text)
_NO_SUCH_CONVERSATION = _Case(
    Verdict.FAIL_STREAM,
    "the API does not accept this conversation or its customer: if each run says so, report this",
)

_INVALID_TIME = 106
_SHARED_CODES: dict[int, _Case] = {
    100: _REFUSED,
    104: _Case(Verdict.FAIL_PAGE, "the API does not know this page: check `page_ids`"),
    _INVALID_TIME: _Case(
        Verdict.FAIL_STREAM,
        "the API does not accept the time span: check `start_date` and `end_date`, or report this",
    ),
    107: _Case(
        Verdict.RETRY_TWICE,
        "the API says that Google Calendar is not connected: connect it in Pancake, or report this",
    ),
    108: _Case(
        Verdict.FAIL_STREAM,
        "not assigned to this conversation: ask an administrator of the page to let you see all"
        " conversations in Pancake, under the page's Settings",
    ),
    123: _Case(Verdict.FAIL_PAGE, "the page was disconnected: connect it to Pancake again"),
    125: _Case(
        Verdict.SKIP_PAGE,
        "the page is deactivated: activate it in Pancake, or remove it from `page_ids`",
    ),
    126: _Case(
        Verdict.SKIP_STREAM,
        "not available in safe mode: turn safe mode off in Pancake, or do not select this stream",
    ),
    136: _NO_SUCH_CONVERSATION,
    145: _NO_SUCH_CONVERSATION,
}
"""Error codes with one meaning for both kinds of token."""
_PAGE_CODES: dict[int, _Case] = _SHARED_CODES | {
    101: _Case(Verdict.STOP, f"the page token is missing: {_OTHER_TOKEN}"),
    102: _PAGE_TOKEN_REFUSED,
    103: _PAGE_TOKEN_REFUSED,
    105: _PAGE_TOKEN_RENEWED,
    121: _NO_PLAN_CASE,
    122: _NO_PLAN_CASE,
    190: _PAGE_TOKEN_REFUSED,
}
_USER_CODES: dict[int, _Case] = _SHARED_CODES | {
    101: _Case(Verdict.STOP, f"the user token is missing: {_NEW_USER_TOKEN}"),
    102: _USER_TOKEN_REFUSED,
    103: _USER_TOKEN_EXPIRED,
    105: _USER_TOKEN_EXPIRED,
    121: _NO_ACCOUNT_PLAN,
    122: _Case(Verdict.SKIP_STREAM, f"the account's plan has expired: {_RENEW}"),
    190: _USER_TOKEN_REFUSED,
}
_TRANSIENT = _Case(Verdict.RETRY, "the API had a temporary fault: run the tap again later")
_LIMITED = _Case(
    Verdict.RETRY,
    "other programs use up the rate limit: stop them or slow them down, then run the tap again",
)
_NO_JSON = _Case(
    Verdict.RETRY, "the answer is not a JSON object: check `api_url`, or run the tap again later"
)
_FIREWALL = _Case(
    Verdict.RETRY,
    "something in front of the API, such as a firewall, refused the call: allow the address of"
    " this machine there, or run the tap again later",
)
_BROKEN_GATEWAY = _Case(
    Verdict.RETRY,
    "something in front of the API, such as a gateway, failed: run the tap again later",
)
_WRONG_ADDRESS = _Case(
    Verdict.ABSENT,
    "the API knows no such page, conversation or path: check `api_url` and `page_ids`",
)


# Gateways before the API answer with these, whatever the path.
_GATEWAY_STATUSES = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def code_of(body: dict[str, Any] | None) -> int | None:
    """Return the error code of a body, a number or its text; None if it has none."""
    code = body.get("error_code") if body is not None else None
    text = str(code) if isinstance(code, (int, str)) else ""
    return int(text) if _CODE.fullmatch(text) else None


def _case_of_status(status: int, *, user_api: bool) -> _Case | None:
    """Return the case for an HTTP status alone; None if it is no error."""
    if status == HTTPStatus.UNAUTHORIZED:
        return _USER_TOKEN_REFUSED if user_api else _PAGE_TOKEN_REFUSED
    if status == HTTPStatus.FORBIDDEN:
        return _NOT_A_MEMBER if user_api else _NO_PERMISSION
    if status in {HTTPStatus.NOT_FOUND, HTTPStatus.NOT_ACCEPTABLE}:
        return _WRONG_ADDRESS
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY}:
        return _TRANSIENT
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _TRANSIENT
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return _Case(
            Verdict.FAIL_STREAM, "the API sent a redirect, which is not followed: check `api_url`"
        )
    return _REFUSED if status >= HTTPStatus.BAD_REQUEST else None


def _case_of(status: int, body: dict[str, Any] | None, *, user_api: bool) -> _Case | None:
    """Return the case for an answer; None if it has no error."""
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return _LIMITED
    if body is None and status == HTTPStatus.FORBIDDEN:
        return _FIREWALL
    if body is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return _BROKEN_GATEWAY
    if body is not None and body.get("success") is False:
        code = code_of(body)
        if code is not None:
            known = (_USER_CODES if user_api else _PAGE_CODES).get(code)
            # An undocumented code may come with the status of a fault that passes. But with 403 it
            # need not mean a missing permission, so it is not skipped.
            passing = _case_of_status(status, user_api=user_api) is _TRANSIENT
            return known or (_TRANSIENT if passing else _UNKNOWN)
        message = body.get("message")
        if isinstance(message, str) and _NO_PLAN in message.lower():
            return _NO_ACCOUNT_PLAN if user_api else _NO_PLAN_CASE
        return _case_of_status(status, user_api=user_api) or _TRANSIENT
    by_status = _case_of_status(status, user_api=user_api)
    if by_status is None and body is None:
        return _NO_JSON
    return by_status


_VERDICTS: dict[Verdict, type[PancakeError]] = {
    Verdict.RETRY: TransientError,
    Verdict.REREAD: PageTokenRenewed,
    Verdict.SKIP_STREAM: PageSkipped,
    Verdict.SKIP_PAGE: PageDeactivated,
    Verdict.RETRY_TWICE: UnknownRefusal,
    Verdict.FAIL_STREAM: PageFailed,
    Verdict.ABSENT: PathNotFound,
    Verdict.FAIL_PAGE: PageUnreadable,
    Verdict.STOP: RunStopped,
}


def raise_for_answer(
    status: int,
    body: dict[str, Any] | None,
    *,
    where: str,
    user_api: bool,
    permission: str | None = None,
    api_message: str | None = None,
    requested: str | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
) -> None:
    """Raise the error that the table has for an answer; return if it has none.

    Args:
        status: HTTP status.
        body: the JSON object of the body; None if it is not one.
        where: page and stream, for the message.
        user_api: true for the API of the user token, false for the API of page tokens.
        permission: permission that the stream needs besides access to the page, if documented.
        api_message: the API's own message, without secrets.
        requested: the requested times, if any; shown if the API does not accept them.
        request_id: the answer's ``x-request-id``, for Pancake's support.
        retry_after: seconds that the answer asked to wait.

    Raises:
        PancakeError: the class for the verdict.
    """
    case = _case_of(status, body, user_api=user_api)
    if case is None:
        return
    code = code_of(body)
    facts = [f"HTTP {status}" if code is None else f"error {code}"]
    if requested and code == _INVALID_TIME:
        facts.append(f"requested: {requested}")
    if api_message:
        facts.append(f"the API says: {api_message}")
    if request_id:
        facts.append(f"request {request_id}")
    remedy = case.text.replace("{right}", f"the right to {permission}" if permission else "it")
    text = f"{where}: {remedy} ({', '.join(facts)})"
    error = _VERDICTS[case.verdict]
    if error is TransientError:
        raise TransientError(
            text,
            status=status,
            retry_after=retry_after,
            unreadable=case is _NO_JSON,
            whole_page=status in _GATEWAY_STATUSES or case in {_FIREWALL, _BROKEN_GATEWAY},
        )
    raise error(text)
