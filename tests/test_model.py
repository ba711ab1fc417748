"""Whatever happens to accounts, runs and targets: after a complete run the target holds all of it.

Random accounts, that move between runs and during them; random runs, with other settings and
streams; random ends, faults, and states that a target hands back. `tests/model.py` says what must
then have arrived. In the suite these are a few examples, always the same ones; with
`MODEL_EXAMPLES=1000` in the environment they are so many, other ones each time; with
`MODEL_SHRINKS=1` as well, and the `--hypothesis-seed` of before, a failure is made small.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests import stream_truth
from tests.model import (
    INBOX_SET,
    STREAMS,
    Checkpoint,
    History,
    Promise,
    Target,
    check_arrived,
    check_records,
    page_of,
)
from tests.pancake_api import Account, Call, Fault, Page, PancakeServer
from tests.tap import Run, full_config, read_output, select
from tests.warm_tap import Job, Scale, WarmTap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.pancake_api import Conversation
    from tests.tap import Json

    Move = tuple[str, int, int]

EXAMPLES = int(os.environ.get("MODEL_EXAMPLES", "0"))
SHRINKS = "MODEL_SHRINKS" in os.environ
BEGINNING = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
SCALES = (Scale(4, 3), Scale(7, 5), Scale(), Scale(1, 3))
PLATFORMS = ("facebook", "personal_zalo", "tiktok_business_messaging")
MOST_PAGES = 4
TOO_MANY = 20_000
"""No run needs so many calls."""

RETRIED = (
    "500",
    "502_html",
    "503",
    "429",
    "429_retry_after",
    "reset",
    "cut",
    "not_json",
    "empty_body",
    "success_false",
)
FEW = 3
"""So often such a fault is waited out."""
LASTING = (
    "500",
    "503",
    "not_json",
    "missing_list",
    "error:100",
    "error:102",
    "error:121",
    "error:105",
    "http:403",
    "http:404",
    "reset",
)
OF_ONE_STREAM = (
    "500",
    "not_json",
    "missing_list",
    "error:100",
    "error:121",
    "http:403",
    "http:404",
)
HARD = frozenset({"missing_list", "error:100", "error:102", "http:404"})
ENGAGEMENTS = frozenset({"customer_engagements", "user_engagements"})
READ_WITH = {
    "messages": frozenset({"conversations", "messages"}),
    **dict.fromkeys(ENGAGEMENTS, ENGAGEMENTS),
}
"""Stream → those without which it cannot be read. Conversations can without their messages."""
OF_ONE_TALK = ("error:100", "error:777", "http:404", "500", "odd:null", "odd:texts")
LAG = 50
"""Seconds that an answer is behind; as long as any lookback covers for."""

OFTEN = (
    "message",
    "late message",
    "future message",
    "conversation",
    "late conversation",
    "late belongings",
    "old conversation",
    "correct",
    "tag",
    "renew",
)
"""What meets most of the ways to lose something."""
MOVES = (
    *OFTEN,
    *OFTEN,
    "messages",
    "crowd",
    "delete",
    "delete message",
    "label",
    "ad",
    "post",
    "count",
    "call",
    "customer",
    "touch",
    "lapse",
    "mend",
    "refuse",
    "forbid",
    "category",
    "page",
)
NUMBERS = frozenset(stream_truth.DATED)
LISTS = frozenset({"conversations", "customers", "posts", "call_logs", "ad_conversations"})
MOVES_OF_NUMBERS = frozenset({"correct", "category", "page", "label"})
SOON = (30, 300, 600, 1_200, 3 * 3_600)
WAITS = (*SOON, 3_600, 26 * 3_600, 5 * 86_400)
AHEAD = (3_600, 1, 30, 600)
"""Seconds that a message's time may be ahead of all clocks."""

