"""The advertisements that conversations name: asked for once a week, and none is lost."""

from __future__ import annotations

import json
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from tap_pancake.reading.coverage import DAY
from tap_pancake.reading.met import MOST, NO_AD, MetAds
from tap_pancake.reading.state import Bookmark
from tap_pancake.rows import times
from tests.asking import NOON, of_page, small_account
from tests.pancake_api import Account, Answer, Fault, PancakeServer
from tests.stream_truth import assert_same, records
from tests.tap import (
    config_for,
    finish,
    hurried,
    log_lines,
    read_output,
    run_here,
    run_tap,
    select,
    start_tap,
    sync,
)
from tests.truth import merged

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.pancake_api import Call, Page
    from tests.tap import Json

NO_LOOKBACK = {"lookback_days": 0, "message_lookback_minutes": 0}


def shop(ads: int, *, platform: str = "facebook") -> tuple[Account, Page]:
    """Return a page with so many advertisements, each named by two conversations."""
    account = Account(seed=7)
    page = account.add_page(platform=platform)
    for number in range(ads):
        for _ in range(2):
            talk = page.add_conversation(at=NOON + timedelta(minutes=len(page.conversations)))
            talk.ad_ids = [ad(number)]
    if ads:  # the newest one began first, which shows the order of the list
        page.receive(next(iter(page.conversations)), at=NOON + timedelta(days=1))
    return account, page


def ad(number: int) -> str:
    return f"4{number:014d}"


def asked(server: PancakeServer) -> list[str]:
    """The advertisements that were asked for."""
    calls = [call for call in server.calls if call.endpoint == "ads"]
    return [ad_id for call in calls for ad_id in call.params["ad_ids"].split(",")]


def refuse(
    server: PancakeServer, numbers: Iterable[int], code: int | None = None, status: int = 400
) -> set[str]:
    """Let the API refuse each call that names one of some advertisements; give their ids."""
    bad = {ad(number) for number in numbers}
    body = json.dumps({"success": False, "message": "Lỗi"} | ({"error_code": code} if code else {}))

    def answer(call: Call) -> Answer | None:
        is_bad = call.endpoint == "ads" and not bad.isdisjoint(call.params["ad_ids"].split(","))
        return Answer(status, body.encode()) if is_bad else None

    server.instead = answer
    return bad


def aside(part: Json) -> set[str]:
    """Which ones are set aside, by a page's part of the state."""
    return {entry[0] for entry in part.get("aside", [])}


def waiting(part: Json) -> set[str]:
    """Which ones wait, by a page's part of the state."""
    return {ad_id for ad_id, day in part.get("ads", []) if not day}


# The bundled server.


def test_the_server_answers_as_the_reference_says() -> None:
    account, page, (talk, *_) = small_account()
    page.belongings.unknown_ads = {"2"}
    talk.ad_ids = ["1", "2"]
    with PancakeServer(account) as server:
        answer = of_page(server, page, "ads", ad_ids="1,2,3", type="ads").json
        known, *unknown = answer["data"]
        assert answer["success"] is True
        assert known["id"] == "1"
        assert known["name"]
        assert unknown == [{"id": "2"}, {"id": "3"}]
        wrong = of_page(server, page, "ads", ad_ids="1", type="tt_ads")
        assert wrong.json["data"] == [{"id": "1"}]
        many = ",".join(map(str, range(21)))
        for params in ({"ad_ids": many, "type": "ads"}, {"ad_ids": "1"}, {"type": "ads"}):
            assert of_page(server, page, "ads", **params).error == (400, 100)
        page.plan_lapsed = 121
        assert of_page(server, page, "ads", ad_ids="1", type="ads").error == (400, 121)


# What is asked for.


def test_each_is_asked_for_once_twenty_a_call_and_again_only_if_it_is_new(tmp_path: Path) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        config, catalog = config_for(server, lookback_days=9_000), select("conversations", "ads")
        runs = [sync(tmp_path, config, catalog=catalog)]
        assert server.count("ads") == 3
        assert sorted(asked(server)) == [ad(number) for number in range(45)]
        assert_same(merged("ads", *runs), records(server, "ads"))

        server.reset_calls()
        runs.append(sync(tmp_path, config, catalog=catalog, state=runs[-1].state))
        assert len(runs[-1].by_key("conversations")) == 90
        assert server.count("ads") == 0

        page.add_conversation().ad_ids = [ad(3), ad(45)]
        runs.append(sync(tmp_path, config, catalog=catalog, state=runs[-1].state))
        assert asked(server) == [ad(45)]
        assert_same(merged("ads", *runs), records(server, "ads"))
        assert len(runs[-1].part("ads", page.id)["ads"]) == 46


