"""The second line of defence for tokens: a filter that blots them out of log records.

The first line is that no exception, URL or context of the tap holds a token (`transport.py`).
This filter is for what other libraries log, such as urllib3 at level DEBUG.
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

# Shorter text is no token, and blotting it out would leave no log line legible.
_SHORTEST = 6
# So many letters of a token in a row are no accident.
_RUN = 8

BLOT = "[redacted]"

# As a query parameter, and as a key of JSON or of Python's repr.
_NAMED = re.compile(r"""(access_token["']?\s*[=:]\s*["']?)[^&\s"',}]+""")


@lru_cache(maxsize=10_000)
def forms_of(token: str) -> tuple[str, ...]:
    """Return what a token looks like, plain, in a URL and in JSON; of too short a one, nothing."""
    if len(token) < _SHORTEST:
        return ()
    plain = {token, json.dumps(token)[1:-1], json.dumps(token, ensure_ascii=False)[1:-1]}
    slashed = {form.replace("/", "\\/") for form in plain}
    urls = {quote(token), quote(token, safe=""), quote_plus(token)}
    return tuple(sorted(plain | slashed | urls, key=len, reverse=True))


def shows(text: str, token: str) -> bool:
    """Tell whether some letters of a token stand in a text, in whatever case or encoding."""
    texts = (text.casefold(), unquote_plus(text).casefold())
    runs = (token[at : at + _RUN].casefold() for at in range(max(1, len(token) - _RUN + 1)))
    return len(token) >= _SHORTEST and any(run in one for run in runs for one in texts)


class Redactor(logging.Filter):
    """Takes tokens out of every record that passes."""

    def __init__(self) -> None:
        """Begin with no token known; the pattern of the parameter works at once."""
        super().__init__()
        self._known: set[str] = set()

    def learn(self, tokens: Iterable[str]) -> None:
        """Blot out these tokens too, plain and as they stand in a URL."""
        for token in tokens:
            # A new set: other threads may be in the old one.
            self._known = self._known.union(forms_of(token))

    def clean(self, text: str) -> str:
        """Return the text without any token."""
        text = _NAMED.sub(rf"\g<1>{BLOT}", text)
        for token in self._known:
            text = text.replace(token, BLOT)
        return text

    def line(self, text: str) -> str:
        """Return the text without any token, as one line that can be shown."""
        cleaned = self.clean(text)
        if not cleaned.isprintable():
            # Names and ids are the API's: none may begin a line, or tell a terminal what to do.
            cleaned = "".join(char if char.isprintable() else " " for char in cleaned)
        return cleaned

    def filter(self, record: logging.LogRecord) -> bool:
        """Blot the record's text, and keep it to one line; every record passes."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # somebody's log line is wrong; logging itself says so
            return True
        cleaned = self.line(message)
        if cleaned != message:
            record.msg, record.args = cleaned, None
        if record.exc_info and record.exc_info[1] is not None:
            self._clean_exception(record.exc_info[1])
        return True

    def _clean_exception(self, error: BaseException) -> None:
        """Blot the texts of an exception, and of those behind it, for any formatter."""
        error.args = tuple(self.clean(arg) if isinstance(arg, str) else arg for arg in error.args)
        if isinstance(error, OSError) and isinstance(error.filename, str):
            error.filename = self.clean(error.filename)
        nested = [error.__cause__, error.__context__, *error.args]
        for inner in nested:
            if isinstance(inner, BaseException) and inner is not error:
                self._clean_exception(inner)

    def guard(self) -> None:
        """Stand before all handlers there are, and before urllib3's own log of URLs."""
        for handler in logging.getLogger().handlers:
            handler.addFilter(self)
        logging.getLogger("urllib3.connectionpool").addFilter(self)
