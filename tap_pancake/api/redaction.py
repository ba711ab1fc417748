"""A logging filter that removes tokens from log records.

It protects the log lines of other libraries, such as urllib3 at level DEBUG. The tap's own errors
and log lines contain no token in the first place (`transport.py`).
"""

from __future__ import annotations

import json
import logging
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

# Shorter text is not a token; removing it would make log lines unreadable.
_MIN_TOKEN_LENGTH = 6
# Characters of a token in a row that cannot be chance.
_LEAK_LENGTH = 8

BLOT = "[redacted]"

# A token as a query parameter, or under a key of JSON or of Python's repr.
_TOKEN_PARAMETER = re.compile(r"""(access_token["']?\s*[=:]\s*["']?)[^&\s"',}]+""")


@lru_cache(maxsize=10_000)
def forms_of(token: str) -> tuple[str, ...]:
    """Return the forms of a token: plain, in a URL and in JSON; nothing if it is too short."""
    if len(token) < _MIN_TOKEN_LENGTH:
        return ()
    plain = {token, json.dumps(token)[1:-1], json.dumps(token, ensure_ascii=False)[1:-1]}
    slashed = {form.replace("/", "\\/") for form in plain}
    urls = {quote(token), quote(token, safe=""), quote_plus(token)}
    return tuple(sorted(plain | slashed | urls, key=len, reverse=True))


def shows(text: str, token: str) -> bool:
    """Return whether a text contains a part of a token, in any case, plain or URL-encoded."""
    texts = (text.casefold(), unquote_plus(text).casefold())
    runs = (
        token[at : at + _LEAK_LENGTH].casefold()
        for at in range(max(1, len(token) - _LEAK_LENGTH + 1))
    )
    return len(token) >= _MIN_TOKEN_LENGTH and any(run in one for run in runs for one in texts)


class Redactor(logging.Filter):
    """A logging filter that removes tokens from each record."""

    def __init__(self) -> None:
        """Begin without tokens; values of the token parameters are removed from the start."""
        super().__init__()
        self._forms: set[str] = set()

    def learn(self, tokens: Iterable[str]) -> None:
        """Remove these tokens from now on, in all their forms."""
        for token in tokens:
            # A new set, because other threads may iterate over the old one.
            self._forms = self._forms.union(forms_of(token))

    def clean(self, text: str) -> str:
        """Return the text without any token."""
        text = _TOKEN_PARAMETER.sub(rf"\g<1>{BLOT}", text)
        for token in self._forms:
            text = text.replace(token, BLOT)
        return text

    def line(self, text: str) -> str:
        """Return the text without any token, as one printable line."""
        cleaned = self.clean(text)
        if not cleaned.isprintable():
            # Names and ids come from the API: none may begin a line or control a terminal.
            cleaned = "".join(char if char.isprintable() else " " for char in cleaned)
        return cleaned

    def filter(self, record: logging.LogRecord) -> bool:
        """Remove tokens from the record, and make it one line; every record passes."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # wrong arguments, which logging itself reports
            return True
        cleaned = self.line(message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        if record.exc_info and record.exc_info[1] is not None:
            self._clean_exception(record.exc_info[1])
        return True

    def _clean_exception(self, error: BaseException) -> None:
        """Remove tokens from an exception and its causes, for any formatter."""
        error.args = tuple(self.clean(arg) if isinstance(arg, str) else arg for arg in error.args)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = self.clean(error.filename)
        nested = [error.__cause__, error.__context__, *error.args]
        for inner in nested:
            if isinstance(inner, BaseException) and inner is not error:
                self._clean_exception(inner)

    def guard(self) -> None:
        """Add the filter to all present handlers, and to urllib3's own log of URLs."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)
        logging.getLogger("urllib3.connectionpool").addFilter(self)