def test_one_that_is_met_a_week_later_is_asked_for_again(tmp_path: Path) -> None:
    account, page = shop(2)
    with PancakeServer(account) as server:
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads")
        state = sync(tmp_path, config, catalog=catalog).state
        (part,) = state["bookmarks"]["ads"]["partitions"]
        for entry in part["ads"]:
            at = times.micros(times.day(entry[1])) - 8 * DAY
            entry[1] = times.from_micros(at)[:10]
        page.add_conversation().ad_ids = [ad(1)]
        server.reset_calls()
        run = sync(tmp_path, config, catalog=catalog, state=state)
        assert asked(server) == [ad(1)]
        assert [entry[0] for entry in run.part("ads", page.id)["ads"]] == [ad(1)]


@pytest.mark.parametrize("others", [(), ("messages",), ("conversations", "messages")])
def test_the_list_of_conversations_is_read_for_it(tmp_path: Path, others: tuple[str, ...]) -> None:
    account, page = shop(5)
    with PancakeServer(account) as server:
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads", *others)
        first = sync(tmp_path, config, catalog=catalog)
        assert first.records.keys() == {"ads", *others}
        assert_same(first.by_key("ads"), records(server, "ads"))
        page.add_conversation().ad_ids = [ad(5)]
        # One that comes into sight late.
        page.add_conversation(at=NOON, stored_at=account.now()).ad_ids = [ad(6)]
        server.reset_calls()
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert sorted(asked(server)) == [ad(5), ad(6)]
        assert server.count("conversations") <= 4
        assert_same(merged("ads", first, second), records(server, "ads"))


def test_one_that_is_selected_later_brings_those_of_all_conversations(tmp_path: Path) -> None:
    account, _ = shop(5)
    with PancakeServer(account) as server:
        config = config_for(server, **NO_LOOKBACK)
        first = sync(tmp_path, config, catalog=select("conversations"))
        catalog = select("conversations", "ads")
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert_same(second.by_key("ads"), records(server, "ads"))
        assert "conversations" not in second.records


def test_a_map_that_filters_conversations_filters_none(tmp_path: Path) -> None:
    account, _ = shop(3)
    keys = {"page_id": "page_id", "id": "id", "__else__": None}
    for mapped in ({"__filter__": "False"}, keys, None):
        with PancakeServer(account) as server:
            config = config_for(server, stream_maps={"conversations": mapped})
            run = sync(tmp_path, config, catalog=select("conversations", "ads"))
            assert_same(run.by_key("ads"), records(server, "ads"))


@pytest.mark.parametrize("platform", ["tiktok_business_messaging", "facebook"])
@pytest.mark.parametrize("listed", [True, False])
def test_the_type_is_that_of_the_page(tmp_path: Path, platform: str, *, listed: bool) -> None:
    """Also of one of which only its token is known."""
    account, page = shop(3, platform=platform)
    with PancakeServer(account) as server:
        config = config_for(server)
        if not listed:
            del config["access_token"]
            config["page_access_tokens"] = {page.id: page.token}
        run = sync(tmp_path, config, catalog=select("ads"))
        types = {call.params["type"] for call in server.calls if call.endpoint == "ads"}
        assert types == {"tt_ads" if platform.startswith("tiktok") else "ads"}
        assert_same(run.by_key("ads"), records(server, "ads"))
        assert all(row["name"] for row in run.records["ads"])


@pytest.mark.parametrize("named", [None, "400", [None, "", {}, [], True], [400, "400", 5.0]])
def test_what_is_named_may_be_of_any_form(tmp_path: Path, named: Any) -> None:
    account, _, _ = small_account()

    def alter(call: Call, content: bytes) -> bytes:
        body = json.loads(content)
        for row in body["conversations"] if call.endpoint == "conversations" else ():
            row["ad_ids"] = named
        return json.dumps(body).encode()

    with PancakeServer(account) as server:
        server.alter = alter
        run = sync(tmp_path, config_for(server), catalog=select("ads"))
        ids = [row["id"] for row in run.records.get("ads", [])]
        assert ids == (["400", "5.0"] if named == [400, "400", 5.0] else [])


# What goes wrong.


