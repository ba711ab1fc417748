"""Personal data of customers and staff, where the setting `personal_data` does not keep it.

A schema marks what is personal (`PERSONAL`), and whose (`PERSON`). Of what no schema declares, the
name tells. Phone numbers and e-mail addresses are looked for in texts, too.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberFormat, PhoneNumberType

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

# What the fields are called that hold one kind of personal data, where no schema says so.
_NAMES = {
    "phone": r"phone|mobile|msisdn|hotline|captured|^caller|^callee|(^|_)tel$",
    "email": r"e_?mail",
    "birthday": r"birth|(^|_)s?dob$",
    "avatar": r"avatar|profile_pic|cover_url",
    "address": r"address|lives_in|location|street|hometown",
    "name": r"(^|_)((nick|user|first|last|full|middle|display)_?)?name$|unique_id$",
}
_NAMED = re.compile(
    "|".join(f"(?P<{kind}>{names})" for kind, names in _NAMES.items()), re.IGNORECASE
)
# Whatever else such a name holds.
_OTHERWISE = re.compile(
    r"^(has|is|can|num|sum|need|allow|total|count|number_of|(today_)?uniq)_"
    r"|_(count|at|on|time|status|checked|verified|enabled|type|code|length|offset|format"
    r"|histor(y|ies))$"
    r"|(^|_)(?<!unique_)ids?$"
    r"|^(page|ad|ads|adset|tag|campaign|file|product|variation|event|template|feedback|shop"
    r"|group|app|platform|account|flow|form|post|warehouse|category|status)_?name$",
    re.IGNORECASE,
)

# Between two groups of digits; a `/` stands in dates.
_BETWEEN = r"(?:[\s.()\u2010-\u2015\u200b·,*_-]|&nbsp;){0,3}"
_DIGITS = re.compile(rf"(?<![\d])(?:\+\s?\(?)?\d(?:{_BETWEEN}\d)*", re.IGNORECASE)
_GROUP = re.compile(r"\d+")
_FEWEST, _MOST = 8, 15
"""Digits of a phone number."""
_BARE = range(9, 13)
"""Digits of what begins like a phone number, and is none that the plan of a country knows."""
_LINK = re.compile(r"https?://[^\s<>\"']+", re.IGNORECASE)
_WHOLE_PART = re.compile(r"(?<=[/=:])(?:\+|%2B)?\d{8,15}(?=$|[/?&#.,;)])", re.IGNORECASE)
"""Of a link: a part that is all digits."""
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]+@[\w-]+(?:\.[\w-]+)+")
# A snippet is cut, perhaps within a phone number.
_CUT = re.compile(rf"(?:\+|(?<!\d)0)(?:{_BETWEEN}\d){{2,15}}(?=\s*(?:…|\.\.\.)$)")
# Of pages whose country is not told, in this order.
_COUNTRIES = ("VN", "TH", "ID", "PH")
_MOBILE = {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}


def kind_of(name: str) -> str | None:
    """Return what personal data a field holds by its name; None if none.

    Returns:
        `phone`, `email`, `birthday`, `avatar`, `address` or `name`.
    """
    found = _NAMED.search(name)
    return None if found is None or _OTHERWISE.search(name) else found.lastgroup


@lru_cache(maxsize=20_000)
def phone(text: str, country: str | None) -> str | None:
    """Return a phone number in the one form that it has everywhere, such as `+84901234567`.

    Args:
        text: as it was written.
        country: whose numbers need no country code, as two letters; None for any of Pancake's.

    Returns:
        None if this is no phone number.
    """
    digits = phonenumbers.normalize_digits_only(text)
    written = ("+" if text.lstrip().startswith("+") else "") + digits
    if not _FEWEST <= len(digits) <= _MOST:
        return None
    if digits.startswith("00"):
        written = f"+{digits[2:]}"
    is_whole = text.strip().lstrip("+").isdigit()
    regions = _COUNTRIES if country is None else (country,)
    first = None
    for region in regions:
        try:
            number = phonenumbers.parse(written, region)
        except NumberParseException:
            continue
        first = first or phonenumbers.format_number(number, PhoneNumberFormat.E164)
        begins = ("0", "+", str(number.country_code))
        if phonenumbers.is_valid_number(number) and (
            written.startswith(begins) or (is_whole and phonenumbers.number_type(number) in _MOBILE)
        ):
            return phonenumbers.format_number(number, PhoneNumberFormat.E164)
    if is_whole and written[0] in "0+" and len(digits) in _BARE:
        return first or f"+{digits}"
    return None


def _phones(text: str, country: str | None) -> Iterator[tuple[int, int, str]]:
    """Find the phone numbers in a text: where each begins and ends, and its one form."""
    for run in _DIGITS.finditer(text):
        groups = list(_GROUP.finditer(text, run.start(), run.end()))
        at = 0
        while at < len(groups):
            start = groups[at].start() if at else run.start()
            lengths = accumulate(len(group[0]) for group in groups[at : at + _MOST])
            last = at + sum(length <= _MOST for length in lengths)
            while last > at:  # the longest first
                end = groups[last - 1].end()
                number = phone(text[start:end].replace("&nbsp;", " "), country)
                if number is not None:
                    yield start, end, number
                    break
                last -= 1
            at = max(last, at + 1)


class Protection:
    """What becomes of personal data: hashed, or left out."""

    def __init__(self, persons: Container[str], key: str | None) -> None:
        """Protect the data of some persons.

        Args:
            persons: whose, as the schemas say.
            key: of the hash that takes the place of each value; None to leave values out.
        """
        self._persons = persons
        self._key = None if key is None else key.encode()
        self._countries: dict[str, str] = {}
        # Of the row that is shaped now.
        self._country: str | None = None
        self._captured: Sequence[tuple[str, tuple[str, str]]] = ()

    def learn(self, page: Mapping[str, Any]) -> None:
        """Learn the country of a page, in which its phone numbers need no country code."""
        country = page.get("country")
        if isinstance(country, str) and country.upper() in phonenumbers.SUPPORTED_REGIONS:
            self._countries[str(page["id"])] = country.upper()

    def begin(self, row: Mapping[str, Any], page_id: object) -> None:
        """Begin with a row of a page: Pancake tells of some what phone numbers its texts have."""
        self._country = self._countries.get(str(page_id))
        listed = (row.get(name) for name in ("phone_info", "recent_phone_numbers"))
        self._captured = [
            (captured, ("phone", str(each.get("phone_number") or captured)))
            for each in [part for parts in listed if isinstance(parts, list) for part in parts]
            if isinstance(each, dict)
            and isinstance(captured := each.get("captured"), str)
            and len(captured) >= _FEWEST
        ]

    def guard(self, kind: str, person: str) -> Callable[[Any], Any] | None:
        """Return what is done with the value of a field; None if it is kept."""
        if person not in self._persons:
            return None
        return lambda value: self._protect(value, kind)

    def free(self, value: Any, name: str, person: str) -> Any:
        """Protect what no schema declares, by the name that it has."""
        return self._by_name(value, name) if person in self._persons else value

    def _by_name(self, value: Any, name: str) -> Any:
        kind = kind_of(name)
        if isinstance(value, dict):
            if kind in {None, "phone", "email", "avatar"}:
                return {
                    known: self._by_name(part, inner)
                    for inner, part in value.items()
                    if (known := self._name(inner)) is not None
                }
            return self._protect(value, kind)
        if isinstance(value, list) and any(isinstance(part, (dict, list)) for part in value):
            return [self._by_name(part, name) for part in value]
        if kind is not None:
            return self._protect(value, kind)
        if isinstance(value, list):
            return [self._by_name(part, name) for part in value]
        return value if _OTHERWISE.search(name) else self._protect(value, "text")

    def _name(self, name: str) -> str | None:
        """Return the name of a field, which may be a phone number or an e-mail address itself."""
        if _EMAIL.fullmatch(name):
            return self._hash(name, "email")
        if not name.startswith(("0", "+")) or phone(name, self._country) is None:
            return name
        return self._hash(name, "phone")

    def _protect(self, value: Any, kind: str | None) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if kind == "text":
            return self._clean(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            return {
                name: part if _OTHERWISE.search(name) else self._protect(part, kind)
                for name, part in value.items()
            }
        if self._key is None:
            return None
        if isinstance(value, list):
            return [self._protect(part, kind) for part in value]
        return self._hash(str(value), kind) if value != "" else value

    def _hash(self, text: str, kind: str | None) -> str | None:
        """Return the hash of a value in its one form; None if values are left out."""
        if self._key is None:
            return None
        form = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        if kind == "phone":
            form = phone(text, self._country) or re.sub(r"[^\d+]", "", text) or form
        elif kind == "avatar":
            form = text.partition("?")[0]
        return hmac.new(self._key, form.encode(), hashlib.sha256).hexdigest()

    def _clean(self, text: str) -> str:
        """Replace phone numbers and e-mail addresses in a text."""
        known = dict(self._captured)
        sure = "|".join([*map(re.escape, known), _EMAIL.pattern])
        # A hash may look like a number itself, so no part of a text is looked at twice.
        found = (
            (*each.span(), self._mark(*known.get(each[0], ("email", each[0]))))
            for each in re.finditer(sure, text)
        )
        return _replaced(text, found, self._clean_links)

    def _clean_links(self, text: str) -> str:
        # A link may be one to somebody's number; others hold digits of all kinds.
        def mark(part: re.Match[str]) -> str:
            number = phone(part[0], self._country)
            return part[0] if number is None else self._mark("phone", number)

        found = ((*each.span(), _WHOLE_PART.sub(mark, each[0])) for each in _LINK.finditer(text))
        return _replaced(text, found, self._clean_words)

    def _clean_words(self, text: str) -> str:
        found = (
            (start, end, self._mark("phone", number))
            for start, end, number in _phones(text, self._country)
        )
        return _replaced(text, found, lambda rest: _CUT.sub("[phone]", rest))

    def _mark(self, kind: str, value: str) -> str:
        known = self._hash(value, kind)
        return f"[{kind}]" if known is None else f"[{kind} {known}]"


def _replaced(
    text: str, found: Iterable[tuple[int, int, str]], change: Callable[[str], str]
) -> str:
    """Return a text with what was found in it replaced, and the rest changed.

    Args:
        text: the text.
        found: where each begins and ends, and what takes its place.
        change: changes what is between them.
    """
    parts, done = [], 0
    for start, end, replacement in found:
        parts += [change(text[done:start]), replacement]
        done = end
    return "".join([*parts, change(text[done:])])