moves = st.tuples(st.sampled_from(MOVES), st.integers(0, 7), st.integers(0, 7))
faults = st.builds(
    lambda lasting, kind, few, endpoint, page, at: (
        (LASTING[kind % len(LASTING)], endpoint, page, at, None)
        if lasting
        else (RETRIED[kind % len(RETRIED)], endpoint, page, at, few)
    ),
    st.booleans(),
    st.integers(0, 29),
    st.integers(1, FEW),
    st.sampled_from(("messages", "conversations", "customers", *STREAMS)),
    st.integers(0, MOST_PAGES),
    st.integers(1, 9),
)
odd_answers = st.one_of(
    st.builds(
        lambda endpoint, page, at: ("empty_list", endpoint, page, at, 1),
        st.sampled_from(("messages", "conversations", "customers", "posts")),
        st.integers(0, MOST_PAGES - 1),
        st.integers(1, 12),
    ),
    st.builds(
        lambda page, at, few: (f"lag:{LAG}", "conversations", page, at, few),
        st.integers(0, MOST_PAGES - 1),
        st.integers(1, 6),
        st.integers(1, 2),
    ),
    st.builds(
        lambda kind, page, which: (kind, "talk", page, which, None),
        st.sampled_from(OF_ONE_TALK),
        st.integers(0, MOST_PAGES - 1),
        st.integers(0, 9),
    ),
)
wrong_answers = st.lists(st.one_of(faults, odd_answers), max_size=3)
ends = st.one_of(
    st.none(),
    st.tuples(st.just("TERM"), st.integers(1, 60)),
    st.tuples(st.just("KILL"), st.integers(0, 100), st.integers(0, 100)),
)
# Nearly all that is hard is between the first two of these.
TALK = frozenset({"conversations", "messages"})
some_streams = st.frozensets(st.sampled_from(STREAMS), min_size=1, max_size=4)
chosen_streams = st.one_of(
    st.sampled_from((TALK, INBOX_SET, frozenset({"conversations"}), frozenset({"messages"}))),
    some_streams.map(TALK.union),
    some_streams,
    st.frozensets(st.sampled_from(sorted(NUMBERS & {*STREAMS})), min_size=1, max_size=3),
    st.just(frozenset(STREAMS)),
)
chosen_settings = st.fixed_dictionaries(
    {},
    optional={
        "start_date": st.integers(0, 9),
        "end_date": st.integers(-2, 5),
        "page_ids": st.sets(st.integers(0, MOST_PAGES - 1), min_size=1),
        "max_parallel_pages": st.sampled_from((1, 2)),
        "lookback_days": st.just(2),
        "statistics_lookback_days": st.just(3),
        "statistics_window_days": st.sampled_from((1, 2, 3, 31)),
        "conversations_api": st.just("v1"),
    },
)


