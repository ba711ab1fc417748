"""Personal data is kept, hashed or left out, wherever it stands."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from scripts.schemas import types_of
from tap_pancake.rows.personal import Protection, kind_of, phone
from tap_pancake.rows.shaping import OTHERS, PERSON, PERSONAL, RowShaper
from tap_pancake.tap import TapPancake
from tests.accounts import DIALECTS
from tests.pancake_api import Account, PancakeServer
from tests.processes import ROOT
from tests.tap import INBOX, config_for, log_lines, metadata_of, run_command, run_tap, select, sync
from tests.test_rows import NUMBERS, ROWS, SINCE, columns

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json, Run

KEY = "a key of the tests, which nobody guesses"
KINDS = {"phone", "email", "name", "address", "birthday", "avatar", "text", "snippet"}
OF_SHOPS = {
    ("pages", "name"),
    ("pages", "username"),
    ("pages", "avatar_url"),
    ("ad_statistics", "name"),
    ("campaign_statistics", "name"),
    ("conversation_details", "activities.ads_context_data.photo_url"),
    ("ads", "name"),
    ("sync_runs", "streams.name"),
}
"""What is called like personal data and is that of no person: of the shop, its ads, the streams."""


def hashed(form: str) -> str:
    """The hash of a value in its one form, as the documents say it is made."""
    return hmac.new(KEY.encode(), form.encode(), hashlib.sha256).hexdigest()


def protection(key: str | None = KEY, country: str | None = "VN") -> Protection:
    """What protects customers and staff of page `1`, which is of a country."""
    made = Protection({"customer", "staff"}, key)
    made.learn({"id": "1", "country": country})
    made.begin({}, "1")
    return made


def cleaned(text: str, *, key: str | None = KEY, country: str | None = "VN") -> Any:
    """A text as it is written; one that ends with `…` is a snippet."""
    kind = "snippet" if text.endswith("…") else "text"
    guard = protection(key, country).guard(kind, "customer")
    assert guard is not None
    return guard(text)


# What is marked


def schemas() -> Iterator[tuple[str, Json]]:
    for name, stream in TapPancake(config={"access_token": "invented"}).streams.items():
        yield name, stream.schema


def unmarked(schema: Json, path: str = "") -> Iterator[str]:
    """Each text of a schema that is called like personal data, and that nobody marked."""
    for name, part in schema.get("properties", {}).items():
        inner = part
        while PERSONAL not in inner and "items" in inner:
            inner = inner["items"]
        if PERSONAL not in inner and types_of(inner) == ["string"] and kind_of(name):
            yield f"{path}{name}"
        yield from unmarked(inner, f"{path}{name}.")


def test_whatever_is_called_like_personal_data_is_marked() -> None:
    found = {(name, path) for name, schema in schemas() for path in unmarked(schema)}
    assert found == OF_SHOPS


def test_a_mark_is_of_a_known_kind_and_stands_at_texts() -> None:
    marks = 0
    for name, schema in schemas():
        for column, part in columns(schema):
            if kind := part.get(PERSONAL):
                marks += 1
                assert kind in KINDS, f"{name}: {column}"
                assert types_of(part.get("items", part)) == ["string"], f"{name}: {column}"
            assert part.get(PERSON, "staff") == "staff", f"{name}: {column}"
    assert marks > 50


def test_the_document_deletes_all_that_holds_personal_data() -> None:
    text = (ROOT / "docs" / "personal-data.md").read_text(encoding="utf-8")
    marked = {name for name, schema in schemas() for _, part in columns(schema) if PERSONAL in part}
    assert set(re.findall(r"DELETE FROM pancake\.(\w+);", text)) == marked


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("phone_number", "phone"),
        ("recent_phone_numbers", "phone"),
        ("captured", "phone"),
        ("has_phone", None),
        ("phone_number_count", None),
        ("email", "email"),
        ("username", "name"),
        ("tt_unique_id", "name"),
        ("zalo_name", "name"),
        ("customer_name", "name"),
        ("page_name", None),
        ("campaign_name", None),
        ("sdob", "birthday"),
        ("birthday", "birthday"),
        ("avatar_url", "avatar"),
        ("shop_customer_addresses", "address"),
        ("address_id", None),
        ("lives_in", "address"),
        ("customerName", "name"),
        ("full name", "name"),
        ("receiver", "name"),
        ("receiver_phone", "phone"),
        ("automobile", None),
        ("ip_address", None),
        ("psid", None),
        ("avatar_width", None),
        ("global_id", None),
        ("inserted_at", None),
    ],
)
def test_the_name_of_what_nobody_declared_tells_its_kind(name: str, kind: str | None) -> None:
    assert kind_of(name) == kind


# Phone numbers


@pytest.mark.parametrize(
    ("text", "country", "number"),
    [
        ("0900000123", "VN", "+84900000123"),
        ("+84 900 000 123", "VN", "+84900000123"),
        ("0084900000123", "VN", "+84900000123"),
        ("84900000123", "VN", "+84900000123"),
        ("900000123", "VN", "+84900000123"),
        ("+840900000123", "VN", "+84900000123"),
        ("(090) 000-0123", "VN", "+84900000123"),
        (chr(0xFF10) + "900000123", "VN", "+84900000123"),
        ("๐๘๑๒๓๔๕๖๗๘", "TH", "+66812345678"),
        ("0812-3456-7890", "ID", "+6281234567890"),
        ("0917 123 4567", "PH", "+639171234567"),
        ("9171234567", "PH", "+639171234567"),
        ("+1 202 555 0143", "VN", "+12025550143"),
        ("0900000123", None, "+84900000123"),
        ("0123456789", "VN", "+84123456789"),  # a plan of numbers that is no more
        ("1500000", "VN", None),
        ("350000000 đ", "VN", None),
        ("19001234", "VN", None),
        ("123456789012", "VN", None),
        ("100012345678901", "VN", None),
        ("", "VN", None),
    ],
)
def test_a_phone_number_has_one_form(text: str, country: str | None, number: str | None) -> None:
    assert phone(text, country) == number


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("gọi 0900000123 nhé", "gọi [phone] nhé"),
        ("sđt0900000123k", "sđt[phone]k"),
        ("0900.000.123 hoặc +84 90 000 0123", "[phone] hoặc [phone]"),
        ("0900000123 0900000124", "[phone] [phone]"),
        ("0900000123\n0900000124", "[phone]\n[phone]"),
        ("0900000123 2 cái", "[phone] 2 cái"),
        ("2 0900000123", "2 [phone]"),
        ("0900_000_123 0900,000,123 0900*000*123", "[phone] [phone] [phone]"),
        ("<div>0900000123<br key='n_0' />090&nbsp;000 0123</div>", None),
        ("https://wa.me/84900000123?text=a", "https://wa.me/[phone]?text=a"),
        ("a.b+c@shop.example, x", "[email], x"),
        ("0900000123@zalo.example", "[email]"),
        ("cắt 09000001…", "cắt [phone]…"),
        ("cắt 090.000.…", "cắt [phone]…"),
        ("cắt 84900000…", "cắt [phone]…"),
        ("cắt a.b@shop.exa…", "cắt [email]…"),
        ("<div>https://shop.example/ao&nbsp;0900000123</div>", None),
        ("https://wa.me/+84 900 000 123", "https://wa.me/[phone]"),
        ("https://zalo.me/0900000123nhe", "https://zalo.me/[phone]nhe"),
        ("https://a.example/?text=sdt%200900000123", "https://a.example/?text=sdt%20[phone]"),
        ("https://a.example/?phone=0900.000.123", "https://a.example/?phone=[phone]"),
        ("0900<b>000</b>123", "[phone]"),
        ("090/000/0123, 090|000|0123", "[phone], [phone]"),
        ("900-000-123", "[phone]"),
        ("cắt 090&nbsp;000…", "cắt [phone]…"),
        ("https://l.example/?u=https%3A%2F%2Fwa.me%2F84900000123", None),
        ("https://x.example/?to=%20a.b%40shop.example", "https://x.example/?to=%20[email]"),
        ("a@shop.example.0900000123 a@shop.example.Gọi", "[email].[phone] [email].Gọi"),
        ('<a href="tel:0900000123">gọi</a>', '<a href="tel:[phone]">gọi</a>'),
        ("a.b\uff20shop.example a.b&#64;shop.example", "[email] [email]"),
    ],
)
def test_phone_numbers_and_addresses_are_found_in_texts(text: str, without: str | None) -> None:
    expected = (
        without
        or {
            "<div>h": "<div>https://shop.example/ao&nbsp;[phone]</div>",
            "https:": "https://l.example/?u=https%3A%2F%2Fwa.me%2F[phone]",
            "<div>0": "<div>[phone]<br key='n_0' />[phone]</div>",
        }[text[:6]]
    )
    assert cleaned(text, key=None) == expected
    is_cut = text.endswith("…")  # of a part of a number there is no hash
    assert (hashed("+84900000123") in cleaned(text)) is ("[phone]" in expected and not is_cut)


@pytest.mark.parametrize(
    "text",
    [
        "giá 1.500.000 đ - 2.350.000",
        "19.000.000đ, 350.000.000đ",
        "ngày 02-01-2024 10:30, 01/02/2024 10:30:00",
        "size 38 39 40 41 42 43",
        "mã đơn 123456789012",
        "giao 08.12.2026 09:00, 09/12/2026 08 giờ, 09-12-2026 - 15-12-2026",
        "08a90123-4567-4890-9012-345678901234",
        "giá 660.000...",
        "901.234.567 đ, 350 000 000 đ",
        "https://content.example/869162187 https://f.example/posts/901234567",
        "https://cdn.example/346098123_123456789012345_n.jpg?_nc_cat=1",
        "",
    ],
)
def test_other_numbers_stay(text: str) -> None:
    assert cleaned(text) == text


def test_an_address_has_one_hash_however_it_is_written() -> None:
    for text in ("a.b@shop.example", "A.B@Shop.example", "a.b&#64;shop.example"):
        assert cleaned(text) == f"[email {hashed('a.b@shop.example')}]"


@pytest.mark.parametrize("text", ["917 123 4567", "(917) 123-4567", "9171234567", "+639171234567"])
def test_a_column_of_numbers_has_one_hash_for_all_forms(text: str) -> None:
    guard = protection(country="PH").guard("phone", "customer")
    assert guard is not None
    assert guard(text) == hashed("+639171234567")


def test_what_pancake_found_to_be_a_number_is_replaced_however_it_is_written() -> None:
    shaper = RowShaper(stream_schema("messages"), protection=protection())
    captured = {"phone_number": "0900000123", "captured": "o9oo ooo 123", "length": 12}
    number = hashed("+84900000123")
    for text in ("o9oo ooo 123", "O9OO&nbsp;ooo  123", "o9oo<br/>ooo 123"):
        for info in ([captured], captured):
            row = {"original_message": f"số {text} ạ", "phone_info": info}
            shaped = shaper.shape(row, "1")
            assert shaped["original_message"] == f"số [phone {number}] ạ"
            assert shaped["phone_info"][0]["phone_number"] == number
            assert "ooo" not in json.dumps(shaped)


@pytest.mark.parametrize("text", ["0" + "1" * 5000, "0 " * 5000 + "…", "a" * 50_000, "a.@" * 9000])
def test_a_text_that_is_hard_to_search_takes_no_time(text: str) -> None:
    cleaned(text)  # a search that goes back and forth would not end


# Other places


def stream_schema(stream: str) -> Json:
    return dict(schemas())[stream]


def test_what_nobody_declared_is_protected_at_any_depth() -> None:
    row = {
        "id": "7",
        "from": {"id": "1", "tt_unique_id": "someone", "mother": {"full_name": "Someone"}},
        "reports_by_phone": {"+84900000123": {"order_fail": 1}, "0900000124": {"order_fail": 2}},
        "quoted": {
            "message": "gọi 0900000123",
            "from": {"name": "Someone", "email": "a@b.example"},
        },
        "shop_customer_addresses": [{"full_address": "Someone's street 1", "commune_id": "5"}],
        "birthday": {"year": 2001, "month": 2, "date": 3},
        "has_phone": True,
        "phones": ["0900000123"],
        "mail": None,
    }
    hashes = RowShaper(stream_schema("conversations"), protection=protection()).shape(row, "1")
    number = hashed("+84900000123")
    others = hashes[OTHERS]
    assert hashes["from"]["tt_unique_id"] == hashed("someone")
    assert hashes["from"]["mother"] == {"full_name": hashed("someone")}
    assert others["reports_by_phone"] == {
        number: {"order_fail": 1},
        hashed("+84900000124"): {"order_fail": 2},
    }
    assert others["quoted"]["message"] == f"gọi [phone {number}]"
    assert others["quoted"]["from"] == {"name": hashed("someone"), "email": hashed("a@b.example")}
    assert others["shop_customer_addresses"][0]["commune_id"] == "5"
    assert others["phones"] == [number]
    assert hashes["has_phone"] is True
    left = RowShaper(stream_schema("conversations"), protection=protection(None)).shape(row, "1")
    assert left[OTHERS]["reports_by_phone"] == {}
    assert set(left[OTHERS]["shop_customer_addresses"][0].values()) == {None, "5"}
    for shaped in (hashes, left):
        assert hashes["id"] == "7"
        text = json.dumps(shaped, ensure_ascii=False).casefold()
        assert not [word for word in ("someone", "900000", "b.example", "2001") if word in text]


def test_names_of_fields_may_be_numbers_and_texts_may_be_called_anything() -> None:
    row = {
        "0900000123": 1,
        "page_customer": {"id": "7", "+84900000123": True},
        "reports_by_phone": {"84900000123": 1, "900000123": 2, "0900 000 123": 3},
        "contact": {"0900000123": 1, "phone_type": "0900000123"},
        "phone_history": ["0900000123"],
        "note_status": "gọi 0900000123",
        "from": "Someone",
        "customers": [{"name": {"first": "Someone"}}, "Someone"],
    }
    for key in (KEY, None):
        one = RowShaper(stream_schema("conversations"), protection=protection(key))
        text = json.dumps(one.shape(row, "1")) + str(one.findings.unknown)
        assert "Someone" not in text
        assert "900000123" not in text


def test_what_is_not_selected_is_not_among_the_others_either() -> None:
    schema = stream_schema("conversations")
    selected = RowShaper(schema, is_whole=lambda path: path == ("from",))
    row = {"from": "Someone", "customers": "Someone"}
    assert selected.shape(row)[OTHERS] == {"from": "Someone"}


def test_a_value_of_another_type_is_protected_too() -> None:
    row = {"name": {"first": "Someone"}, "phone_numbers": "0900000123", "notes": "0900000123"}
    for key in (KEY, None):
        shaped = RowShaper(stream_schema("customers"), protection=protection(key)).shape(row, "1")
        text = json.dumps(shaped)
        assert "Someone" not in text
        assert "900000123" not in text


# Whole runs


class Persons:
    """Whose data the server holds."""

    def __init__(self, account: Account) -> None:
        conversations = [each for page in account.pages for each in page.conversations.values()]
        self.customers = {each.name for talk in conversations for each in talk.customers}
        self.phones = {number for talk in conversations for number, *_ in talk.captures}
        self.staff = {staff.name for page in account.pages for staff in page.staff}

    @staticmethod
    def seen(values: set[str], run: Run) -> set[str]:
        """Those that some output of a run shows, as they are or as JSON writes them."""
        text = run.stdout + run.stderr
        return {each for each in values if each in text or json.dumps(each)[1:-1] in text}


@pytest.fixture(scope="module", params=DIALECTS)
def server(request: pytest.FixtureRequest) -> Iterator[PancakeServer]:
    account = Account.generate(seed=2, pages=4, conversations=24, messages=(1, 8), start=SINCE)
    with PancakeServer(account, request.param) as server:
        yield server


def settings(server: PancakeServer, how: str, **more: Any) -> Json:
    key = {"personal_data_key": KEY} if how == "hash" else {}
    return config_for(server, personal_data=how, **key, **more)


@pytest.fixture(scope="module")
def kept_runs(server: PancakeServer, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """`ROWS` and `NUMBERS`, as they are."""
    directory = tmp_path_factory.mktemp("kept")
    return [
        run_tap(directory, settings(server, "keep", **span), catalog=select(*streams))
        for span, *streams in (ROWS, NUMBERS)
    ]


@pytest.mark.parametrize("how", ["hash", "drop"])
@pytest.mark.parametrize("what", [ROWS, NUMBERS])
def test_no_output_of_a_run_shows_personal_data(
    server: PancakeServer, kept_runs: list[Run], tmp_path: Path, what: Any, how: str
) -> None:
    span, *streams = what
    catalog = select(*streams)
    kept = kept_runs[what is NUMBERS]
    config = settings(server, how, personal_data_of="everybody", **span)
    run = run_tap(tmp_path, config, catalog=catalog)
    assert run.returncode == kept.returncode
    persons = Persons(server.account)
    for values in (persons.customers, persons.phones, persons.staff):
        # Else this would prove nothing; numbers are of staff only.
        assert Persons.seen(values, kept) or (what is NUMBERS and values is not persons.staff)
        assert not Persons.seen(values, run)
    assert KEY not in run.stdout + run.stderr
    assert run.schemas == kept.schemas
    assert run.records.keys() == kept.records.keys()
    for stream in kept.records:
        # Ids stay, so that the rows are the same ones.
        assert run.by_key(stream).keys() == kept.by_key(stream).keys(), stream
    if what is ROWS:
        phones = {key: row["has_phone"] for key, row in kept.by_key("messages").items()}
        assert {key: row["has_phone"] for key, row in run.by_key("messages").items()} == phones


def test_staff_stay_and_a_number_is_the_same_everywhere(
    server: PancakeServer, kept_runs: list[Run], tmp_path: Path
) -> None:
    span, *streams = ROWS
    kept = kept_runs[0]
    run = run_tap(tmp_path, settings(server, "hash", **span), catalog=select(*streams))
    persons = Persons(server.account)
    assert not Persons.seen(persons.customers - persons.staff, run)
    assert Persons.seen(persons.staff, run)
    countries = {row["id"]: row.get("country") for row in kept.records["pages"]}
    found: dict[str, set[str]] = {}
    for stream in ("conversations", "customers"):
        hashes = run.by_key(stream)
        for key, row in kept.by_key(stream).items():
            forms = [phone(each, countries[row["page_id"]]) for each in numbers(row)]
            assert numbers(hashes[key]) == [hashed(form or "") for form in forms]
            found.setdefault(stream, set()).update(numbers(hashes[key]))
    assert found["conversations"] & found["customers"]


def numbers(row: Json) -> list[str]:
    """The phone numbers of a conversation or customer."""
    if "phone_numbers" in row:
        return row["phone_numbers"] or []
    return [each["phone_number"] for each in row["recent_phone_numbers"] or []]


def test_flattening_and_parts_are_protected(server: PancakeServer, tmp_path: Path) -> None:
    span, *_ = ROWS
    flat = settings(server, "hash", flattening_enabled=True, flattening_max_depth=3, **span)
    catalog = select(*INBOX)
    breadcrumb = ("properties", "from", "properties", "id")
    metadata_of(catalog, "conversations", *breadcrumb)["selected"] = False
    persons = Persons(server.account)
    for config in (flat, settings(server, "hash", **span)):
        run = sync(tmp_path, config, catalog=catalog)
        assert not Persons.seen(persons.customers - persons.staff, run)
        assert not Persons.seen(persons.phones, run)


def test_hashing_demands_a_key(tmp_path: Path) -> None:
    with PancakeServer(Account.generate(seed=2, pages=1, conversations=1)) as server:
        run = run_tap(tmp_path, config_for(server, personal_data="hash"))
    assert run.returncode != 0
    (line,) = run.stderr.strip().splitlines()[-1:]
    assert "setting `personal_data_key` is missing" in line


@pytest.mark.parametrize(
    ("given", "warning"),
    [
        ({"personal_data_key": KEY}, "setting `personal_data` is `keep`"),
        ({"personal_data_of": "everybody"}, "setting `personal_data` is `keep`"),
        ({"personal_data": "hash", "personal_data_key": "short"}, "fewer than 16 characters"),
        ({"personal_data": "hash", "personal_data_key": KEY}, None),
        ({"personal_data": "drop"}, None),
    ],
)
def test_settings_that_do_not_go_together_are_told(
    tmp_path: Path, given: Json, warning: str | None
) -> None:
    with PancakeServer(Account.generate(seed=2, pages=1, conversations=1)) as server:
        run = sync(tmp_path, config_for(server, **given))
    warnings = log_lines(run, "WARNING")
    assert [warning in line for line in warnings] == [True] if warning else not warnings
    is_logged = f"Personal data of customers: {given.get('personal_data')}" in run.stderr
    assert is_logged is ("personal_data" in given)


def test_a_misspelt_variable_is_refused() -> None:
    variables = {"TAP_PANCAKE_ACCESS_TOKEN": "invented", "TAP_PANCAKE_LOGLEVEL": "INFO"}
    run = run_command("--config=ENV", env=variables | {"TAP_PANCAKE_PERSONAL_DTA": "hash"})
    assert run.returncode != 0
    (line,) = run.stderr.strip().splitlines()[-1:]
    assert (
        "TAP_PANCAKE_PERSONAL_DTA is not a setting: did you mean TAP_PANCAKE_PERSONAL_DATA?" in line
    )
