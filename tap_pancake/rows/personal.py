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
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

# What the fields are called that hold one kind of personal data, where no schema says so.
_NAMES = {
    "phone": r"phone|(^|_)(mobile|msisdn|hotline|tel|sdt)(_(number|no))?s?$|captured|^calle[re]",
    "email": r"e_?mail",
    "birthday": r"birth|(^|_)(s?dob|bday)$",
    "avatar": r"avatar|picture|(?<!click_)photo_url|profile_pic|cover_url",
    "address": r"address|(^|_)addr$|lives_in|location|street|hometown|(^|_)(ward|city)$",
    "name": r"(^|_)((nick|user|first|last|full|middle|display|sur|given|family)_?)?names?"
    r"(_list|_?\d+)?$|unique_id$"
    r"|(^|_)(receiver|recipient|buyer|contact|customer)$",
}
_NAMED = re.compile("|".join(f"(?P<{kind}>{names})" for kind, names in _NAMES.items()))
# Whatever else such a name holds.
_OTHERWISE = re.compile(
    r"^(has|is|can|num|sum|need|allow|total|count|number_of|(today_)?uniq|ip)_"
    r"|_(count|at|on|time|status|checked|verified|enabled|type|code|length|offset|format|width"
    r"|height|size)$"
    r"|(^|_)(?<!unique_)(p?s?|u)ids?$"
    r"|^(page|ad|ads|adset|tag|campaign|file|product|variation|event|template|feedback|shop"
    r"|group|app|platform|flow|form|post|warehouse|category|status)_?names?$"
)
_ID = re.compile(r"(^|_)(ps|u)?ids?$")
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|\W+")

# The fields of a row in which Pancake tells what phone numbers it has found in texts.
_CAPTURES = ("phone_info", "recent_phone_numbers", "conv_recent_phone_numbers")

# What stands between the digits of a number, as blanks of the same length, so that places stay.
_BLANK = re.compile(r"&nbsp;|&#160;|%(?!2B)[0-9A-F]{2}|<[^<>\d]{0,40}>", re.IGNORECASE)
_PLUS = re.compile(r"%2B|&#43;", re.IGNORECASE)
# No number, though its digits may be those of one: a date, a UUID.
_OTHER = re.compile(
    r"(?<![\d.])(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|1[0-2])\1(?:19|20)\d\d(?![.-]?\d)"
    r"|(?<!\d)(?:19|20)\d\d-\d\d-\d\d(?!\d)"
    r"|(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])"
)
# Between two digits.
_BETWEEN = r"[\s.()\u2010-\u2015\u2212\u00ad\u200b\u200c\u2060\ufeff\ufe0f\u20e3·•|:/,*_-]{0,8}"
_DIGITS = re.compile(rf"(?<!\d)(?:\+\s?\(?)?\d(?:{_BETWEEN}\d)*")
_GROUP = re.compile(r"\d+")
_NUMBER = re.compile(r"\+?\(?\d[\d\s().-]+")
_FEWEST, _MOST = 8, 15
"""Digits of a phone number."""
_SHORTEST = 6
"""Characters of what Pancake has captured, below which it may stand anywhere."""
_BARE = range(9, 13)
"""Digits of what begins like a phone number, and is none that the plan of a country knows."""
_LINK = re.compile(r"https?://(?:(?!&nbsp;)[^\s<>\"'])+", re.IGNORECASE)
_ENDS_PART = re.compile(r"$|[/?&#.,;)\s<\"']")
_AT = r"(?:[@\uff20]|&#64;|&#x40;|%40)"
# Behind a `%` with two digits, which is one character, or at the beginning of a word.
_STARTS = r"(?:(?<![\w.%+-])|(?<=%[0-9a-fA-F]{2})|(?<=%)(?![0-9a-fA-F]{2}))"
_EMAIL = re.compile(
    rf"{_STARTS}[\w.+-]+\u200b?{_AT}\u200b?[\w-]+(?:\.[\w-]+)*\.[a-z]{{2,24}}", re.IGNORECASE
)
# A snippet is cut, perhaps within a number or an address.
_CUT = re.compile(
    rf"(?:(?P<phone>(?<!\d)(?:(?:\+|0)(?:{_BETWEEN}\d){{2,14}}|(?:84|66|62|63)\d{{4,13}}){_BETWEEN})"
    rf"|(?P<email>{_STARTS}[\w.+-]+{_AT}[\w.-]*))(?=…\s*$)"
)
# What a captured number has between its parts, as the text has it.
_SPACE = r"(?:\s|&nbsp;|<[^<>]{0,40}>){1,8}"
# Of pages whose country is not told, in this order.
_COUNTRIES = ("VN", "TH", "ID", "PH")
_MOBILE = {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}


