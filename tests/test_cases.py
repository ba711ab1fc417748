"""What the tap got wrong when it was tried as users would, with what is right instead.

Each case (R1, R2, ...) once lost rows, or a whole page, or logged nothing. Here the tap runs as a
process, run after run into one target, against a server that is so; what then counts is what
arrived, the exit code and the log.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from zoneinfo import ZoneInfo

import pytest

from tap_pancake.api.errors import PageFailed, PageSkipped
from tap_pancake.reading.aside import Aside
from tap_pancake.reading.state import Bookmark
from tests import stream_truth
from tests.pancake_api import Account, Fault, PancakeServer, is_first_batch
from tests.stream_truth import held_ids
from tests.tap import INBOX, Run, begun, config_for, hurried, log_lines, run_tap, select
from tests.truth import merged, message_calls, message_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future
    from pathlib import Path

    from tests.pancake_api import Conversation, Page
    from tests.tap import Json

SECOND, MINUTE, HOUR, DAY = (timedelta(seconds=each) for each in (1, 60, 3600, 86_400))
MOST_TRIES = 8
"""Of one call, as README says."""


class Shop:
    """A page, the server that holds it, and the runs of the tap that read it into one target.

    `now` is the time of the server and of the tap's machine, which goes on as the test says.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.ahead = timedelta(0)
        self.account = Account(3)
        self.account.clock = lambda: datetime.now(UTC) + self.ahead
        self.page: Page = self.account.add_page(timezone=7)
        self.server = PancakeServer(self.account)
        self.runs: list[Run] = []
        self.settings: Json = {}
        """Of the tap, besides those that a server asks for; None takes one of these away."""
        self.state: Json | None = None

    @property
    def now(self) -> datetime:
        return self.account.now()

    @property
    def last(self) -> Run:
        return self.runs[-1]

    def open(self, conversations: int, messages: int = 2) -> list[Conversation]:
        """Begin conversations, newest first, 20 minutes apart, the last message 20 minutes ago."""
        made, now = [], self.now
        for number in range(1, conversations + 1):
            began = now - number * 20 * MINUTE
            made.append(self.page.add_conversation(at=began))
            for later in range(1, messages):
                self.page.receive(made[-1].id, at=began + later * SECOND)
        return made

    def say(self, conversations: list[Conversation]) -> None:
        """Let a message arrive in each, now."""
        for conversation in conversations:
            self.page.receive(conversation.id)

    def run(
        self,
        *streams: str,
        after: timedelta = timedelta(0),
        machine_ahead: timedelta = timedelta(0),
    ) -> Run:
        """Run the tap, some time after what was before, on the state that the target has."""
        self.ahead += after
        self.server.reset_calls()
        config = config_for(self.server) | self.settings
        run = run_tap(
            self.directory,
            {name: value for name, value in config.items() if value is not None},
            state=self.state,
            catalog=select(*streams or INBOX),
            env=hurried(self.directory / "env", ahead=self.ahead + machine_ahead),
        )
        self.runs.append(run)
        self.state = run.state or self.state
        run.check_records()
        return run

    def bookmark(self, stream: str) -> str | None:
        """The bookmark of the page in the state that the target has."""
        return Run(0, "", "", states=[self.state or {}]).bookmark(stream, self.page.id)

    def missing(self, stream: str) -> set[tuple[str, ...]]:
        """What the server holds, and the target does not."""
        return held_ids(self.server, stream) - merged(stream, *self.runs).keys()

    def assert_complete(self, *streams: str) -> None:
        for stream in streams or INBOX:
            assert not self.missing(stream), (stream, self.last.stderr[-3000:])

    def assert_succeeded(self) -> None:
        assert self.last.returncode == 0, self.last.stderr[-3000:]

    def refuse(self, kind: str, **which: Any) -> Fault:
        """Let calls fail from now on."""
        fault = Fault(kind, **which)
        self.server.faults.append(fault)
        return fault

    def heal(self) -> None:
        self.server.faults.clear()


