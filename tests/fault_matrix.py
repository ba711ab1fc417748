"""The table of errors from the reference (section 2) and the design, and runs that meet all of it.

Written from these two, and not from `tap_pancake/api/errors.py`, so that the two can disagree. A
stream is read from pages that are alike. Each page meets another refusal, at its first, a middle or
its last call. In the first run, a refusal lasts or passes. In the next run there is none.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from tap_pancake.streams.ads import ADS_A_CALL, AdConversationsStream
from tap_pancake.streams.content import CallLogsStream, PostsStream
from tap_pancake.streams.conversations import ConversationsStream
from tap_pancake.streams.people import CustomersStream
from tests.pancake_api import Account, Answer, PancakeServer
from tests.pancake_api.statistics import HOURLY
from tests.stream_truth import assert_same, of_page
from tests.tap import Run, full_config, key_of, logged, part_of, run_here, select
from tests.truth import text, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

    from tap_pancake.reading.lists import ListStream
    from tests.pancake_api import Call, Page
    from tests.tap import Json

    Question = tuple[Any, ...]
    Row = dict[str, Any]
    Rows = dict[tuple[str, ...], Row]

# The table.

TRIES = 8
UNKNOWN_TRIES = 3
AGAIN = "run the tap again later"
ADDRESS = "`api_url`"
RATE = "other programs use up the rate limit"
ADMINISTRATOR = "an administrator of the page"
MEMBER = "a member of the pages"
PLAN = "renew the subscription"
PAGE_TOKEN = "Settings → Tools"
USER_TOKEN = "Account → Personal settings"
REPORT = "report this"


@dataclass(frozen=True)
class Outcome:
    """The effect of a refusal that does not pass, and its remedy."""

    remedy: str
    tries: int = 1
    skipped: bool = False
    """Whether the stream is skipped with a warning, which is no failure."""
    page: bool = False
    """Whether the page's other streams are not read."""
    run: bool = False
    """Whether the run ends."""
    aside: bool = False
    """Whether the conversation is set aside, and all others are read."""

    paced: bool = False
    """Whether it is retried for five minutes, ever more slowly, instead of a number of times."""

    def has_tried(self, times: int) -> bool:
        """Return whether so many requests are right."""
        return times >= self.tries if self.paced else times == self.tries

    @property
    def retried(self) -> bool:
        """Whether it is retried."""
        return self.tries > 1


SKIPPED = Outcome(ADMINISTRATOR, skipped=True)
NO_PLAN = Outcome(PLAN, skipped=True)
LOST = Outcome(PAGE_TOKEN, page=True)
DEACTIVATED = Outcome("activate it in Pancake", skipped=True, page=True)
DISCONNECTED = Outcome("connect it to Pancake again", page=True)
NO_PAGE = Outcome("check `page_ids`", page=True)
SAFE_MODE = Outcome("turn safe mode off", skipped=True)
INVALID_TIME = Outcome("check `start_date` and `end_date`")
NOT_ASSIGNED = Outcome("not assigned to this conversation")
FAILED = Outcome(REPORT)
UNKNOWN = Outcome(REPORT, UNKNOWN_TRIES)
ABSENT = Outcome(ADDRESS)
FAULT = Outcome(AGAIN, TRIES)
IDLE = Outcome("later runs try again", TRIES, skipped=True)
FIREWALL = Outcome("a firewall, refused the call", TRIES)
GATEWAY = Outcome("a gateway, failed", TRIES)
LIMITED = Outcome(RATE, TRIES, paced=True)
NO_JSON = Outcome(ADDRESS, TRIES)
STOPPED = Outcome(PAGE_TOKEN, run=True)
USER_REFUSED = Outcome(USER_TOKEN, run=True)
NOT_A_MEMBER = Outcome(MEMBER, skipped=True)
NOT_THESE_PAGES = Outcome("your rights", skipped=True)
"""The effect of code 105 of statistics of several pages: the user may not use a page."""