@lru_cache(maxsize=10_000)
def kind_of(name: str) -> str | None:
    """Return what personal data a field holds by its name; None if none.

    Returns:
        `phone`, `email`, `birthday`, `avatar`, `address` or `name`.
    """
    words = _WORDS.sub("_", name).lower()
    found = _NAMED.search(words)
    return None if found is None or _OTHERWISE.search(words) else found.lastgroup


@lru_cache(maxsize=20_000)
def phone(text: str, country: str | None, *, in_link: bool = False) -> str | None:
    """Return a phone number in the one form that it has everywhere, such as `+84901234567`.

    Args:
        text: as it was written.
        country: whose numbers need no country code, as two letters; None for any of Pancake's.
        in_link: whether digits of all kinds are to be expected, so that it must begin like one.

    Returns:
        None if this is no phone number.
    """
    digits = phonenumbers.normalize_digits_only(text)
    written = ("+" if text.lstrip().startswith("+") else "") + digits
    if not _FEWEST <= len(digits) <= _MOST:
        return None
    if digits.startswith("00"):
        written = f"+{digits[2:]}"
    between = set(re.sub(r"[+\d]", "", text.strip()))
    is_whole, is_spaced = not between, between in ({" "}, {"-"})
    regions = _COUNTRIES if country is None else (country,)
    first = None
    for region in regions:
        try:
            number = phonenumbers.parse(written, region)
        except NumberParseException:
            continue
        form = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        first = first or form
        if not phonenumbers.is_valid_number(number):
            continue
        is_mobile = phonenumbers.number_type(number) in _MOBILE
        begins = ("0", "+", str(number.country_code))
        is_bare = is_whole or (is_spaced and digits[:3] in text)
        # A round one is a price.
        if written.startswith(begins) or (
            is_mobile and is_bare and not in_link and not digits.endswith("000")
        ):
            return form
    if is_whole and not in_link and written[0] in "0+" and len(digits) in _BARE:
        return first or f"+{digits}"
    return None


def _plain(text: str) -> str:
    """Return a text of the same length, in which marks of HTML and links do not divide numbers."""
    text = _BLANK.sub(lambda found: " " * len(found[0]), text)
    return _PLUS.sub(lambda found: "+".rjust(len(found[0])), text)