def test_those_that_do_not_come_back_are_told_of_and_asked_for_again(tmp_path: Path) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        server.desk.bodies["ads"] = lambda params: {
            "success": True,
            "data": [{"id": ad_id} for ad_id in params["ad_ids"].split(",")[1:]],
        }
        catalog = select("ads", "sync_runs")
        run = sync(tmp_path, config_for(server), catalog=catalog)
        (line,) = log_lines(run, "WARNING")
        assert line.startswith(
            f"page {page.id}, ads: the answers lack advertisements that the tap "
        )
        # The first of each call is left out twice: that of 20, and of the one that is left.
        assert len(run.by_key("ads")) == 42
        statuses = {row["page_id"]: row["status"] for row in run.records["sync_runs"]}
        assert statuses == {"account": "complete", page.id: "incomplete"}
        assert len(waiting(run.part("ads", page.id))) == 3
        server.desk.bodies.clear()
        again = sync(tmp_path, config_for(server), catalog=catalog, state=run.state)
        came = run.by_key("ads").keys() | again.by_key("ads").keys()
        assert came == records(server, "ads").keys()


def test_an_answer_that_lacks_some_once_costs_a_call(tmp_path: Path) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        server.faults = [Fault("empty_list", endpoint="ads", at=[2])]
        run = sync(tmp_path, config_for(server), catalog=select("ads"))
        assert_same(run.by_key("ads"), records(server, "ads"))
        assert not log_lines(run, "WARNING")
        assert server.count("ads", page.id) == 4


@pytest.mark.parametrize("code", [None, 100, 999])
@pytest.mark.parametrize("bad", [[7], [0, 21, 22, 44]])
def test_one_that_is_refused_waits_and_those_beside_it_come(
    tmp_path: Path, bad: list[int], code: int | None
) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        refused = refuse(server, bad, code)
        catalog, env = select("ads", "sync_runs"), hurried(tmp_path)
        config = config_for(server, **NO_LOOKBACK)
        held = {key: row for key, row in records(server, "ads").items() if key[1] not in refused}
        first = run_tap(tmp_path, config, catalog=catalog, env=env)
        assert first.returncode == 1
        assert_same(first.by_key("ads"), held)
        (line,) = log_lines(first, "ERROR")
        assert line.startswith(f"Set aside: page {page.id}, ads: {len(bad)} advertisement")
        assert all(ad_id in line for ad_id in refused)
        assert "the API refused the call" in line
        row = {row["page_id"]: row for row in first.records["sync_runs"]}[page.id]
        (entry,) = [one for one in row["streams"] if one["name"] == "ads"]
        assert (row["status"], entry["status"]) == ("incomplete", "incomplete")
        assert {*entry["set_aside"]} == refused
        part = first.part("ads", page.id)
        assert waiting(part) == aside(part) == refused

        # Later runs ask for it again, after those that are new, and say that it waits still.
        page.add_conversation().ad_ids = [ad(45)]
        server.reset_calls()
        second = run_tap(tmp_path, config, catalog=catalog, env=env, state=first.state)
        assert second.returncode == 0, second.stderr
        assert asked(server)[0] == ad(45)
        assert {*asked(server)[1:]} - {NO_AD} == refused
        (line,) = log_lines(second, "WARNING")
        assert line.startswith(f"Still set aside: page {page.id}, ads: the API still refuses ")
        assert {row["status"] for row in second.records["sync_runs"]} == {"complete", "incomplete"}

        server.instead = None
        state = days_ago(second.state, 1)
        third = sync(tmp_path, config, catalog=catalog, state=state)
        assert_same(merged("ads", first, second, third), records(server, "ads"))
        part = third.part("ads", page.id)
        assert waiting(part) == aside(part) == set()


@pytest.mark.parametrize(("status", "code"), [(403, None), (200, 121), (404, None)])
def test_one_that_brings_about_what_is_said_of_all_is_set_aside(
    tmp_path: Path, status: int, code: int | None
) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        refused = refuse(server, [7], code, status)
        page.add_conversation()  # else it may be idle
        held = {key: row for key, row in records(server, "ads").items() if key[1] not in refused}
        env = hurried(tmp_path)
        config = config_for(server, **NO_LOOKBACK)
        first = run_tap(tmp_path, config, catalog=select("conversations", "ads"), env=env)
        assert first.returncode == 1
        assert_same(first.by_key("ads"), held)
        assert aside(first.part("ads", page.id)) == refused


def days_ago(state: Json, days: int) -> Json:
    """Let what is aside be so since some days more."""
    for part in state["bookmarks"]["ads"]["partitions"]:
        for entry in part.get("aside", []):
            entry[3:] = [times.from_micros(times.micros(at) - days * DAY) for at in entry[3:]]
    return state