@pytest.fixture(name="shop")
def open_shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path)
    with shop.server:
        yield shop


def warnings(run: Run, *parts: str) -> list[str]:
    """The WARNINGs of a run that hold all of some texts."""
    return [line for line in log_lines(run, "WARNING") if all(part in line for part in parts)]


def complaints(run: Run, *parts: str) -> list[str]:
    """What a run says at WARNING or above with all of some texts."""
    levels = ("WARNING", "ERROR", "CRITICAL")
    lines = [line for level in levels for line in log_lines(run, level)]
    return [line for line in lines if all(part in line for part in parts)]


# R1, R2, R3: the smallest unit fails alone.

REFUSALS = (
    "error:100",
    "error:107",
    "error:108",
    "error:136",
    "error:999",
    "http:404",
    "http:500",
    "odd:null",
    "odd:object",
)


@pytest.mark.parametrize("kind", REFUSALS)
def test_r1_a_conversation_that_is_refused_is_set_aside_and_filled_in_later(
    shop: Shop, kind: str
) -> None:
    made = shop.open(60)
    refused = made[30]
    shop.refuse(kind, endpoint="messages", conversation_id=refused.id)
    first = shop.run()
    assert not shop.missing("conversations"), first.stderr[-3000:]
    assert shop.missing("messages") == message_keys(refused)
    assert first.returncode == 1
    assert complaints(first, refused.id)

    shop.say([refused, *made[40:45]])
    second = shop.run(after=10 * MINUTE)
    assert second.returncode == 0, second.stderr[-3000:]
    assert shop.missing("messages") == message_keys(refused)
    assert warnings(second)

    shop.say(made[50:55])
    third = shop.run(after=2 * DAY)
    assert third.returncode == 0, third.stderr[-3000:]
    assert message_calls(shop.server)[refused.id] >= 1
    assert shop.missing("messages") == message_keys(refused)
    assert warnings(third)

    shop.heal()
    fourth = shop.run(after=2 * DAY)
    shop.assert_succeeded()
    shop.assert_complete()
    assert not warnings(fourth)


def test_r1_of_some_refused_conversations_each_is_set_aside_alone(shop: Shop) -> None:
    made = shop.open(60)
    refused = {made[number].id: made[number] for number in (5, 6, 59)}
    shop.refuse("error:108", endpoint="messages", conversation_id=refused.keys())
    run = shop.run()
    assert run.returncode == 1
    assert not shop.missing("conversations")
    assert shop.missing("messages") == message_keys(*refused.values())
    for conversation_id in refused:
        assert complaints(run, conversation_id)