def _phones(text: str, country: str | None) -> Iterator[tuple[int, int, str]]:
    """Find the phone numbers in a text: where each begins and ends, and its one form."""
    links = [found.span() for found in _LINK.finditer(text)]
    text = _plain(_OTHER.sub(lambda found: "x" * len(found[0]), text))
    for run in _DIGITS.finditer(text):
        groups = list(_GROUP.finditer(text, run.start(), run.end()))
        at = 0
        while at < len(groups):
            start = groups[at].start() if at else run.start()
            lengths = accumulate(len(group[0]) for group in groups[at : at + _MOST])
            last = at + sum(length <= _MOST for length in lengths)
            while last > at:  # the longest first
                end = groups[last - 1].end()
                in_link = any(low <= start and end <= high for low, high in links)
                number = phone(text[start:end], country, in_link=in_link)
                if number is not None and in_link and text[start] not in "0+":
                    # Other digits of a link are a number only where they are a part of it.
                    is_part = text[start - 1] in "/=: " and _ENDS_PART.match(text, end)
                    number = number if is_part else None
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
        self._captured: list[str] = []
        self._sure = _EMAIL

    def learn(self, page: Mapping[str, Any]) -> None:
        """Learn the country of a page, in which its phone numbers need no country code."""
        country = page.get("country")
        if isinstance(country, str) and country.upper() in phonenumbers.SUPPORTED_REGIONS:
            self._countries[str(page["id"])] = country.upper()

    def begin(self, row: Mapping[str, Any], page_id: object) -> None:
        """Begin with a row of a page: Pancake tells of some what phone numbers its texts have."""
        self._country = self._countries.get(str(page_id))
        told = (row.get(name) for name in _CAPTURES)
        listed = ([one] if isinstance(one, dict) else one for one in told)
        captures = [
            (captured, str(each.get("phone_number") or captured))
            for each in [part for parts in listed if isinstance(parts, list) for part in parts]
            if isinstance(each, dict)
            and isinstance(captured := each.get("captured"), str)
            and len(captured.strip()) >= _SHORTEST
        ]
        captures.sort(key=lambda each: len(each[0]), reverse=True)
        self._captured = [number for _, number in captures]
        parts = [f"({_SPACE.join(map(re.escape, captured.split()))})" for captured, _ in captures]
        pattern = "|".join([*parts, _EMAIL.pattern])
        self._sure = re.compile(pattern, re.IGNORECASE) if parts else _EMAIL

    def guard(self, kind: str, person: str) -> Callable[[Any], Any] | None:
        """Return what is done with the value of a field; None if it is kept."""
        if person not in self._persons:
            return None
        return lambda value: self._protect(value, kind)

    def free(self, value: Any, name: str, person: str) -> Any:
        """Protect what no schema declares, by the name that it has."""
        return self._by_name(value, name) if person in self._persons else value

    def name(self, name: str, above: str = "") -> str | None:
        """Return the name of a field, which may be a phone number or an e-mail address itself.

        Args:
            name: the field's.
            above: that of the object which it is in.

        Returns:
            None if it is one, and such values are left out.
        """
        if not _NUMBER.fullmatch(name):
            return self._hash(name, "email") if _EMAIL.fullmatch(name) else name
        number = phone(name, self._country)
        if number is None or not (
            name[0] in "0+" or number == f"+{name}" or kind_of(above) == "phone"
        ):
            return name
        return self._hash(name, "phone")

    def clean(self, text: str) -> str:
        """Replace phone numbers and e-mail addresses in a text."""
        # A hash may look like a number itself, so no part of a text is looked at twice.
        found = ((*each.span(), self._mark_sure(each)) for each in self._sure.finditer(text))
        return _replaced(text, found, self._clean_words)

    def _mark_sure(self, found: re.Match[str]) -> str:
        """Return the mark of what Pancake has captured, or of an address."""
        if found.lastindex:
            return self._mark("phone", self._captured[found.lastindex - 1])
        return self._mark("email", found[0])

    def _clean_cut(self, text: str) -> str:
        """Replace what is personal in a text of which the end is cut off."""
        cut = _CUT.search(_plain(text))
        if cut is None:
            return self.clean(text)
        return f"{self.clean(text[: cut.start()])}[{cut.lastgroup}]{text[cut.end() :]}"

    def _clean_words(self, text: str) -> str:
        found = (
            (start, end, self._mark("phone", number))
            for start, end, number in _phones(text, self._country)
        )
        return _replaced(text, found, lambda rest: rest)

    def _by_name(self, value: Any, name: str) -> Any:
        kind = kind_of(name)
        if isinstance(value, dict):
            if kind in {None, "phone", "email", "avatar"}:
                return {
                    known: self._by_name(part, inner)
                    for inner, part in value.items()
                    if (known := self.name(inner, name)) is not None
                }
            return self._protect(value, kind)
        if isinstance(value, list) and (
            kind is None or any(isinstance(part, (dict, list)) for part in value)
        ):
            return [self._by_name(part, name) for part in value]
        if kind is not None:
            return self._protect(value, kind)
        return value if _ID.search(name) else self._protect(value, "text")

    def _protect(self, value: Any, kind: str | None) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if kind in {"text", "snippet"}:
            clean = self.clean if kind == "text" else self._clean_cut
            return clean(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            return {
                known: self._by_name(part, name)
                if _OTHERWISE.search(name)
                else self._protect(part, kind)
                for name, part in value.items()
                if (known := self.name(name, str(kind))) is not None
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
            bare = re.sub(r"[^\d+]", "", text)
            form = phone(text, self._country) or phone(bare, self._country) or bare or form
        elif kind == "email":
            form = re.sub(_AT, "@", form).replace("\u200b", "").strip("._-")
        elif kind == "avatar":
            form = text.partition("?")[0]
        return hmac.new(self._key, form.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()

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
        if start < done:
            continue
        parts += [change(text[done:start]), replacement]
        done = end
    return "".join([*parts, change(text[done:])])