@pytest.mark.parametrize("ads", [1, 2, 3])
def test_one_is_refused_also_where_no_other_is_answered(tmp_path: Path, ads: int) -> None:
    """That not all calls are refused, a call for what does not exist shows."""
    account, page = shop(ads)
    with PancakeServer(account) as server:
        refused = refuse(server, range(ads))
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads")
        first = run_tap(tmp_path, config, catalog=catalog)
        assert first.returncode == 1
        assert aside(first.part("ads", page.id)) == refused
        assert server.count("ads") == 2 * ads
        again = run_tap(tmp_path, config, catalog=catalog, state=first.state)
        assert again.returncode == 0, again.stderr
        # At last it is given up.
        state = days_ago(again.state, 31)
        last = run_tap(tmp_path, config, catalog=catalog, state=state)
        assert last.returncode == 1
        lines = log_lines(last, "ERROR")
        assert len(lines) == ads
        assert all("failed for 30 days, so the tap does not try it again" in line for line in lines)
        part = last.part("ads", page.id)
        assert waiting(part) == aside(part) == set()


def test_where_every_call_is_refused_the_stream_fails_and_all_wait(tmp_path: Path) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        server.faults = [Fault("http:400", endpoint="ads")]
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads")
        first = run_tap(tmp_path, config, catalog=catalog)
        assert first.returncode == 1
        (line,) = log_lines(first, "ERROR")
        assert line.startswith(f"page {page.id}, ads: the API refused the call")
        assert server.count("ads") == 2, "some, and what does not exist"
        part = first.part("ads", page.id)
        assert (len(waiting(part)), aside(part)) == (45, set())
        server.faults = []
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert_same(second.by_key("ads"), records(server, "ads"))


def test_where_many_are_refused_the_stream_fails_after_some(tmp_path: Path) -> None:
    """And neither that run nor a later one makes many calls, or loses one that is not refused."""
    account, page = shop(200)
    with PancakeServer(account) as server:
        refuse(server, range(200))
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads")
        runs = [run_tap(tmp_path, config, catalog=catalog)]
        assert len(aside(runs[0].part("ads", page.id))) == 20
        runs.append(run_tap(tmp_path, config, catalog=catalog, state=runs[0].state))
        assert len(aside(runs[1].part("ads", page.id))) == 40
        for run in runs:
            assert run.returncode == 1
            assert [line[:4] for line in log_lines(run, "ERROR")] == ["Set ", "page"]
        assert server.count("ads") <= 2 * 41
        assert len(waiting(runs[1].part("ads", page.id))) == 200
        server.instead = None
        last = sync(tmp_path, config, catalog=catalog, state=days_ago(runs[1].state, 2))
        # So many of those that were refused are asked for by one run.
        assert len(last.by_key("ads")) == 180
        rest = sync(tmp_path, config, catalog=catalog, state=last.state)
        assert_same(merged("ads", last, rest), records(server, "ads"))


@pytest.mark.parametrize("odd", ["1,2", "1 2", " ", "1\n"])
def test_an_id_that_cannot_be_one_of_several_is_never_asked_for(tmp_path: Path, odd: str) -> None:
    account, page = shop(3)
    for _ in range(2):
        page.add_conversation().ad_ids = [odd, ad(3)]
    with PancakeServer(account) as server:
        run = run_tap(tmp_path, config_for(server), catalog=select("ads", "sync_runs"))
        assert run.returncode == 1
        assert sorted(asked(server)) == [ad(number) for number in range(4)]
        assert run.by_key("ads").keys() == {(page.id, ad(number)) for number in range(4)}
        (line,) = log_lines(run, "ERROR")
        assert "ads: rows that cannot be written were left out" in line
        assert ": with a comma or a space in `id` (1)" in line
        statuses = {row["page_id"]: row["status"] for row in run.records["sync_runs"]}
        assert statuses == {"account": "complete", page.id: "incomplete"}


@pytest.mark.parametrize("code", [121, 403])
def test_those_that_a_page_may_not_use_wait(tmp_path: Path, code: int) -> None:
    account, page = shop(25)
    page.refused["ads"] = code
    with PancakeServer(account) as server:
        config, catalog = config_for(server, **NO_LOOKBACK), select("conversations", "ads")
        first = sync(tmp_path, config, catalog=catalog)
        (line,) = log_lines(first, "WARNING")
        assert line.startswith(f"Skipped: page {page.id}, ads: ")
        assert server.count("ads") == 2, "some, and what does not exist"
        assert len(waiting(first.part("ads", page.id))) == 25
        page.refused.clear()
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert "conversations" not in second.records
        assert_same(second.by_key("ads"), records(server, "ads"))