@pytest.mark.parametrize("kind", ["error:121", "error:122", "http:403"])
def test_r2_a_page_whose_messages_are_all_denied_gives_its_conversations(
    shop: Shop, kind: str
) -> None:
    made = shop.open(60)
    fault = shop.refuse(kind, endpoint="messages")
    for _ in range(2):
        run = shop.run(after=10 * MINUTE)
        shop.assert_complete("pages", "conversations")
        shop.assert_succeeded()
        assert len(warnings(run)) == 1
        assert "messages" in warnings(run)[0]
        assert shop.server.count("messages") < 20
    assert fault.hits
    shop.heal()
    shop.say(made[:3])
    shop.run(after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete()


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        ("ad_statistics", "504_html"),
        ("posts", "502_html"),
        ("customers", "429"),
        ("posts", "403_firewall"),
        ("tags", "500"),
    ],
)
def test_r3_a_stream_that_fails_for_ever_fails_alone(shop: Shop, stream: str, kind: str) -> None:
    shop.open(20)
    shop.page.belongings.fill(shop.now - DAY, shop.now)
    numbers = shop.page.statistics
    numbers.since, numbers.until = shop.now - 4 * DAY, shop.now - DAY
    shop.settings = {"start_date": (shop.now - 9 * DAY).isoformat()}
    streams = (*INBOX, "users", "new_customer_statistics", "tags", "posts")
    others = [name for name in streams if name != stream]
    shop.refuse(kind, endpoint=stream)
    run = shop.run(*others, stream)
    shop.assert_complete(*others)
    assert run.returncode == 1
    assert complaints(run, stream)
    shop.heal()
    shop.run(*others, stream, after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete(*others, stream)


# R4: rows that come into sight late.


@pytest.mark.parametrize("hours", [2, 30, 55])
@pytest.mark.parametrize("count", [1, 70])
def test_r4_a_conversation_that_comes_into_sight_late_comes_in_the_next_run(
    shop: Shop, hours: int, count: int
) -> None:
    shop.open(30)
    shop.run()
    stored = shop.now + 4 * MINUTE
    for number in range(count):
        at = stored - hours * HOUR + number * SECOND
        late = shop.page.add_conversation(at=at, stored_at=stored)
        shop.page.receive(late.id, at=at + SECOND / 2, visible_at=stored)
    assert not shop.missing("messages")
    shop.run(after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete()


def test_r4_a_late_message_of_a_known_conversation_comes_with_its_next_one(shop: Shop) -> None:
    made = shop.open(30)
    shop.run()
    for conversation in made[:5]:
        shop.page.receive(conversation.id, at=shop.now - 2 * DAY)
    shop.say(made[:5])
    shop.run(after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete()


# R5: clocks.

SEVEN_HOURS = re.compile(r"\b7(\.0)? ?h|\b0?7:00|\b0?6:59|\b252\d\d\b|\b2519\d\b|\b(420|419)\b")


@pytest.mark.parametrize("hours", [7, -7])
def test_r5_a_machine_whose_clock_is_seven_hours_off_loses_nothing_and_is_told(
    shop: Shop, hours: int
) -> None:
    made = shop.open(30)
    for number in range(3):
        run = shop.run(after=10 * MINUTE, machine_ahead=hours * HOUR)
        shop.assert_succeeded()
        shop.assert_complete()
        assert len(warnings(run)) == 1
        assert "clock" in warnings(run)[0]
        assert SEVEN_HOURS.search(warnings(run)[0])
        shop.say(made[number * 10 :][:10])
        shop.page.add_conversation()


def test_r5_a_clock_that_is_right_is_no_matter(shop: Shop) -> None:
    made = shop.open(30)
    for number in range(2):
        run = shop.run(after=10 * MINUTE, machine_ahead=30 * SECOND)
        shop.assert_succeeded()
        shop.assert_complete()
        assert not warnings(run)
        shop.say(made[number * 10 :][:10])


@pytest.mark.parametrize("hours", [0, 7, -7])
def test_r5_a_machine_whose_clock_nothing_corrects_loses_nothing_and_is_told(
    shop: Shop, hours: int
) -> None:
    made = shop.open(30)
    shop.server.world.date_ahead = None
    for number in range(3):
        run = shop.run(after=10 * MINUTE, machine_ahead=hours * HOUR)
        shop.assert_succeeded()
        shop.assert_complete()
        (warning,) = warnings(run)
        assert "does not send the time" in warning
        shop.say(made[number * 10 :][:10])
        shop.page.add_conversation()


# R6, R7, R8: lists that are sorted, filtered or cut in another way.


@pytest.mark.parametrize("filtered_by", ["inserted_at", "ignored"])
def test_r6_a_list_that_filters_by_another_time_loses_nothing_in_any_run(
    shop: Shop, filtered_by: Any
) -> None:
    made = shop.open(250)
    shop.say(made[100:250:3])
    shop.server.world.filtered_by["conversations"] = filtered_by
    first = shop.run()
    shop.assert_succeeded()
    shop.assert_complete()
    assert warnings(first, "conversations")
    for number in range(2):
        shop.say(made[200 + number * 20 :][:20])
        shop.run(after=10 * MINUTE)
        shop.assert_succeeded()
        shop.assert_complete()


@pytest.mark.parametrize("size", [50, 7, 1])
def test_r7_a_list_that_answers_with_fewer_rows_gives_all(shop: Shop, size: int) -> None:
    made = shop.open(250 if size == 50 else 60)
    shop.server.page_size = size
    shop.run()
    shop.assert_succeeded()
    shop.assert_complete()
    shop.say(made[30:50])
    shop.run(after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete()


@pytest.mark.parametrize("seed", range(3))
def test_r7_a_list_that_answers_with_another_number_of_rows_each_time_gives_all(
    shop: Shop, seed: int
) -> None:
    rng = random.Random(seed)
    made = shop.open(200)
    shop.server.world.cuts["conversations"] = lambda: rng.randint(1, 60)
    shop.run()
    shop.assert_complete()
    shop.say(made[30:130])
    shop.run(after=10 * MINUTE)
    shop.assert_complete()


@pytest.mark.parametrize("sorted_by", ["inserted_at", "updated_at"])
@pytest.mark.parametrize("filtered_by", ["inserted_at", "updated_at"])
def test_r8_customers_sorted_by_one_time_and_filtered_by_the_other_all_come(
    shop: Shop, sorted_by: Any, filtered_by: Any
) -> None:
    rng = random.Random(8)
    belongings, now = shop.page.belongings, shop.now
    customers = []
    for _ in range(1000):
        at = now - rng.randrange(3600, 90 * 86_400) * SECOND
        updated = at + rng.random() * (now - at) * rng.choice((0, 0, 1))
        customers.append(belongings.add_customer(at, updated))
    shop.server.world.sorted_by["customers"] = sorted_by
    shop.server.world.filtered_by["customers"] = filtered_by

    def touch() -> None:
        shop.ahead += MINUTE  # so that they are above all bounds of the run
        for customer in customers[::200]:
            belongings.touch_customer(customer, shop.now)

    shop.server.at(5, touch)
    shop.run("customers")
    shop.assert_succeeded()
    shop.assert_complete("customers")
    for _ in range(20):
        belongings.add_customer(shop.now)
    shop.run("customers", after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete("customers")


@pytest.mark.parametrize(
    ("sorted_by", "filtered_by"), [("inserted_at", "updated_at"), ("updated_at", "inserted_at")]
)
@pytest.mark.parametrize("oldest_first", [False, True])
def test_r8_other_lists_in_any_order_give_all(
    shop: Shop, sorted_by: Any, filtered_by: Any, *, oldest_first: bool
) -> None:
    streams: tuple[Any, ...] = ("customers", "posts", "ad_conversations")
    for number, conversation in enumerate(shop.open(200, messages=1)):
        conversation.ad_ids = ["400"]
        post = shop.page.belongings.add_post(conversation.inserted_at)
        if number % 3:
            later = conversation.inserted_at + number % 7 * HOUR
            at = min(later, shop.now - MINUTE)
            shop.page.receive(conversation.id, at=at)
            shop.page.belongings.posts[post]["updated_at"] = at.replace(microsecond=0)
    world = shop.server.world
    world.sorted_by = dict.fromkeys(streams, sorted_by)
    world.filtered_by = dict.fromkeys(streams, filtered_by)
    world.oldest_first = set(streams) if oldest_first else set()
    shop.run(*streams)
    shop.assert_succeeded()
    shop.assert_complete(*streams)
    for number in range(70):
        at = shop.now + number * SECOND
        shop.page.add_conversation(at=at).ad_ids = ["400"]
        shop.page.belongings.add_post(at)
    shop.run(*streams, after=10 * MINUTE)
    shop.assert_succeeded()
    shop.assert_complete(*streams)


# R9: hours of pages whose zone is not listed, or changes.

HOURS = ("page_statistics", "user_statistics")


def assert_every_hour_once(shop: Shop) -> None:
    shop.assert_succeeded()
    shop.assert_complete(*HOURS)
    for stream in HOURS:
        assert shop.last.by_key(stream).keys() == held_ids(shop.server, stream)
        assert shop.last.repeated(stream) == []
    held = stream_truth.records(shop.server, "user_statistics")
    for key, row in shop.last.by_key("user_statistics").items():
        assert row["hour_utc"] == held[key]["hour_utc"]


def test_r9_each_hour_of_a_page_of_which_only_the_token_is_known_comes_once(shop: Shop) -> None:
    page, now = shop.page, shop.now
    page.timezone = -5
    page.statistics.since, page.statistics.until = now - 20 * DAY, now
    shop.settings = {
        "access_token": None,
        "page_access_tokens": {page.id: page.token},
        "start_date": (now - 30 * DAY).isoformat(),
    }
    shop.run(*HOURS)
    assert shop.server.count("pages") == 0
    assert_every_hour_once(shop)


@pytest.mark.parametrize(
    "changes", [datetime(2025, 11, 2, tzinfo=UTC), datetime(2025, 3, 9, tzinfo=UTC)]
)
def test_r9_each_hour_of_a_page_whose_zone_changes_comes_once(
    shop: Shop, changes: datetime
) -> None:
    page = shop.page
    page.zone, page.timezone = ZoneInfo("America/New_York"), -5
    page.statistics.since, page.statistics.until = changes - 9 * DAY, changes + 9 * DAY
    shop.settings = {
        "start_date": (changes - 12 * DAY).isoformat(),
        "end_date": (changes + 12 * DAY).isoformat(),
    }
    shop.run(*HOURS)
    assert_every_hour_once(shop)


# R10, R11, R12, R13: single answers and rows.


@pytest.mark.parametrize("count", [1, 5, 35])
def test_r10_messages_that_are_deleted_between_two_batches_hide_none_that_is_there(
    shop: Shop, count: int
) -> None:
    (known,) = shop.open(1, messages=120)

    def remove() -> None:
        for message in known.messages[-count:]:
            shop.page.remove_message(known.id, message.id)

    shop.server.at(lambda call: call.endpoint == "messages" and not is_first_batch(call), remove)
    shop.run()
    assert len(known.messages) == 120 - count
    shop.assert_succeeded()
    shop.assert_complete()


@pytest.mark.parametrize("where", [is_first_batch, None], ids=["first batches", "any batch"])
def test_r11_an_answer_without_messages_where_there_are_some_is_asked_for_again(
    shop: Shop, where: Any
) -> None:
    shop.open(60)
    shop.open(10, messages=70)
    fault = shop.refuse("empty_list", endpoint="messages", every=9, where=where)
    shop.run()
    assert fault.hits > 5
    shop.assert_succeeded()
    shop.assert_complete()


def test_r12_a_timeout_that_the_api_tells_with_code_1_is_tried_again(shop: Shop) -> None:
    shop.open(60)
    fault = shop.refuse("error:1", every=10)
    shop.run()
    assert fault.hits > 5
    shop.assert_succeeded()
    shop.assert_complete()


def test_r13_a_row_without_id_is_left_out_and_named_and_the_rest_comes(shop: Shop) -> None:
    page, made = shop.page, shop.open(20)
    page.belongings.fill(shop.now - DAY, shop.now)
    for conversation in made:
        conversation.ad_ids = ["400"]
    post, call = list(page.belongings.posts)[3], list(page.belongings.calls)[3]
    customer, message = made[9].customers[0].id, made[4].messages[0].id
    lists = ("tags", "users", "customers", "posts", "call_logs", "ad_conversations")
    streams = ("conversations", "messages", *lists)
    nameless = {made[7].id, message, "2", page.staff[0].id, customer, post, call}
    shop.server.world.without_id = nameless
    shop.settings = {"sip_package_ids": {page.id: page.belongings.sip_package_id}}
    first = shop.run("pages", *streams)
    shop.assert_complete(*streams)
    for stream in streams:
        assert complaints(first, stream), stream
    shop.say(made[10:15])
    second = shop.run("pages", *streams, after=10 * MINUTE)
    assert second.returncode == 1, second.stderr[-3000:]  # it meets such rows again
    shop.assert_complete(*streams)
    shop.server.world.without_id = set()
    shop.run("pages", *streams, after=10 * MINUTE)
    shop.assert_complete("tags", "users")


# R14, R16: what stands before the API.


def no_list_of_pages(directory: Path, timeout: float, most: int) -> None:
    """Let no answer come, not even the list of pages: all that is tried is that list."""
    shop = Shop(directory)
    shop.settings = {"request_timeout": timeout}
    shop.refuse("hang")
    with shop.server:
        run = shop.run()
    assert run.returncode == 1
    assert shop.server.count("pages") == shop.server.count()
    assert 2 <= shop.server.count() <= most
    assert "0 of 0 pages" not in run.stderr
    assert "at most 0.0" not in run.stderr
    assert "wait" in run.stderr
    assert len(log_lines(run, "CRITICAL")) == 1


def no_answer_of_a_page(directory: Path) -> None:
    shop = Shop(directory)
    with shop.server:
        shop.open(3)
        shop.account.add_page().add_conversation(at=shop.now - HOUR)
        shop.settings = {"request_timeout": 1}
        shop.refuse("hang", page_id=shop.page.id)
        run = shop.run(*INBOX, "tags", "users", "customers", "posts")
        assert run.returncode == 1
        # The next stream meets the same, and with that the page ends.
        assert shop.server.count(page_id=shop.page.id) <= 2 * MOST_TRIES
        assert {page_id for page_id, _ in shop.missing("conversations")} == {shop.page.id}
        assert complaints(run, shop.page.id)


SILENCE: dict[str, Callable[[Path], None]] = {
    "test_r14_a_list_of_pages_that_never_answers_is_given_up_and_said": partial(
        no_list_of_pages, timeout=2, most=MOST_TRIES
    ),
    # README promises about a minute, of which each try takes 20 seconds.
    "test_r14_tries_that_take_long_are_fewer": partial(no_list_of_pages, timeout=20, most=4),
    "test_r14_a_page_that_never_answers_costs_a_few_tries_and_the_others_come": no_answer_of_a_page,
}


@pytest.fixture(name="silence", scope="module", autouse=True)
def begin_in_silence(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    names = {item.name for item in request.session.items}
    with begun(SILENCE, names, tmp_path_factory.mktemp("silence")) as jobs:
        yield jobs


def test_r14_a_list_of_pages_that_never_answers_is_given_up_and_said(
    silence: dict[str, Future[None]], request: pytest.FixtureRequest
) -> None:
    silence[request.node.name].result()


def test_r14_a_page_that_never_answers_costs_a_few_tries_and_the_others_come(
    silence: dict[str, Future[None]], request: pytest.FixtureRequest
) -> None:
    silence[request.node.name].result()


def test_r15_tag_statistics_of_more_than_a_year_have_a_key_for_each_row(shop: Shop) -> None:
    page, now = shop.page, shop.now
    page.statistics.since, page.statistics.until = now - 802 * DAY, now - DAY
    shop.settings = {"start_date": (now - 810 * DAY).isoformat()}
    run = shop.run("tag_statistics")
    shop.assert_succeeded()
    rows, names = run.records["tag_statistics"], run.keys["tag_statistics"]
    held = {(row["tag_id"], row["date"]) for row in stream_truth.tag_statistics(shop.server, page)}
    assert len(held) > 3200
    assert {(row["tag_id"], row["date"]) for row in rows} == held
    assert len({tuple(row[name] for name in names) for row in rows}) == len(held)


@pytest.mark.parametrize("endpoint", [None, "conversations", "messages"])
def test_r16_a_firewall_is_no_missing_permission(shop: Shop, endpoint: Any) -> None:
    shop.open(5)
    fault = shop.refuse("403_firewall", endpoint=endpoint)
    run = shop.run()
    assert run.returncode == 1
    assert fault.hits > 1
    text = " ".join(complaints(run)).lower()
    assert "permission" not in text
    assert "administrator" not in text
    assert re.search(r"firewall|before the api|in front of|proxy", text), text
    if endpoint == "messages":
        shop.assert_complete("conversations")
    shop.heal()
    shop.run(after=10 * MINUTE)
    shop.assert_complete()


def test_r16_a_firewall_that_lets_go_is_waited_out(shop: Shop) -> None:
    shop.open(30)
    shop.refuse("403_firewall", every=10)
    shop.run()
    shop.assert_succeeded()
    shop.assert_complete()


def test_r16_a_refusal_in_json_is_a_missing_permission(shop: Shop) -> None:
    shop.open(5)
    fault = shop.refuse("http:403", endpoint="customers")
    run = shop.run(*INBOX, "customers")
    shop.assert_succeeded()
    shop.assert_complete()
    assert fault.hits == 1
    assert len(warnings(run, "customers")) == 1


# R19, R20: a head that is not the newest.


def test_r19_a_list_that_is_empty_once_is_asked_for_again(shop: Shop) -> None:
    made = shop.open(30)
    shop.run()
    shop.say(made[10:20])
    fault = shop.refuse("empty_list", endpoint="conversations", at={1})
    shop.run(after=10 * MINUTE)
    assert fault.hits == 1
    shop.assert_succeeded()
    shop.assert_complete()


def test_r19_a_list_that_is_empty_where_rows_are_known_is_a_fault(shop: Shop) -> None:
    made = shop.open(30)
    shop.run()
    kept = {stream: shop.bookmark(stream) for stream in INBOX[1:]}
    shop.say(made[10:20])
    shop.refuse("empty_list", endpoint="conversations")
    run = shop.run(after=10 * MINUTE)
    assert run.returncode == 1
    assert complaints(run, shop.page.id)
    for stream, bookmark in kept.items():
        assert shop.bookmark(stream) == bookmark
    shop.heal()
    shop.run(after=2 * HOUR)
    shop.assert_succeeded()
    shop.assert_complete()


def read_up_to_now(shop: Shop) -> None:
    """Read what a copy that is five minutes behind lacks, and let more come."""
    made = shop.open(30)
    shop.run()
    shop.say(made[:5])
    shop.run()
    shop.say(made[10:20])


@pytest.mark.parametrize("behind", [600, 2400])
def test_r20_one_answer_of_a_copy_that_is_behind_loses_nothing(shop: Shop, behind: int) -> None:
    read_up_to_now(shop)
    fault = shop.refuse(f"lag:{behind}", endpoint="conversations", at={1})
    run = shop.run(after=5 * MINUTE)
    assert fault.hits == 1
    assert_not_passed(shop)
    assert len(warnings(run)) == 1
    shop.heal()
    shop.run(after=HOUR)
    shop.assert_succeeded()
    shop.assert_complete()


@pytest.mark.parametrize("behind", [600, 2400])
def test_r20_a_copy_that_stays_behind_is_told_and_not_passed(shop: Shop, behind: int) -> None:
    read_up_to_now(shop)
    shop.refuse(f"lag:{behind}")
    run = shop.run(after=5 * MINUTE)
    assert_not_passed(shop)
    assert complaints(run, shop.page.id)
    shop.heal()
    shop.run(after=HOUR)
    shop.assert_succeeded()
    shop.assert_complete()


def assert_not_passed(shop: Shop) -> None:
    """Assert that all that has not come is at or after the bookmark of its stream."""
    for stream, name in (("conversations", "updated_at"), ("messages", "inserted_at")):
        bookmark = shop.bookmark(stream)
        truth: Any = getattr(shop.server.expected(), stream)
        for key in shop.missing(stream):
            assert bookmark is None or truth[key][name] >= datetime.fromisoformat(bookmark), key


def test_r14_tries_that_take_long_are_fewer(
    silence: dict[str, Future[None]], request: pytest.FixtureRequest
) -> None:
    """The last one, since it takes a minute."""
    silence[request.node.name].result()


# Found later, by worlds of other testers.


@pytest.mark.parametrize("late", [False, True])
def test_a_start_date_that_goes_later_and_back_loses_nothing(shop: Shop, *, late: bool) -> None:
    """What lies below it, what appears below it, and what moves out of there meanwhile."""
    made = shop.open(100)
    shop.run()
    for _ in range(8):
        shop.ahead += DAY
        shop.page.add_conversation()
    shop.settings["start_date"] = (shop.now - 5 * DAY).isoformat()
    if late:
        shop.page.add_conversation(at=shop.now - 6 * DAY, stored_at=shop.now)
    shop.say(made[90:])
    shop.run(after=2 * DAY)
    assert shop.missing("conversations"), "what is below the start is not to be read"
    for start in (None, "2020-01-01T00:00:00Z"):
        shop.settings["start_date"] = start
        shop.run(after=HOUR)
        shop.assert_succeeded()
        shop.assert_complete()


@pytest.mark.parametrize("nulls", ["first", "last"])
@pytest.mark.parametrize("count", [30, 150])
def test_conversations_without_a_time_come_though_bounds_leave_them_out(
    shop: Shop, count: int, nulls: Literal["first", "last"]
) -> None:
    made = shop.open(count)
    shop.server.world.null_times = {each.id: ("updated_at",) for each in made[5:10]}
    shop.server.world.nulls = nulls
    shop.run()
    shop.assert_succeeded()
    shop.assert_complete()


def test_late_conversations_of_a_list_that_ignores_the_order_come_within_a_day(shop: Shop) -> None:
    shop.open(100)
    shop.server.world.sorted_by["conversations"] = "updated_at"
    shop.server.world.filtered_by["conversations"] = "updated_at"
    shop.run()
    shop.page.add_conversation(at=shop.now - 10 * HOUR, stored_at=shop.now)
    shop.run(after=HOUR)
    assert warnings(shop.last, "`inserted_at`", "once a day")
    shop.run(after=DAY)
    shop.assert_succeeded()
    shop.assert_complete()


def test_an_empty_page_may_stay_so_for_days(shop: Shop) -> None:
    for _ in range(3):
        shop.run(after=DAY)
        shop.assert_succeeded()
    shop.page.add_conversation()
    shop.run(after=HOUR)
    shop.assert_succeeded()
    shop.assert_complete()


def test_what_is_open_above_an_end_date_stays_open(shop: Shop) -> None:
    shop.open(200)  # 20 minutes apart
    early, late = ((shop.now - hours * HOUR).isoformat() for hours in (50, 30))
    shop.settings["start_date"] = (shop.now - 10 * HOUR).isoformat()
    shop.run()
    shop.settings |= {"start_date": early, "end_date": late}
    shop.run(after=HOUR)
    shop.assert_succeeded()
    shop.settings |= {"start_date": None, "end_date": None}
    shop.run(after=HOUR)
    shop.assert_succeeded()
    shop.assert_complete()


def test_a_conversation_that_was_denied_before_a_signal_is_aside() -> None:
    """Whether the page is denied is not known before the third one, but the coverage goes on."""
    part: Json = {"context": {"page_id": "1"}}
    bookmark = Bookmark(part, "inserted_at", incremental=True)
    logged: list[PageFailed] = []
    aside = Aside([bookmark], lambda: 10**15, logged.append)
    for number in range(2):
        aside.item_failed(f"c{number}", None, 10**14, PageSkipped("denied"))
    assert [one for one, *_ in part["aside"]] == ["c0", "c1"]
    aside.item_read("c2", 10**14)
    assert [one for one, *_ in part["aside"]] == ["c0", "c1"]
    assert len(logged) == 2