class Machine(RuleBasedStateMachine):
    """One account, one target, and the states that it hands back."""

    warm: WarmTap
    directory: str
    runs: ClassVar[Counter[str]] = Counter()

    @initialize(
        seed=st.integers(0, 99),
        dialect=st.sampled_from(("observed", "observed", "older", "documented")),
        scale=st.sampled_from(SCALES),
        pages=st.integers(1, 3),
        conversations=st.integers(0, 9),
        # With a day, a row's lookback covers for nearly all that the other one should.
        lookback=st.sampled_from((0.0, 1.0, 0.0, 0.25)),
        late=st.sampled_from((15, 90, 15, 90, 0)),
        statistics_lookback=st.sampled_from((1, 0)),
        kinds=st.fixed_dictionaries(
            {},
            optional={
                "totals": st.sampled_from([False]),
                "calls_ascending": st.sampled_from([True]),
                "customers_filter": st.just("inserted_at"),
                "customers_ordered": st.sampled_from([False]),
                "window_bounds": st.sampled_from(("[)", "(]", "()")),
                "lost_cursor": st.just("empty"),
            },
        ),
        world=st.fixed_dictionaries(
            {},
            optional={
                "whole_seconds": st.sampled_from([True]),
                "sorted_by": st.sampled_from(("inserted_at", "updated_at")),
                "filtered_by": st.sampled_from(("inserted_at", "updated_at", "ignored")),
                "date_ahead": st.sampled_from((None, -30, 30)),
                "cuts": st.integers(1, 60),
            },
        ),
        off=st.sampled_from((0, 0, 7 * 3_600)),
    )
    def begin(
        self,
        *,
        seed: int,
        dialect: str,
        scale: Scale,
        pages: int,
        conversations: int,
        lookback: float,
        late: int,
        statistics_lookback: int,
        kinds: Json,
        world: Json | None = None,
        off: int = 0,
    ) -> None:
        self.stack = ExitStack()
        self.shift = BEGINNING - datetime.now(UTC)
        self.account = Account(seed)
        self.account.clock = self.now
        self.server = self.stack.enter_context(PancakeServer(self.account, dialect))
        self.scale = scale
        scale.shrink_server(self.server)
        for name, kind in kinds.items():
            desk = self.server.desk
            setattr(desk if hasattr(desk, name) else self.server, name, kind)
        self.be_a_world(world or {}, seed)
        self.off = 0 if self.server.world.date_ahead is None else off
        self.late = timedelta(minutes=late)
        self.usual: Json = {
            "lookback_days": lookback,
            "message_lookback_minutes": late,
            "statistics_lookback_days": statistics_lookback,
        }
        if dialect != "observed":
            # Years of empty days, or months, cost calls where nothing says when a page began.
            self.usual["start_date"] = (BEGINNING - timedelta(days=9)).isoformat()
        self.history = History(self.server)
        self.history.late = self.late
        self.history.lookback = timedelta(days=lookback)
        self.history.statistics_lookback = timedelta(days=statistics_lookback)
        for number in range(pages):
            self.add_page(number, conversations)
        self.target = Target()
        self.kept = Checkpoint()
        self.checkpoints = [self.kept]
        self.server.on_call = self.on_call
        self.pid = threading.Event(), [0]
        self.due: dict[int, list[Move]] = {}
        self.term: int | None = None
        self.troubled: set[str] = set()
        self.refused: set[tuple[str, str]] = set()
        """Pages and their streams that were refused in this run, if only for a while."""
        self.renewed: Counter[str] = Counter()
        self.switched: set[str] = set()
        self.sound = True
        self.used: frozenset[str] = frozenset()

    def be_a_world(self, switches: Json, seed: int) -> None:
        """Let the server answer otherwise than the documents say."""
        world, rng = self.server.world, random.Random(seed)
        world.whole_seconds = "whole_seconds" in switches
        for name in switches.keys() & {"sorted_by", "filtered_by"}:
            setattr(world, name, {"conversations": switches[name]})
        if "date_ahead" in switches:
            seconds = switches["date_ahead"]
            world.date_ahead = None if seconds is None else timedelta(seconds=seconds)
        most = switches.get("cuts")
        self.cuts: Any = {"conversations": lambda: rng.randint(1, most)} if most else {}

    # The account.

    def now(self) -> datetime:
        """The time of all that happens."""
        return datetime.now(UTC) + self.shift

    def add_page(self, number: int, conversations: int = 0) -> None:
        """Add a page that is some days old."""
        # By the document, the list of pages does not tell their time.
        zone = 7 if self.server.dialect.name == "documented" else None
        platform = PLATFORMS[number % len(PLATFORMS)]
        page = self.account.add_page(platform=platform, timezone=zone)
        end = self.now().replace(microsecond=0)
        start = end - timedelta(days=3, hours=5)
        page.inserted_at = start
        page.fill(conversations, (1, 2 * self.scale.messages), start, end)
        page.belongings.fill(start, end, posts=conversations, calls=conversations)
        page.statistics.since, page.statistics.until = start, end

    @property
    def pages(self) -> list[Page]:
        """The pages that are read."""
        return [page for page in self.account.pages if page.category == "activated"]

    def move(self, move: Move) -> None:
        """Let something happen to the account."""
        kind, which, item = move
        page = self.account.pages[which % len(self.account.pages)]
        talks = [talk for talk in page.conversations.values() if talk.messages]
        self.happen(kind, page, talks[item % len(talks)] if talks else None, item)

    def happen(self, kind: str, page: Page, talk: Conversation | None, item: int) -> None:  # noqa: C901, PLR0912, PLR0915 - a list of what may happen
        now, goods = self.now(), page.belongings
        share = (item % 4 + 1) / 5
        sent = now - self.late * share
        seen = sent + self.late * 0.9
        match kind:
            case "message" if talk:
                page.receive(talk.id, sender=("customer", "staff", "bot", "outside")[item % 4])
            case "messages" if talk:
                for _ in range(self.scale.messages * 2 + 1 if self.scale.messages < 20 else 31):
                    page.receive(talk.id)
            case "late message" if talk and self.late:
                page.receive(talk.id, at=sent, visible_at=seen)
            case "future message" if talk:
                page.receive(talk.id, at=now + timedelta(seconds=AHEAD[item % len(AHEAD)]))
            case "conversation":
                page.add_conversation()
            case "late conversation" if self.late:
                page.add_conversation(at=sent, visible_at=seen)
            case "old conversation":
                at = now - timedelta(hours=7 * item + 1)
                late_one = page.add_conversation(at=at, stored_at=now)
                page.receive(late_one.id, at=at + timedelta(minutes=9), visible_at=now)
            case "delete" if talk and talk is not newest_of(page):
                page.remove(talk.id)
            case "delete message" if talk and len(talk.messages) > 1:
                page.remove_message(talk.id, talk.messages[item % (len(talk.messages) - 1)].id)
            case "crowd":
                at = now.replace(microsecond=0)
                for _ in range(self.scale.rows + 1):
                    page.add_conversation(at=at)
            case "tag" if talk:
                page.tag(talk.id, item % 3, action="remove" if item % 3 in talk.tag_ids else "add")
            case "label":
                page.tags[item % 3].text += "!"
            case "ad" if talk:
                talk.ad_ids = [f"4{page.number:05d}{item:09d}"]
                page.receive(talk.id)
            case "post":
                goods.add_post(now)
            case "late belongings":
                at = now - max(self.late, self.history.lookback) * share
                goods.add_post(at)
                goods.add_call(at)
                goods.add_customer(at)
            case "count" if goods.posts:
                post = [*goods.posts.values()][item % len(goods.posts)]
                post["comment_count"] += 1
            case "call":
                goods.add_call(now)
            case "customer":
                goods.add_customer(now)
            case "touch":
                known = sorted(row["id"] for row in goods.customers(self.server.dialect))
                if known:
                    goods.touch_customer(known[item % len(known)], now)
            case "correct":
                local = now.astimezone(page.statistics.zone).replace(tzinfo=None)
                hour = local.replace(minute=0, second=0, microsecond=0)
                hour -= timedelta(hours=item * 5)
                day = local.date() - timedelta(days=item % 4)
                # Not one without traffic: it would be new, and no lookback may reach it.
                numbers = page.statistics
                if numbers.counts("page_statistics", hour, "", ()) is not None:
                    numbers.correct("page_statistics", hour, page_inbox_count=item + 100)
                if numbers.counts("new_customer_statistics", day, "", ()) is not None:
                    numbers.correct("new_customer_statistics", day, new_customer_count=item)
                numbers.correct("customer_engagements", day, inbox=item)
            case "renew":
                page.renew_token()
                self.renewed[page.id] += 1
            case "lapse":
                page.plan_lapsed = 121 + item % 2
                self.troubled.add(page.id)
            case "forbid":
                page.forbidden = True
                self.troubled.add(page.id)
            case "refuse":
                stream = STREAMS[1:][item * 2 % len(STREAMS[1:])]
                page.refused[stream] = 403
                self.refused.add((page.id, stream))
            case "mend":
                page.plan_lapsed, page.forbidden = None, False
                page.refused.clear()
            case "category":
                self.switched.add(page.id)
                page.category = "inactivated" if page.category == "activated" else "activated"
            case "page" if len(self.account.pages) < MOST_PAGES:
                self.add_page(item, item % 4)

    def on_call(self, call: Call) -> None:
        """Let happen what is due with a call of the tap."""
        if call.number == TOO_MANY:  # it would go on for ever; the exit code tells
            os.kill(self.pid[1][0], signal.SIGKILL)
        if call.number == self.term:
            ready, (pid,) = self.pid[0].wait(), self.pid[1]
            assert ready
            os.kill(pid, signal.SIGTERM)
            time.sleep(0.02)  # until the signal arrives: the next call would not wait for it
        if due := self.due.pop(call.number, []):
            # Numbers take long to look at, and few moves change any.
            counted = {kind for kind, _, _ in due} & MOVES_OF_NUMBERS
            watched = self.watched if counted else self.watched - NUMBERS
            with self.account.lock:
                self.history.look(watched)
                for move in due:
                    self.move(move)
                self.history.look(watched)

    # What happens between runs.

    @rule(happened=st.lists(moves, min_size=1, max_size=8))
    def account_moves(self, happened: list[Move]) -> None:
        for move in happened:
            self.move(move)
            self.history.look(LISTS)
            if move[0] == "correct":
                self.history.look({"page_statistics", "new_customer_statistics"})

    @rule(seconds=st.sampled_from(WAITS))
    def time_passes(self, seconds: int) -> None:
        self.shift += timedelta(seconds=seconds)
        for page in self.account.pages:
            page.statistics.until = self.now()

    # Runs.

    @rule(
        streams=chosen_streams,
        changed=chosen_settings,
        during=st.lists(st.tuples(st.integers(1, 40), moves), max_size=4),
        wrong=wrong_answers,
        end=ends,
        state=st.sampled_from(("kept", "kept", "kept", "older", "none")),
        which=st.integers(0, 99),
        logged_out=st.sampled_from([False] * 9 + [True]),
    )
    def run(
        self,
        *,
        streams: frozenset[str],
        changed: Json,
        during: list[tuple[int, Move]],
        wrong: list[tuple[str, str, int, int, int | None]],
        end: tuple[Any, ...] | None,
        state: str,
        which: int,
        logged_out: bool = False,
    ) -> None:
        checkpoint = self.kept
        if state == "older":
            checkpoint = self.checkpoints[which % len(self.checkpoints)]
        elif state == "none":
            checkpoint = Checkpoint()
        for at, move in during:
            self.due.setdefault(at, []).append(move)
        self.server.faults = []
        for kind, endpoint, number, at, few in wrong:
            page = self.account.pages[number] if number < len(self.account.pages) else None
            if endpoint == "talk":
                if page is not None and (talks := list(page.conversations)):
                    talk = talks[at % len(talks)]
                    self.server.faults.append(
                        Fault(kind, endpoint="messages", conversation_id=talk)
                    )
                continue
            page_id = page.id if page and endpoint not in {"pages", "user_engagements"} else None
            fault = Fault(kind, endpoint=endpoint, page_id=page_id)  # type: ignore[arg-type]
            if few is not None:
                fault.at, fault.times = range(at, at + few), few
            self.server.faults.append(fault)
        self.term = end[1] if end and end[0] == "TERM" else None
        self.account.user_token_state = "expired" if logged_out else "ok"
        self.read(streams, changed, checkpoint, end)

    @rule(
        happened=st.lists(moves, min_size=1, max_size=8),
        streams=chosen_streams,
        during=st.lists(st.tuples(st.integers(1, 40), moves), max_size=4),
        end=st.one_of(st.none(), ends),
        seconds=st.sampled_from(SOON),
    )
    def account_moves_and_is_read_and_soon_again(
        self,
        *,
        happened: list[Move],
        streams: frozenset[str],
        during: list[tuple[int, Move]],
        end: tuple[Any, ...] | None,
        seconds: int,
    ) -> None:
        self.account_moves(happened)
        for stop in (end, None):
            options: Json = {"changed": {}, "wrong": [], "state": "kept", "which": 0}
            self.run(streams=streams, during=during, end=stop, **options)
            self.time_passes(seconds)
            during = []

    @rule(streams=chosen_streams)
    def all_is_mended_and_read(self, streams: frozenset[str]) -> None:
        self.account.user_token_state = "ok"
        self.server.faults, self.term = [], None
        for page in self.account.pages:
            page.category = "activated"
            self.happen("mend", page, None, 0)
        self.read(streams, {}, self.kept, None)

    def read(
        self,
        streams: frozenset[str],
        changed: Json,
        checkpoint: Checkpoint,
        end: tuple[Any, ...] | None,
    ) -> None:
        """Run the tap, and check what it did."""
        self.sound = False
        config = self.config(changed)
        # Of v1, what an answer leaves out is on no page at all.
        self.server.world.cuts = {} if config.get("conversations_api") == "v1" else self.cuts
        self.watched = streams
        self.used |= streams
        self.troubled = {page.id for page in self.pages if page.plan_lapsed or page.forbidden}
        self.refused = {(page.id, stream) for page in self.pages for stream in page.refused}
        self.renewed, self.switched = Counter(), set()
        self.server.reset_calls()
        held = self.history.look(streams)
        look = self.history.looks
        self.history.began = self.now()
        activated = self.pages
        done = self.start(config, streams, checkpoint)
        self.due = {}
        self.history.look(streams - NUMBERS)
        self.check_output(done, checkpoint)
        lags = any(fault.kind.startswith("lag") and fault.hits for fault in self.server.faults)
        check_records(
            self.history,
            look,
            (
                (stream, row)
                for stream, rows in done.records.items()
                for row in rows
                # What happens to a page that is not listed is not seen.
                if page_of(stream, row) not in self.switched
            ),
            lags=lags,
        )
        last = Checkpoint(done.state or checkpoint.state)
        promises = [
            Promise(
                self.history,
                checkpoint,
                stream,
                page,
                config,
                frozenset(row[0] for row in last.part("messages", page.id).get("aside", [])),
                timedelta(seconds=LAG if lags else 0),
                self.looked(last, stream, page),
            )
            for page in activated
            for stream in streams
            if page.id in config.get("page_ids", [page.id])
            and page.id not in self.switched
            and not self.in_trouble(stream, page.id)
            and not (stream in NUMBERS and last.part(stream, page.id).get("aside"))
        ]
        killed = self.arrive(done, checkpoint, end)
        self.runs["all"] += 1
        self.runs["killed" if killed else f"ended with {done.returncode}"] += 1
        if not killed and done.returncode in {0, 1}:
            for promise in promises:
                self.runs["promises"] += 1
                if promise.stream == "messages" and promise.aside:
                    self.runs["pages with something aside"] += 1
                    assert done.returncode or "set aside" in done.stderr
                check_arrived(self.history, self.target, promise, held[promise.stream], look)
        self.sound = True

    def looked(self, last: Checkpoint, stream: str, page: Page) -> datetime:
        """Tell up to when late rows were looked for: if nothing shows the order, once a day."""
        mark = last.part(stream, page.id).get("late")
        if mark is None or self.server.world.sorted_by.get("conversations") != "updated_at":
            return datetime.max.replace(tzinfo=UTC)
        return datetime.fromisoformat(mark)

    def config(self, changed: Json) -> Json:
        """The settings of a run."""
        now = self.now().replace(microsecond=123_456)
        config = full_config(self.server, **{**self.usual, **changed})
        if self.server.dialect.versions == ("v2",):
            config["conversations_api"] = "v2"
        if "start_date" in changed:
            config["start_date"] = (now - timedelta(hours=17 * changed["start_date"])).isoformat()
        if "end_date" in changed:
            config["end_date"] = (now - timedelta(hours=19 * changed["end_date"])).isoformat()
        if config.get("start_date", "") > config.get("end_date", "9"):
            del config["end_date"]
        if "page_ids" in changed:
            pages = self.pages
            ids = {pages[number % len(pages)].id for number in changed["page_ids"] if pages}
            config["page_ids"] = sorted(ids)
            if not ids:
                del config["page_ids"]
        config["lookback_days"] = max(config["lookback_days"], self.usual["lookback_days"])
        return config

    def start(self, config: Json, streams: frozenset[str], checkpoint: Checkpoint) -> Run:
        """Let the tap read."""
        catalog = select(*streams)
        self.pid = threading.Event(), [0]
        shift = self.shift.total_seconds() + self.off
        job = Job(config, catalog, checkpoint.state, shift, self.scale, self.directory)
        self.pid[1][0] = self.warm.start(job)
        self.pid[0].set()
        return self.warm.finish(job)

    def in_trouble(self, stream: str, page_id: str) -> bool:
        """Tell whether something stood in the way of reading a stream of a page in this run."""
        if self.account.user_token_state != "ok" or any(
            fault.hits and fault.times is None and fault.endpoint == "pages"
            for fault in self.server.faults
        ):
            return True
        documented = self.server.dialect.name == "documented"
        if page_id in self.troubled or self.renewed[page_id] > (0 if documented else 1):
            return stream != "pages"
        together = READ_WITH.get(stream, {stream})
        if any((page_id, one) in self.refused for one in together):
            return True
        for fault in self.server.faults:
            if not fault.hits or fault.times is not None or stream == "pages":
                continue
            if fault.conversation_id is not None:
                continue  # it is set aside
            if fault.page_id in {None, page_id} and (
                fault.kind not in OF_ONE_STREAM or fault.endpoint in together
            ):
                return True
        return False

    def arrive(self, done: Run, checkpoint: Checkpoint, end: tuple[Any, ...] | None) -> bool:
        """Hand the output, or the beginning of it, to the target; tell whether it was cut off."""
        output, share, which = done.stdout, 100, 100
        if end and end[0] == "KILL":
            _, share, which = end
        killed = share < 100
        run = read_output(output[: len(output) * share // 100])
        for stream, rows in run.records.items():
            for row in rows:
                self.target.take(stream, row)
        given = [Checkpoint(value) for value in run.states]
        if given:
            self.kept = given[-1 if which == 100 else which * len(given) // 100]
            self.checkpoints = [*self.checkpoints[-20:], given[len(given) // 2], given[-1]]
        elif checkpoint is not self.kept:
            # A target that was given nothing hands back what it was given before.
            self.kept = checkpoint
        return killed

    def check_output(self, done: Run, checkpoint: Checkpoint) -> None:
        """Assert what holds of every run."""
        assert done.returncode in {0, 1, 143}, done.stderr
        assert "Traceback" not in done.stderr, done.stderr
        if self.term is None:
            assert done.returncode != 143, done.stderr
        if self.untroubled():
            # What is denied in the midst of a run is set aside, one conversation after the other.
            denied = (self.troubled or self.refused) and "Set aside: " in done.stderr
            assert done.returncode in ({0, 1, 143} if denied else {0, 143}), done.stderr
        elif self.is_refused() and '"aside"' not in json.dumps(checkpoint.state):
            assert done.returncode in {1, 143}, done.stderr
        assert not self.server.violations
        assert not self.server.errors
        tokens = {self.account.user_token}
        for page in self.account.pages:
            tokens |= page.old_tokens | ({page.token} if page.token else set())
        for token in tokens:
            for text in (token, quote(token, safe="")):
                assert text not in done.stdout
                assert text not in done.stderr
        before = _bookmarks(checkpoint.state or {})
        for state in done.states:
            after = _bookmarks(state)
            for place, value in before.items():
                assert after.get(place, "") >= value, ("a bookmark moved back", place)
            before = after

    def untroubled(self) -> bool:
        """Tell whether nothing stood in the way of this run, or only a plan or permission."""
        documented = self.server.dialect.name == "documented"
        return (
            self.account.user_token_state == "ok"
            and not any(fault.times is None and fault.hits for fault in self.server.faults)
            and all(count <= (0 if documented else 1) for count in self.renewed.values())
        )

    def is_refused(self) -> bool:
        """Tell whether something must have failed, and no plan or permission came before it."""
        hit = {fault.kind for fault in self.server.faults if fault.times is None and fault.hits}
        skips = self.troubled or self.refused
        return bool(hit) and hit <= HARD and not skips

    def teardown(self) -> None:
        """Mend everything; then all must come."""
        if not hasattr(self, "stack"):
            return
        with self.stack:
            if not self.sound:
                return
            self.time_passes(30 * 3_600)  # by when all that is set aside is tried again
            self.all_is_mended_and_read(self.used)
            for page in self.pages:
                if "messages" in self.used:
                    assert not self.kept.part("messages", page.id).get("aside")


def newest_of(page: Page) -> Conversation:
    """The conversation at the top of a page: without it the list looks as if a copy lagged."""
    return max(page.conversations.values(), key=lambda talk: talk.updated_at)


def _bookmarks(state: Json) -> dict[tuple[str, str], str]:
    """All bookmarks of a STATE."""
    return {
        (stream, part["context"]["page_id"]): part["replication_key_value"]
        for stream, parts in state.get("bookmarks", {}).items()
        for part in parts.get("partitions", [])
        if "replication_key_value" in part
    }


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmTap]:
    """What runs the tap; the numbers of runs are printed at the end."""
    Machine.warm, Machine.directory = WarmTap(), str(tmp_path_factory.mktemp("runs"))
    yield Machine.warm
    if EXAMPLES:
        print(dict(Machine.runs))  # noqa: T201


@pytest.mark.usefixtures("warm")
def test_a_target_holds_what_the_server_held_whatever_happened() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 4,
            stateful_step_count=12 if EXAMPLES else 8,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            report_multiple_bugs=False,
            # To make a failure smaller takes minutes, in which a timeout would hide it.
            phases=[Phase.generate] if EXAMPLES and not SHRINKS else [*Phase],
            suppress_health_check=list(HealthCheck),
        ),
    )


# What it found, or what was thought of meanwhile.


@pytest.fixture
def machine(warm: WarmTap) -> Iterator[Machine]:
    """A machine that a test moves itself; at the end all must have arrived."""
    assert warm
    machine = Machine()
    yield machine
    machine.teardown()


def plain(machine: Machine, **kinds: Any) -> None:
    """Begin with one page, of 9 conversations of the last days."""
    options: Json = {"seed": 0, "dialect": "observed", "scale": Scale(4, 3), "pages": 1}
    options |= {"conversations": 9, "lookback": 1.0, "late": 15, "kinds": {}}
    options["statistics_lookback"] = 1
    machine.begin(**options | kinds)


def read(machine: Machine, *streams: str, **options: Any) -> None:
    """Run the tap in peace, but for what a test says."""
    peace: Json = {"changed": {}, "during": [], "wrong": [], "end": None, "state": "kept"}
    machine.run(streams=frozenset(streams or STREAMS), **peace | {"which": 0} | options)


@pytest.mark.parametrize("stopped_at", range(5, 9))
def test_what_changes_between_a_run_that_was_stopped_and_the_next_is_not_passed_over(
    machine: Machine, stopped_at: int
) -> None:
    """The next one goes on where that one stopped, so the one after it must look back further."""
    plain(machine, lookback=3.3)
    read(machine)
    machine.time_passes(3_600)
    read(machine, "conversations", end=("TERM", stopped_at))
    machine.account_moves([("tag", 0, number) for number in range(8)])
    machine.time_passes(26 * 3_600)
    machine.account_moves([("conversation", 0, 0)])
    machine.time_passes(3_600)
    read(machine, "conversations")


def test_a_message_of_the_second_in_which_a_run_began_is_not_lost(machine: Machine) -> None:
    """By the document, times have no fractions: it seems to be from before the run."""
    plain(machine, dialect="documented", late=0, lookback=0.0)
    read(machine, *INBOX_SET)
    machine.account_moves([("message", 0, number) for number in range(8)])
    read(machine, *INBOX_SET)


# What random examples meet too seldom: each way to lose something, on its own.

EACH = range(8)
"""The conversations, or other things, that a move is about."""


def each(kind: str) -> list[Move]:
    """Let the same happen to each."""
    return [(kind, 0, number) for number in EACH]


def test_a_row_that_appears_when_younger_ones_were_read_already_is_read(machine: Machine) -> None:
    """With `lookback_days` of 0, it is the message lookback that covers for it."""
    plain(machine, lookback=0.0)
    machine.account_moves([*each("late conversation"), *each("conversation"), *each("post")])
    machine.account_moves([*each("call"), *each("customer")])
    read(machine)
    machine.account_moves(each("late belongings"))
    machine.time_passes(1_200)
    read(machine)


def test_rows_that_appear_late_or_change_are_read_as_the_lookback_has_it(machine: Machine) -> None:
    plain(machine)
    read(machine)
    machine.account_moves([*each("late belongings"), *each("tag"), *each("count")])
    machine.account_moves([*each("correct"), *each("conversation"), *each("post")])
    machine.time_passes(1_200)
    read(machine)


def test_a_message_that_appears_after_its_time_had_been_read_is_read(machine: Machine) -> None:
    plain(machine, lookback=0.0)
    machine.account_moves(each("late message"))
    read(machine, *INBOX_SET)
    machine.time_passes(1_200)
    read(machine, *INBOX_SET)


@pytest.mark.parametrize("stopped_at", range(40, 58, 4))
def test_a_message_that_appears_between_a_run_that_was_stopped_and_the_next_is_read(
    machine: Machine, stopped_at: int
) -> None:
    """An unfinished walk goes on from where nothing can appear any more."""
    plain(machine, lookback=0.0, late=90)
    for _ in range(12):
        machine.account_moves([("conversation", 0, 0)])
        machine.time_passes(300)
    machine.account_moves(each("late message") + each("late conversation"))
    read(machine, *INBOX_SET, end=("TERM", stopped_at))
    machine.time_passes(5_400)
    read(machine, *INBOX_SET)


def test_a_conversation_that_moves_away_from_its_window_is_met_again(machine: Machine) -> None:
    plain(machine)
    during = [(call, ("message", 0, 9 - call % 9)) for call in range(1, 40)]
    read(machine, *INBOX_SET, during=during)


def test_what_a_clock_that_is_ahead_has_timed_is_read(machine: Machine) -> None:
    plain(machine)
    machine.account_moves(each("future message"))
    read(machine, *INBOX_SET)
    machine.time_passes(600)
    machine.account_moves([*each("message"), *each("conversation")])
    read(machine, *INBOX_SET)


def test_a_batch_that_is_shorter_than_others_does_not_end_a_conversation(machine: Machine) -> None:
    plain(machine)
    for talk in machine.pages[0].conversations.values():
        # A count that is wrong as well would leave nothing to go by.
        talk.count_error = 0
    machine.account_moves(each("messages"))
    short = 0

    def some_are_shorter(call: Call) -> None:
        nonlocal short
        short += call.endpoint == "messages"
        machine.server.dialect.next_batch = 3 - short % 2  # type: ignore[misc]

    machine.server.on_call = some_are_shorter
    read(machine, *INBOX_SET)


def test_messages_that_are_chosen_after_conversations_come_whole(machine: Machine) -> None:
    plain(machine)
    read(machine, "conversations")
    machine.time_passes(26 * 3_600)
    read(machine, *TALK)


@pytest.mark.parametrize("stopped_at", range(6, 22, 5))
def test_a_start_that_is_earlier_than_that_of_a_run_that_was_stopped_is_kept(
    machine: Machine, stopped_at: int
) -> None:
    plain(machine)
    read(machine, "messages", changed={"start_date": 2}, end=("TERM", stopped_at))
    read(machine, "messages")


def test_statistics_go_on_in_the_day_in_which_the_last_run_was(machine: Machine) -> None:
    plain(machine, statistics_lookback=0)
    for seconds in (3 * 3_600, 26 * 3_600, 0):
        read(machine, *({*stream_truth.CHILDREN} & {*STREAMS}))
        machine.time_passes(seconds)


@pytest.mark.parametrize("call", range(2, 20, 6))
def test_a_page_token_that_is_renewed_in_a_run_stops_nothing(machine: Machine, call: int) -> None:
    plain(machine)
    read(machine, during=[(call, ("renew", 0, 0))])


@pytest.mark.parametrize("stream", ["conversations", "messages", "posts", "page_statistics"])
def test_what_fails_shows_in_the_exit_code(machine: Machine, stream: str) -> None:
    plain(machine)
    read(machine, wrong=[("error:100", stream, 0, 1, None)])