def test_a_fault_in_the_middle_leaves_the_rest_to_the_next_run(tmp_path: Path) -> None:
    account, page = shop(45)
    with PancakeServer(account) as server:
        server.faults = [Fault("500", endpoint="ads", at=range(2, 99))]
        config, catalog = config_for(server, **NO_LOOKBACK), select("conversations", "ads")
        env = hurried(tmp_path / "hurried")
        page.add_conversation()  # else it may be idle
        first = run_tap(tmp_path, config, catalog=catalog, env=env)
        assert first.returncode == 1
        (line,) = log_lines(first, "ERROR")
        assert f"page {page.id}, ads: " in line
        assert len(first.records["ads"]) == 20
        assert len(waiting(first.part("ads", page.id))) == 25
        server.faults = []
        server.reset_calls()
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert server.count("ads") == 2
        assert_same(merged("ads", first, second), records(server, "ads"))


def test_a_run_that_ends_between_conversations_and_ads_loses_none(tmp_path: Path) -> None:
    account, page = shop(30)
    with PancakeServer(account) as server:
        config, catalog = config_for(server, **NO_LOOKBACK), select("conversations", "ads")
        process = start_tap(tmp_path, config, catalog=catalog)
        server.at(lambda call: call.endpoint == "ads", lambda: process.send_signal(signal.SIGTERM))
        server.faults = [Fault("hang", endpoint="ads")]
        first = finish(process)
        server.faults = []
        assert len(first.records["conversations"]) == 60
        assert "ads" not in first.records
        second = sync(tmp_path, config, catalog=catalog, state=first.state)
        assert "conversations" not in second.records
        assert_same(second.by_key("ads"), records(server, "ads"))
        assert waiting(second.part("ads", page.id)) == set()


def test_a_run_that_is_killed_after_any_state_loses_none() -> None:
    account, _ = shop(45)
    with PancakeServer(account, page_size=12) as server:
        config, catalog = config_for(server, **NO_LOOKBACK), select("ads", "messages")
        with (
            patch("tap_pancake.running.run.STATE_INTERVAL", 0.0),
            patch("tap_pancake.reading.state.STATE_RATE", 10**9),
        ):
            run = run_here(config, catalog=catalog)
        lines = run.stdout.splitlines(keepends=True)
        ends = [number for number, line in enumerate(lines, 1) if '"type":"STATE"' in line]
        assert len(ends) > 20
        for end in ends[:: len(ends) // 20]:
            killed = read_output("".join(lines[:end]))
            resumed = run_here(config, catalog=catalog, state=killed.state)
            assert_same(merged("ads", killed, resumed), records(server, "ads"))


# The state.


def met_by(part: Json, days: int = 0) -> MetAds:
    bookmark = Bookmark(part, "", incremental=True)
    return MetAds(bookmark, times.micros("2026-01-01T12:00:00Z") + days * DAY)


def test_so_many_are_remembered_the_newest_ones() -> None:
    part: Json = {}
    old = [f"old {number}" for number in range(MOST)]
    met = met_by(part)
    met.meet(old)
    met.asked(old)
    later = met_by(part, 3)
    later.meet(["new 1", "old 999", "new 2"])
    assert later.waiting == ["new 1", "new 2"]
    later.asked(later.waiting)
    assert len(part["ads"]) == MOST
    assert part["ads"][:4] == [
        ["new 1", "2026-01-04"],
        ["old 999", "2026-01-01"],
        ["new 2", "2026-01-04"],
        ["old 0", "2026-01-01"],
    ]
    much_later = met_by(part, 8)
    much_later.meet(["old 0", "new 1"])
    assert much_later.waiting == ["old 0"]


def test_those_that_are_refused_wait_so_many_of_them() -> None:
    part: Json = {}
    met_by(part).meet(f"old {number}" for number in range(MOST))
    met = met_by(part, 100)
    met.meet(["new", "newer"])
    assert len(met.waiting) == MOST + 2, "nothing is forgotten while nothing is refused"
    assert met.refused() == 2
    assert len(part["ads"]) == MOST
    assert waiting(part) >= {"new", "newer", "old 0"}
    assert met.refused() == 0