@dataclass(frozen=True)
class Form:
    """One form of an answer that refuses, or cannot be read."""

    name: str
    answer: Answer
    page: Outcome
    """The effect with a page token."""
    user: Outcome
    """The effect with the user token."""
    idle: bool = False
    """Whether the page has had no messages for weeks."""
    wait: float = 0.0
    """The seconds to wait that the answer names."""
    renews: bool = False
    """Whether the page gets a new token with this answer."""


HTML = "<!DOCTYPE html><html><head><title>Pancake</title></head><body>nginx</body></html>"


def answer(body: object = None, status: int = 200, **headers: str) -> Answer:
    """Return an answer with a body as JSON, or with a text as it is."""
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    kind = "text/html" if text == HTML else "application/json"
    return Answer(status, text.encode(), kind, named)


def refusal(status: int = 200, **more: object) -> Answer:
    """Return an answer in the form of an API error."""
    return answer({"success": False, "message": "Đã có lỗi", **more}, status)


def _statuses() -> Iterable[Form]:
    table = {
        400: (FAILED, FAILED),
        401: (LOST, USER_REFUSED),
        403: (SKIPPED, NOT_A_MEMBER),
        404: (ABSENT, ABSENT),
        406: (ABSENT, ABSENT),
        408: (FAULT, FAULT),
        425: (FAULT, FAULT),
        429: (LIMITED, LIMITED),
        500: (FAULT, FAULT),
        502: (FAULT, FAULT),
        503: (FAULT, FAULT),
        504: (FAULT, FAULT),
    }
    for status, outcomes in table.items():
        yield Form(f"{status}", refusal(status), *outcomes)
    yield Form("403 as a page", answer(HTML, 403), FIREWALL, FIREWALL)
    yield Form("403 without a body", answer("", 403), FIREWALL, FIREWALL)
    yield Form("404 as a page", answer(HTML, 404), ABSENT, ABSENT)
    for status in (500, 502):
        yield Form(f"{status} as a page", answer(HTML, status), GATEWAY, GATEWAY)
    yield Form("503 without a body", answer("", 503), GATEWAY, GATEWAY)
    yield Form("404 without a body", answer("", 404), ABSENT, ABSENT)
    yield Form("406 as text", answer("Server internal error", 406), ABSENT, ABSENT)
    yield Form("302", answer("", 302, Location="https://example.invalid/"), ABSENT, ABSENT)
    seconds = answer({"success": False}, 429, Retry_After="37")
    date = answer({"success": False}, 429, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT")
    yield Form("429 with seconds", seconds, LIMITED, LIMITED, wait=37)
    yield Form("429 with a date", date, LIMITED, LIMITED)
    yield Form("503 with seconds", answer(HTML, 503, Retry_After="37"), GATEWAY, GATEWAY, wait=37)
    yield Form("429 with a code", refusal(429, error_code=102), LIMITED, LIMITED)
    # Statistics answer 500 for pages without traffic. Other faults are the same as on any page.
    yield Form("500 of an idle page", refusal(500), IDLE, FAULT, idle=True)
    yield Form("503 of an idle page", refusal(503), FAULT, FAULT, idle=True)


CODES = {
    100: (FAILED, FAILED),
    101: (STOPPED, USER_REFUSED),
    102: (LOST, USER_REFUSED),
    103: (LOST, USER_REFUSED),
    105: (LOST, USER_REFUSED),
    104: (NO_PAGE, NO_PAGE),
    106: (INVALID_TIME, INVALID_TIME),
    107: (UNKNOWN, UNKNOWN),
    108: (NOT_ASSIGNED, NOT_ASSIGNED),
    121: (NO_PLAN, NO_PLAN),
    122: (NO_PLAN, NO_PLAN),
    123: (DISCONNECTED, DISCONNECTED),
    125: (DEACTIVATED, DEACTIVATED),
    126: (SAFE_MODE, SAFE_MODE),
    136: (FAILED, FAILED),
    145: (FAILED, FAILED),
    190: (LOST, USER_REFUSED),
    999: (UNKNOWN, UNKNOWN),
}
IN_ALL_FORMS = (100, 101, 102, 105, 121, 999)


def _codes() -> Iterable[Form]:
    for code, outcomes in CODES.items():
        yield Form(f"error {code}", refusal(error_code=code), *outcomes)
        if code in IN_ALL_FORMS:
            yield Form(f"error {code} as text", refusal(error_code=str(code)), *outcomes)
            yield Form(f"error {code} with 400", refusal(400, error_code=code), *outcomes)
    yield Form("unknown error with 500", refusal(500, error_code=999), FAULT, FAULT)
    yield Form("unknown error with 503", refusal(503, error_code=999), FAULT, FAULT)
    yield Form("unknown error with 403", refusal(403, error_code=999), UNKNOWN, UNKNOWN)


NO_PLAN_FOUND = "Không tìm thấy Gói Cước cho trang này"


def _bodies() -> Iterable[Form]:
    yield Form("no code", refusal(), FAULT, FAULT)
    yield Form("no plan", refusal(message=NO_PLAN_FOUND), NO_PLAN, NO_PLAN)
    yield Form("no plan with 400", refusal(400, message=NO_PLAN_FOUND), NO_PLAN, NO_PLAN)
    yield Form("a page", answer(HTML), NO_JSON, NO_JSON)
    yield Form("no body", answer(""), NO_JSON, NO_JSON)
    yield Form("a text", answer('"ok"'), NO_JSON, NO_JSON)
    yield Form("cut JSON", answer('{"success": true, "data": [{"id": "1", "na'), NO_JSON, NO_JSON)
    yield Form("a bare array", answer([{"unknown": 1}]), FAILED, FAILED)
    yield Form("no list", answer({"success": True}), FAILED, FAILED)
    nulls = dict.fromkeys(LIST_KEYS)
    yield Form("a null for the list", answer({"success": True, **nulls}), FAILED, FAILED)


LIST_KEYS = (
    "conversations",
    "messages",
    "tags",
    "users",
    "customers",
    "posts",
    "data",
    "statistics",
    "users_engagements",
    "customer_feedback",
    "categorized",
)
FORMS = (*_statuses(), *_codes(), *_bodies())
RENEWED = Form(
    "error 105 of an old token", refusal(error_code=105), LOST, USER_REFUSED, renews=True
)
ON_PAGES = tuple(form for form in FORMS if not form.page.run)
ENDING = tuple(form for form in FORMS if form.page.run)

# The rows to read, the same on each page.

POSITIONS = ("first", "middle", "last")
START = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = datetime(2026, 1, 4, 12, 30, tzinfo=UTC)
"""The time up to which an earlier run has read."""
END = datetime(2026, 1, 7, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
CUT = 12
"""The most rows of an answer."""
SHORT: dict[str, type[ListStream]] = {
    "posts": PostsStream,
    "call_logs": CallLogsStream,
    "customers": CustomersStream,
    "ad_conversations": AdConversationsStream,
    "conversations": ConversationsStream,
}
TIMES = {
    "posts": "inserted_at",
    "call_logs": "start_time",
    "customers": "updated_at",
    "ad_conversations": "updated_at",
    "conversations": "updated_at",
    "page_statistics": "hour_utc",
    "user_statistics": "hour_utc",
    "customer_feedbacks": "inserted_at",
    "messages": "inserted_at",
    "conversation_details": "last_message_at",
}
"""Stream → the replication key of its rows; `date` for other statistics."""
BY_TIME = {*HOURLY, "customer_feedbacks"}
"""Streams that are read by days, with a bookmark within a day."""
WHOLE = ("tags", "users")
INBOX = ("conversations", "messages", "conversation_details")
OF_CONVERSATIONS = INBOX[1:]
"""The streams that are read for each conversation."""


def bookmark_key(stream: str) -> str:
    """Return the replication key of a stream."""
    return TIMES.get(stream, "date")


def settings_for(server: PancakeServer, **settings: Any) -> Json:
    """Return settings without lookbacks, which would hide a bookmark that moved too far."""
    chosen: Json = {
        "start_date": START.isoformat(),
        "end_date": END.isoformat(),
        "lookback_days": 0,
        "message_lookback_minutes": 0,
        "statistics_lookback_days": 0,
        "statistics_window_days": 1,
        "max_parallel_pages": 8,
    }
    return full_config(server, **(chosen | settings))


LEARNING = {*SHORT, *OF_CONVERSATIONS, "new_customer_statistics"}
"""Streams that are read page after page, so that the first pages show the form of the answers."""


@contextmanager
def short_answers(stream: str) -> Iterator[None]:
    """Make the tap expect a small page size, so that few rows need many calls."""
    kind = SHORT.get(stream)
    if kind is None or not kind.listing.page_size:
        yield
        return
    with patch.object(kind, "listing", replace(kind.listing, page_size=CUT)):
        yield


def serve(account: Account, stream: str) -> PancakeServer:
    """Return a server whose answers for a stream are short."""
    server = PancakeServer(account)
    server.desk.cuts = {stream: CUT}
    if stream == "conversations":
        server.page_size = CUT
    return server


def read(server: PancakeServer, stream: str, state: Json | None = None, **settings: Any) -> Run:
    """Run the tap for a stream."""
    if stream in LEARNING:
        settings["max_parallel_pages"] = 1
    with short_answers(stream):
        return run_here(settings_for(server, **settings), catalog=catalog_for(stream), state=state)


def furnish(page: Page, stream: str, *, idle: bool) -> None:
    """Add rows to a page, so that the stream needs three calls or more, if it can."""
    if stream in SHORT:
        for at in (START + HOUR * 9, *(BEFORE + HOUR * number for number in range(1, 2 * CUT))):
            add_row(page, stream, at)
    elif stream in OF_CONVERSATIONS:
        for number in range(3):
            at = BEFORE + HOUR * 12 * (number + 1)
            # Stored in another order than changed, so that answers show the order of the list.
            known = page.add_conversation(at=START - timedelta(days=(3, 1, 2)[number]))
            for minutes in range(40 if number == 1 else 2):
                page.receive(known.id, at=at + timedelta(minutes=minutes))
    elif stream not in WHOLE:
        page.statistics.since, page.statistics.until = START, END
        del page.staff[1:]
    if stream not in INBOX:
        # Stored in another order than changed, so that answers show the order of the list.
        last = BEFORE + 2 * HOUR if idle else datetime.now(UTC) - timedelta(days=2)
        page.add_conversation(at=BEFORE - 2 * HOUR)
        touched = page.add_conversation(at=BEFORE - HOUR)
        newer = page.add_conversation(at=BEFORE + HOUR)
        if stream == "ads":
            newer.ad_ids = [f"4{number:014d}" for number in range(2 * ADS_A_CALL + 1)]
        page.receive(touched.id, at=last)


def add_row(page: Page, stream: str, at: datetime) -> None:
    """Add a row of a list."""
    match stream:
        case "posts":
            post = page.belongings.posts[page.belongings.add_post(at)]
            # So that answers show by which time they are sorted.
            post["updated_at"] += timedelta(days=at.hour % 3)
        case "call_logs":
            page.belongings.add_call(at)
        case "customers":
            page.belongings.add_customer(began(at), at)
        case _:
            known = page.add_conversation(at=began(at))
            known.ad_ids = ["400"]
            page.receive(known.id, at=at)


def began(at: datetime) -> datetime:
    """Return when a row was created, so that answers show by which time they are sorted."""
    return at - timedelta(days=10 + at.hour % 3)


def account_of(stream: str, idle: Iterable[bool]) -> Account:
    """Return an account of pages that are alike, except that some are idle."""
    account = Account(3)
    for is_idle in idle:
        page = account.add_page(timezone=7)
        furnish(page, stream, idle=is_idle)
    return account


def rows_of(server: PancakeServer, page: Page, stream: str) -> Rows:
    """Return the rows of a page up to the end, by key."""
    if stream == "conversations":
        rows = [written(server.row(page.id, key)) for key in page.conversations]
    elif stream == "messages":
        rows = [
            written(row) for key in page.conversations for row in server.message_rows(page.id, key)
        ]
    else:
        rows = [{"page_id": page.id, **row} for row in of_page(server, page, stream)]
    end = END.isoformat()
    key = bookmark_key(stream)
    rows = [{**row, "other_fields": None} for row in rows]
    return {key_of(stream, row): row for row in rows if str(row.get(key, "")) <= end}


# The runs.


@dataclass
class Case:
    """One page, and the refusal that it meets."""

    form: Form
    outcome: Outcome
    position: str
    question: Question | None = None
    """The call that is refused; None for no call."""
    passes_after: int | None = None
    """The number of times it is refused; None for always."""
    hits: int = 0
    calls: int = 0
    """The number of calls of the stream."""
    refused: set[Question] = field(default_factory=set)
    """The refused calls; for `ads` also halves of the call."""

    def __str__(self) -> str:
        passing = "" if self.passes_after is None else f", {self.passes_after} times"
        return f"{self.form.name} at the {self.position} call{passing}"


def question_of(server: PancakeServer, call: Call) -> Question:
    """Return what a call asks for, in a form that is equal for pages that are alike."""
    part = call.path.rsplit("/", 1)[-1]
    params = {name: value for name, value in call.params.items() if name not in PAGES_OWN}
    known = None
    if call.page_id is not None:
        conversations = server.account.page(call.page_id).conversations
        if call.conversation_id is not None:
            known = conversations[call.conversation_id].serial
        if cursor := params.get("last_conversation_id"):
            params["last_conversation_id"] = f"{conversations[cursor].serial}"
    if int(params.get("until", 0)) > END.timestamp():  # a bound that is demanded, and moves
        del params["until"]
    return part, known, *sorted(params.items())


PAGES_OWN = frozenset({"id", "customer_id", "page_ids"})
"""Parameters that differ between pages or accounts."""


def endpoint_of(stream: str) -> str:
    """Return the endpoint of a stream."""
    shared = {"user_engagements": "customer_engagements", "conversation_details": "messages"}
    return shared.get(stream, stream)


def catalog_for(stream: str) -> Json:
    """Return a catalog of the stream, and of a later one, to see whether that is read."""
    return select(stream) if stream in INBOX else select(stream, "conversations")


def questions_of(server: PancakeServer, stream: str) -> list[Question]:
    """Return the questions about the last page of a server, in their order."""
    page = server.account.pages[-1].id
    page_ids = {None, page}
    asked = [
        question_of(server, call)
        for call in server.calls
        if call.endpoint == endpoint_of(stream) and call.page_id in page_ids
    ]
    return list(dict.fromkeys(asked))


def at_position(questions: list[Question], position: str) -> Question:
    """Return the first question, a middle one or the last."""
    return questions[{"first": 0, "middle": len(questions) // 2, "last": -1}[position]]


@dataclass
class Matrix:
    """A run of one stream that meets all refusals at all positions, and the run after it."""

    stream: str
    server: PancakeServer
    before: Json
    """The state that all pages begin with: each stream's part for a page."""
    questions: list[Question]
    calls: int
    """The number of calls of the stream for a page without a refusal."""
    cases: dict[str, Case]
    """By page."""
    good: list[str]
    """Pages without a refusal."""
    run: Run
    later_run: Run
    listed: int
    """The number of requests for the list of pages in the first run."""
    lines: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """The level and message of each line of the log, by page."""
    _due: dict[str, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Group the records and the log by page."""
        self.first, self.second = (by_page(run, self.stream) for run in (self.run, self.later_run))
        for level, line in logged(self.run):
            if level != "CRITICAL" and "page " in line:
                page_id = line.split("page ", 1)[1].split(",")[0]
                self.lines.setdefault(page_id, []).append((level, line))

    def logged_lines(self, page_id: str) -> list[tuple[str, str]]:
        """Return the log of a page, without INFO."""
        return [(level, line) for level, line in self.lines.get(page_id, []) if level != "INFO"]

    @property
    def lasting(self) -> dict[str, Case]:
        """The pages whose refusal did not pass."""
        return {page: case for page, case in self.cases.items() if case.passes_after is None}

    @property
    def passing(self) -> dict[str, Case]:
        """The pages whose refusal passed, or that met none."""
        none = Case(ON_PAGES[0], FAILED, "no", passes_after=0, calls=self.calls)
        return dict.fromkeys(self.good, none) | {
            page: case for page, case in self.cases.items() if case.passes_after is not None
        }

    def due(self, page_id: str) -> Rows:
        """Return the rows that the first run must write of a page without a refusal."""
        if page_id not in self._due:  # as several checks need it
            self._due[page_id] = due(self.server, page_id, self.stream, self.before)
        return self._due[page_id]


def by_page(run: Run, stream: str) -> dict[str, Rows]:
    """Return the records of a run, by page."""
    found: dict[str, Rows] = {}
    for key, row in run.by_key(stream).items():
        found.setdefault(row["page_id"], {})[key] = row
    return found


def due(server: PancakeServer, page_id: str, stream: str, before: Json) -> Rows:
    """Return the rows that a run must write of a page, from its state on; of hours, whole days."""
    key, since = bookmark_key(stream), str(before[stream].get("replication_key_value", ""))
    if stream in BY_TIME:
        at = datetime.fromisoformat(since).astimezone(server.account.page(page_id).statistics.zone)
        since = max(text(START), text(at.replace(hour=0, minute=0)))
    rows = rows_of(server, server.account.page(page_id), stream)
    return {name: row for name, row in rows.items() if row.get(key, since) >= since}


def is_claimed(part: Json, at: str) -> bool:
    """Return whether a state claims that an hour or a day was read."""
    opened = part.get("open", [])
    return at < part.get("replication_key_value", "") and not any(
        low <= at <= high for low, high in opened
    )


def state_for(before: Json, pages: Iterable[str]) -> Json:
    """Return a state in which each of these pages has the parts in `before`."""
    pages = list(pages)
    # Idle pages have fewer rows, and must not miss the newest row of the other page.
    unknown = {"newest": None}
    return {
        "bookmarks": {
            stream: {
                "partitions": [{**part, "context": {"page_id": page}, **unknown} for page in pages]
            }
            for stream, part in before.items()
            if part
        }
    }


@cache
def read_before(stream: str) -> tuple[Json, list[Question], int]:
    """Read pages without a refusal, up to a time and then to the end.

    Returns:
        The state between the two runs, and the questions and the number of calls of the second one
        about a page.
    """
    with serve(account_of(stream, [False] * 3), stream) as server:
        first = read(server, stream, end_date=BEFORE.isoformat())
        assert first.returncode == 0, first.stderr
        page = server.account.pages[-1].id
        before = {name: part_of(first.state, name, page) for name in {stream, "conversations"}}
        server.reset_calls()
        second = read(server, stream, first.state)
        assert second.returncode == 0, second.stderr
        calls = server.count(endpoint_of(stream), page)  # type: ignore[arg-type]
        return before, questions_of(server, stream), calls


def outcome_of(form: Form, stream: str) -> Outcome:
    """Return the effect of a refusal of a page; for the inbox, 500 on an idle page is a fault."""
    outcome = FAULT if form.page == IDLE and stream in INBOX else form.page
    if stream in OF_CONVERSATIONS and not outcome.page:
        return replace(outcome, skipped=False, aside=True)
    # The reason may be one of the ids of the call.
    is_refusal = form.answer.status != HTTPStatus.OK or b'"success": false' in form.answer.body
    may_be = is_refusal and not outcome.page and (not outcome.retried or outcome is UNKNOWN)
    if stream == "ads" and may_be:
        return replace(outcome, skipped=False, aside=True)
    return outcome


def is_struck(case: Case, question: Question) -> bool:
    """Return whether a case refuses a call; of `ads`, each call with the first id."""
    if case.question is None or "ad_ids" not in dict(question[2:]):
        return question == case.question
    first = dict(case.question[2:])["ad_ids"].split(",")[0]
    return first in dict(question[2:])["ad_ids"].split(",")


def one_of_each(forms: Iterable[Form]) -> Iterable[Form]:
    """Return one form of each outcome and status; the first call has shown the others."""
    return {(form.page, form.answer.status, form.idle): form for form in forms}.values()


def read_matrix(stream: str) -> Matrix:
    """Read pages that meet each refusal at each position."""
    before, questions, calls = read_before(stream)
    places = POSITIONS[:1] if stream in WHOLE else POSITIONS
    assert len(questions) >= len(places)

    # The newest customer of an idle page is older, so the calls are different.
    forms = {
        position: [
            form
            for form in ON_PAGES
            if position == "first" or not (form.idle and stream == "customers")
        ]
        for position in places
    }
    cases = [
        Case(form, outcome_of(form, stream), position, at_position(questions, position))
        for position in places
        for form in (forms[position] if position == "first" else one_of_each(forms[position]))
    ]
    cases += [
        Case(form, form.page, position, at_position(questions, position), passes_after=times)
        for turn, position in enumerate(places)
        for number, form in enumerate(form for form in forms[position] if form.page.retried)
        # Each at one position, once or as often as possible.
        if number % len(places) == turn
        for times in [1 if number % 2 else form.page.tries - 1]
    ]
    cases += [
        Case(RENEWED, LOST, position, at_position(questions, position), 1) for position in places
    ]
    idle = [False] * 3 + [case.form.idle for case in cases] + [False]
    with serve(account_of(stream, idle), stream) as server:
        pages = [page.id for page in server.account.pages]
        good = [*pages[:3], pages[-1]]
        met = dict(zip(pages[3:-1], cases, strict=True))

        def refuse(call: Call) -> Answer | None:
            if call.endpoint != endpoint_of(stream) or call.page_id not in met:
                return None
            case = met[call.page_id]
            case.calls += 1
            question = question_of(server, call)
            if not is_struck(case, question) or case.hits == case.passes_after:
                return None
            case.hits += 1
            case.refused.add(question)
            if case.form.renews:
                server.account.page(call.page_id).renew_token()
            return case.form.answer

        server.instead = refuse
        run = read(server, stream, state_for(before, pages))
        listed = server.count("pages")
        server.instead = None
        still = [page for page, case in met.items() if case.passes_after is None]
        later_run = read(server, stream, run.state, page_ids=[*still, good[0]])
    return Matrix(stream, server, before, questions, calls, met, good, run, later_run, listed)


class EachRefusal:
    """The tests of one stream's matrix. Each checks all cases, and shows all that are wrong.

    They are parts of one test, so that only one worker creates the matrix.
    """

    def test_each_refusal(self, matrix: Matrix, subtests: pytest.Subtests) -> None:
        for name in dir(self):
            if name.startswith("check_"):
                with subtests.test(name):
                    getattr(self, name)(matrix)

    def check_it_is_told_once_with_page_stream_and_remedy(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        for page_id, case in matrix.lasting.items():
            outcome = case.outcome
            lines = matrix.logged_lines(page_id)
            if len(lines) == 1:
                ((level, line),) = lines
                bare = line.removeprefix("Skipped: ").removeprefix("Set aside: ")
                where = bare.split(": ")[0].split(", ")
                named = (where[0], where[-1]) == (f"page {page_id}", matrix.stream)
                as_skipped = (level, line.startswith("Skipped: ")) == ("WARNING", True)
                as_aside = (level, line.startswith("Set aside: ")) == ("ERROR", True)
                as_failed = (level, line.startswith("page ")) == ("ERROR", True)
                as_expected = as_aside if outcome.aside else as_failed
                as_expected = as_skipped if outcome.skipped else as_expected
                if named and as_expected and outcome.remedy in line:
                    continue
            wrong[str(case)] = lines
        assert not wrong, wrong

    def check_it_is_tried_again_if_it_may_pass_and_else_never(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        for page_id, case in matrix.lasting.items():
            waits = waits_of(matrix, page_id)
            patient = all(wait >= case.form.wait for wait in waits)
            calls = len(case.refused)
            retries = 0 if case.outcome.paced else case.hits - calls
            tries, rest = divmod(case.hits, calls)
            if rest or not (case.outcome.has_tried(tries) and len(waits) == retries and patient):
                wrong[str(case)] = case.hits, waits
        assert not wrong, wrong

    def check_one_that_passes_costs_its_tries_and_no_row(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        for page_id, case in matrix.passing.items():
            lines = matrix.logged_lines(page_id)
            extra = case.calls - matrix.calls
            # Calls that were made ahead may still have the old token.
            most = len(matrix.questions) if case.form.renews else case.hits
            if lines or case.hits != case.passes_after or not case.hits <= extra <= most:
                wrong[str(case)] = lines, case.hits, extra
            try:
                assert_same(matrix.first.get(page_id, {}), matrix.due(page_id))
            except AssertionError as error:
                wrong[str(case)] = error
        assert not wrong, wrong

    def check_it_ends_the_other_streams_of_a_page_only_where_they_would_meet_it(
        self, matrix: Matrix
    ) -> None:
        if matrix.stream in {*INBOX, "ads"}:
            return  # as these are read last
        read = by_page(matrix.run, "conversations").keys()
        wrong = [
            str(case)
            for page_id, case in matrix.lasting.items()
            if (page_id in read) == case.outcome.page
        ]
        assert not wrong, wrong
        assert read >= matrix.passing.keys()

    def check_no_bookmark_passes_what_was_not_written(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        for page_id, case in matrix.lasting.items():
            held, came = matrix.due(page_id), matrix.first.get(page_id, {})
            part = part_of(matrix.run.state, matrix.stream, page_id)
            aside = {entry[0] for entry in part.get("aside", [])}
            missing = [row for key, row in held.items() if key not in came]
            waiting = {ad_id for ad_id, day in part.get("ads", []) if not day}
            claimed = [
                row
                for row in missing
                if not aside.intersection([row.get("conversation_id"), row.get("id")])
                and row.get("id") not in waiting
                and is_claimed(part, known_at(matrix, row))
            ]
            if not came.items() <= held.items() or claimed or bool(aside) != case.outcome.aside:
                wrong[str(case)] = part, claimed
        assert not wrong, wrong

    def check_the_next_run_makes_up_for_it(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        assert matrix.later_run.returncode == 0, matrix.later_run.stderr
        assert not [line for line in logged(matrix.later_run) if line[0] != "INFO"]
        moved = [part_of(matrix.later_run.state, matrix.stream, page) for page in matrix.lasting]
        assert len({part.get("replication_key_value") for part in moved}) == 1
        for page_id, case in matrix.lasting.items():
            arrived = matrix.first.get(page_id, {}) | matrix.second.get(page_id, {})
            try:
                assert_same(arrived, matrix.due(page_id))
            except AssertionError as error:
                wrong[str(case)] = error
        assert not wrong, wrong

    def check_the_run_ends_with_the_counts_of_what_failed_and_was_skipped(
        self, matrix: Matrix
    ) -> None:
        outcomes = [case.outcome for case in matrix.lasting.values()]
        aside = sum(outcome.aside for outcome in outcomes)
        skipped = sum(outcome.skipped for outcome in outcomes)
        failed = len(outcomes) - aside - skipped
        assert matrix.run.returncode == 1
        (last,) = [line for level, line in logged(matrix.run) if level == "CRITICAL"]
        counts = f"{failed} failed, {aside} set aside: " if aside else f"{failed} failed: "
        assert last.startswith(counts)
        assert f"Skipped in all: {skipped} (" in matrix.run.stderr
        assert "Traceback" not in matrix.run.stderr
        assert matrix.server.url not in matrix.run.stderr

    def check_list_pages_is_asked_again_once_for_each_page_with_an_old_token(
        self, matrix: Matrix
    ) -> None:
        forms = [case.form for case in matrix.cases.values()]
        old = [form for form in forms if form.name.startswith("error 105")]
        # The list for one page also has the new tokens of others.
        assert sum(not form.renews for form in old) <= matrix.listed - 1 <= len(old)


def known_at(matrix: Matrix, row: Row) -> str:
    """Return the time at which the tap reaches a row: a message at its conversation's last one."""
    if matrix.stream not in OF_CONVERSATIONS:
        return str(row.get(bookmark_key(matrix.stream), ""))
    page = matrix.server.account.page(row["page_id"])
    return text(page.conversations[row["conversation_id"]].updated_at)


def waits_of(matrix: Matrix, page_id: str) -> list[float]:
    """Return the seconds that the tap waited before each retry."""
    lines = [line for level, line in matrix.lines.get(page_id, []) if level == "INFO"]
    return [float(line.split(" in ")[1].split(" ")[0]) for line in lines if line.startswith("Try ")]
