"""Protection of personal data: hashed or left out, unless the setting `personal_data` is `keep`.

A schema marks which values are personal (`PERSONAL`) and whose they are (`PERSON`). For fields that
no schema declares, the name decides. Phone numbers and e-mail addresses in texts are found, too.
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

# Field names that mean a kind of personal data, for fields that no schema declares.
_KIND_NAMES = {
    "phone": r"phone|(^|_)(mobile|msisdn|hotline|tel|sdt)(_(number|no))?s?$|captured|^calle[re]",
    "email": r"e_?mail",
    "birthday": r"birth|(^|_)(s?dob|bday)$",
    "avatar": r"avatar|picture|(?<!click_)photo_url|profile_pic|cover_url",
    "address": r"address|(^|_)addr$|lives_in|location|street|hometown|(^|_)(ward|city)$",
    "name": r"(^|_)((nick|user|first|last|full|middle|display|sur|given|family)_?)?names?"
    r"(_list|_?\d+)?$|unique_id$"
    r"|(^|_)(receiver|recipient|buyer|contact|customer)$",
}
_KIND = re.compile("|".join(f"(?P<{kind}>{names})" for kind, names in _KIND_NAMES.items()))
# Field names that match one of these are never personal.
_NOT_PERSONAL = re.compile(
    r"^(has|is|can|num|sum|need|allow|total|count|number_of|(today_)?uniq|ip)_"
    r"|_(count|at|on|time|status|checked|verified|enabled|type|code|length|offset|format|width"
    r"|height|size)$"
    r"|(^|_)(?<!unique_)(p?s?|u)ids?$"
    r"|^(page|ad|ads|adset|tag|campaign|file|product|variation|event|template|feedback|shop"
    r"|group|app|platform|flow|form|post|warehouse|category|status)_?names?$"
)
_ID_NAME = re.compile(r"(^|_)(ps|u)?ids?$")
_WORD_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|\W+")

# Fields of a row with the phone numbers that Pancake has found ("captured") in its texts.
_CAPTURE_FIELDS = ("phone_info", "recent_phone_numbers", "conv_recent_phone_numbers")

# Markup between the digits of a number. Blanks of the same length replace it: positions stay.
_MARKUP = re.compile(r"&nbsp;|&#160;|%(?!2B)[0-9A-F]{2}|<[^<>\d]{0,40}>", re.IGNORECASE)
_ENCODED_PLUS = re.compile(r"%2B|&#43;", re.IGNORECASE)
# Dates and UUIDs: not phone numbers, though their digits may look like one.
_DATE_OR_UUID = re.compile(
    r"(?<![\d.])(?:0?[1-9]|[12]\d|3[01])([./-])(?:0?[1-9]|1[0-2])\1(?:19|20)\d\d(?![.-]?\d)"
    r"|(?<!\d)(?:19|20)\d\d-\d\d-\d\d(?!\d)"
    r"|(?<![0-9a-f])[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?![0-9a-f])"
)
# Characters between two digits of a number.
_SEPARATORS = r"[\s.()\u2010-\u2015\u2212\u00ad\u200b\u200c\u2060\ufeff\ufe0f\u20e3·•|:/,*_-]{0,8}"
_DIGIT_RUN = re.compile(rf"(?<!\d)(?:\+\s?\(?)?\d(?:{_SEPARATORS}\d)*")
_DIGIT_GROUP = re.compile(r"\d+")
_NUMBER_NAME = re.compile(r"\+?\(?\d[\d\s().-]+")
_MIN_DIGITS, _MAX_DIGITS = 8, 15
"""Minimum and maximum digits of a phone number."""
_MIN_CAPTURE = 6
"""Minimum characters of a captured number: a shorter one may occur anywhere in a text."""
_UNASSIGNED_DIGITS = range(9, 13)
"""Number of digits of a text that begins like a phone number but is in no numbering plan."""
_LINK = re.compile(r"https?://(?:(?!&nbsp;)[^\s<>\"'])+", re.IGNORECASE)
_LINK_PART_END = re.compile(r"$|[/?&#.,;)\s<\"']")
_AT = r"(?:[@\uff20]|&#64;|&#x40;|%40)"
# At the beginning of a word, or behind a `%` with two hex digits, which is one character.
_EMAIL_START = r"(?:(?<![\w.%+-])|(?<=%[0-9a-fA-F]{2})|(?<=%)(?![0-9a-fA-F]{2}))"
_EMAIL = re.compile(
    rf"{_EMAIL_START}[\w.+-]+\u200b?{_AT}\u200b?[\w-]+(?:\.[\w-]+)*\.[a-z]{{2,24}}", re.IGNORECASE
)
# The end of a snippet, which may be cut off within a number or an address.
_CUT_OFF = re.compile(
    rf"(?:(?P<phone>(?<!\d)(?:(?:\+|0)(?:{_SEPARATORS}\d){{2,14}}|(?:84|66|62|63)\d{{4,13}})"
    rf"{_SEPARATORS})"
    rf"|(?P<email>{_EMAIL_START}[\w.+-]+{_AT}[\w.-]*))(?=…\s*$)"
)
# Text between the parts of a captured number.
_CAPTURE_SPACE = r"(?:\s|&nbsp;|<[^<>]{0,40}>){1,8}"
# Tried in this order for a page without a country.
_COUNTRIES = ("VN", "TH", "ID", "PH")
_MOBILE = {PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE}


@lru_cache(maxsize=10_000)
def kind_of(name: str) -> str | None:
    """Return the kind of personal data that a field name means; None if it means none.

    Returns:
        `phone`, `email`, `birthday`, `avatar`, `address` or `name`.
    """
    words = _WORD_BREAK.sub("_", name).lower()
    found = _KIND.search(words)
    return None if found is None or _NOT_PERSONAL.search(words) else found.lastgroup


@lru_cache(maxsize=20_000)
def phone(text: str, country: str | None, *, in_link: bool = False) -> str | None:
    """Return a phone number in its international form (E.164), such as `+84901234567`.

    Args:
        text: the number as it was written.
        country: two letters of the country whose numbers need no country code; None for each of
            `_COUNTRIES`.
        in_link: whether the text is in a link. Links have many digits, so it must then begin like a
            phone number.

    Returns:
        The number; None if the text is not a phone number.
    """
    digits = phonenumbers.normalize_digits_only(text)
    written = ("+" if text.lstrip().startswith("+") else "") + digits
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS:
        return None
    if digits.startswith("00"):
        written = f"+{digits[2:]}"
    between = set(re.sub(r"[+\d]", "", text.strip()))
    is_unbroken, is_spaced = not between, between in ({" "}, {"-"})
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
        is_bare = is_unbroken or (is_spaced and digits[:3] in text)
        # A round number is a price.
        if written.startswith(begins) or (
            is_mobile and is_bare and not in_link and not digits.endswith("000")
        ):
            return form
    if is_unbroken and not in_link and written[0] in "0+" and len(digits) in _UNASSIGNED_DIGITS:
        return first or f"+{digits}"
    return None


def _without_markup(text: str) -> str:
    """Return a text of the same length without the markup that may divide numbers."""
    text = _MARKUP.sub(lambda found: " " * len(found[0]), text)
    return _ENCODED_PLUS.sub(lambda found: "+".rjust(len(found[0])), text)


def _find_phones(text: str, country: str | None) -> Iterator[tuple[int, int, str]]:
    """Yield start, end and international form of each phone number in a text."""
    links = [found.span() for found in _LINK.finditer(text)]
    text = _without_markup(_DATE_OR_UUID.sub(lambda found: "x" * len(found[0]), text))
    for run in _DIGIT_RUN.finditer(text):
        groups = list(_DIGIT_GROUP.finditer(text, run.start(), run.end()))
        at = 0
        while at < len(groups):
            start = groups[at].start() if at else run.start()
            lengths = accumulate(len(group[0]) for group in groups[at : at + _MAX_DIGITS])
            last = at + sum(length <= _MAX_DIGITS for length in lengths)
            while last > at:  # the longest first
                end = groups[last - 1].end()
                in_link = any(low <= start and end <= high for low, high in links)
                number = phone(text[start:end], country, in_link=in_link)
                if number is not None and in_link and text[start] not in "0+":
                    # Other digits in a link are a number only if they are a whole part of the link.
                    is_part = text[start - 1] in "/=: " and _LINK_PART_END.match(text, end)
                    number = number if is_part else None
                if number is not None:
                    yield start, end, number
                    break
                last -= 1
            at = max(last, at + 1)


class Protection:
    """Protection of personal data: values are hashed or left out."""

    def __init__(self, persons: Container[str], key: str | None) -> None:
        """Protect the data of some persons.

        Args:
            persons: persons as the schemas name them, such as `customer`.
            key: key of the hash that replaces each value; None to leave values out.
        """
        self._persons = persons
        self._key = None if key is None else key.encode()
        self._countries: dict[str, str] = {}
        # For the present row.
        self._country: str | None = None
        self._captured: list[str] = []
        self._certain = _EMAIL

    def learn(self, page: Mapping[str, Any]) -> None:
        """Store the country of a page, whose phone numbers need no country code there."""
        country = page.get("country")
        if isinstance(country, str) and country.upper() in phonenumbers.SUPPORTED_REGIONS:
            self._countries[str(page["id"])] = country.upper()

    def begin(self, row: Mapping[str, Any], page_id: object) -> None:
        """Prepare for a row of a page: store the phone numbers that Pancake has found in it."""
        self._country = self._countries.get(str(page_id))
        found = (row.get(name) for name in _CAPTURE_FIELDS)
        listed = ([one] if isinstance(one, dict) else one for one in found)
        captures = [
            (captured, str(each.get("phone_number") or captured))
            for each in [part for parts in listed if isinstance(parts, list) for part in parts]
            if isinstance(each, dict)
            and isinstance(captured := each.get("captured"), str)
            and len(captured.strip()) >= _MIN_CAPTURE
        ]
        captures.sort(key=lambda each: len(each[0]), reverse=True)
        self._captured = [number for _, number in captures]
        parts = [
            f"({_CAPTURE_SPACE.join(map(re.escape, captured.split()))})" for captured, _ in captures
        ]
        pattern = "|".join([*parts, _EMAIL.pattern])
        self._certain = re.compile(pattern, re.IGNORECASE) if parts else _EMAIL

    def guard(self, kind: str, person: str) -> Callable[[Any], Any] | None:
        """Return the function that protects the value of a field; None if the value is kept."""
        if person not in self._persons:
            return None
        return lambda value: self._protect(value, kind)

    def protect_undeclared(self, value: Any, name: str, person: str) -> Any:
        """Return a value that no schema declares, protected according to its name."""
        return self._protect_by_name(value, name) if person in self._persons else value

    def field_name(self, name: str, above: str = "") -> str | None:
        """Return a field name, hashed if it is itself a phone number or an e-mail address.

        Args:
            name: name of the field.
            above: name of the object that contains it.

        Returns:
            The name; None if it is personal and values are left out.
        """
        if not _NUMBER_NAME.fullmatch(name):
            return self._hash(name, "email") if _EMAIL.fullmatch(name) else name
        number = phone(name, self._country)
        if number is None or not (
            name[0] in "0+" or number == f"+{name}" or kind_of(above) == "phone"
        ):
            return name
        return self._hash(name, "phone")

    def clean(self, text: str) -> str:
        """Return a text with phone numbers and e-mail addresses replaced."""
        # A hash may look like a number, so replaced parts are not searched again.
        found = ((*each.span(), self._mark_certain(each)) for each in self._certain.finditer(text))
        return _replace_found(text, found, self._clean_phones)

    def _mark_certain(self, found: re.Match[str]) -> str:
        """Return the replacement of a captured number or of an e-mail address."""
        if found.lastindex:
            return self._mark("phone", self._captured[found.lastindex - 1])
        return self._mark("email", found[0])

    def _clean_snippet(self, text: str) -> str:
        """Return a text with a cut-off end, with what is personal replaced."""
        cut = _CUT_OFF.search(_without_markup(text))
        if cut is None:
            return self.clean(text)
        return f"{self.clean(text[: cut.start()])}[{cut.lastgroup}]{text[cut.end() :]}"

    def _clean_phones(self, text: str) -> str:
        found = (
            (start, end, self._mark("phone", number))
            for start, end, number in _find_phones(text, self._country)
        )
        return _replace_found(text, found, lambda rest: rest)

    def _protect_by_name(self, value: Any, name: str) -> Any:
        kind = kind_of(name)
        if isinstance(value, dict):
            if kind in {None, "phone", "email", "avatar"}:
                return {
                    kept_name: self._protect_by_name(part, inner)
                    for inner, part in value.items()
                    if (kept_name := self.field_name(inner, name)) is not None
                }
            return self._protect(value, kind)
        if isinstance(value, list) and (
            kind is None or any(isinstance(part, (dict, list)) for part in value)
        ):
            return [self._protect_by_name(part, name) for part in value]
        if kind is not None:
            return self._protect(value, kind)
        return value if _ID_NAME.search(name) else self._protect(value, "text")

    def _protect(self, value: Any, kind: str | None) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if kind in {"text", "snippet"}:
            clean = self.clean if kind == "text" else self._clean_snippet
            return clean(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            return {
                kept_name: self._protect_by_name(part, name)
                if _NOT_PERSONAL.search(name)
                else self._protect(part, kind)
                for name, part in value.items()
                if (kept_name := self.field_name(name, str(kind))) is not None
            }
        if self._key is None:
            return None
        if isinstance(value, list):
            return [self._protect(part, kind) for part in value]
        return self._hash(str(value), kind) if value != "" else value

    def _hash(self, text: str, kind: str | None) -> str | None:
        """Return the hash of a normalized value; None if values are left out."""
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
        hashed = self._hash(value, kind)
        return f"[{kind}]" if hashed is None else f"[{kind} {hashed}]"


def _replace_found(
    text: str, found: Iterable[tuple[int, int, str]], change: Callable[[str], str]
) -> str:
    """Return a text with the parts found in it replaced, and the rest changed.

    Args:
        text: the text.
        found: start, end and replacement of each part.
        change: changes the text between these parts.
    """
    parts, done = [], 0
    for start, end, replacement in found:
        if start < done:
            continue
        parts += [change(text[done:start]), replacement]
        done = end
    return "".join([*parts, change(text[done:])])
