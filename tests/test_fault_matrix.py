"""Each refusal of the table of errors that ends a run, and each of the user API.

For those of a page see `test_fault_matrix_inbox.py`, `…_lists.py` and `…_statistics.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.fault_matrix import (
    BEFORE,
    ENDING,
    FORMS,
    INBOX,
    NOT_THESE_PAGES,
    OF_CONVERSATIONS,
    PAGE_TOKEN,
    POSITIONS,
    Case,
    Form,
    Outcome,
    account_of,
    at_position,
    by_page,
    due,
    is_claimed,
    question_of,
    questions_of,
    read,
    read_before,
    serve,
    settings_for,
    state_for,
)
from tests.pancake_api import Answer, PancakeServer
from tests.stream_truth import CHILDREN, assert_same, records
from tests.tap import Run, logged, part_of, run_here, select
from tests.truth import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.fault_matrix import Question
    from tests.pancake_api import Call
    from tests.tap import Json


# What ends the run.


@pytest.mark.parametrize("stream", [*CHILDREN, *INBOX])
def test_a_missing_page_token_ends_the_run_and_the_next_one_makes_up_for_it(stream: str) -> None:
    before, questions, _ = read_before(stream)
    wrong: dict[str, object] = {}
    for form in ENDING:
        # Other forms of the same are judged alike, as their first call shows.
        for position in POSITIONS if form is ENDING[0] else POSITIONS[:1]:
            case = Case(form, form.page, position, at_position(questions, position))
            try:
                end_at(stream, before, case)
            except AssertionError as error:
                wrong[str(case)] = error
    assert not wrong, wrong


def end_at(stream: str, before: Json, case: Case) -> None:
    """Meet a refusal that ends the run on the second page of three."""
    with serve(account_of(stream, [False] * 3), stream) as server:
        good, struck, untouched = (page.id for page in server.account.pages)

        def refuse(call: Call) -> Answer | None:
            if call.page_id != struck or question_of(server, call) != case.question:
                return None
            case.hits += 1
            return case.form.answer

        server.instead = refuse
        state = state_for(before, [good, struck, untouched])
        run = read(server, stream, state, max_parallel_pages=1)
        assert run.returncode == 1
        lines = [line for level, line in logged(run) if level != "INFO"]
        assert len(lines) == 1, lines
        where = lines[0].split(": ")[0].split(", ")
        assert (where[0], where[-1]) == (f"page {struck}", stream), lines
        assert PAGE_TOKEN in lines[0], lines
        assert case.hits == 1
        assert server.count(page_id=untouched) == 0
        assert_same(by_page(run, stream).get(good, {}), due(server, good, stream, before))
        bookmarks = [part_of(run.state, stream, page) for page in (struck, untouched)]
        assert bookmarks[1] == part_of(state, stream, untouched)
        if stream in OF_CONVERSATIONS:
            # The top moves with the head; what was not read below it stays open.
            came = by_page(run, stream).get(struck, {})
            conversations = server.account.page(struck).conversations
            for key, row in due(server, struck, stream, before).items():
                at = text(conversations[row["conversation_id"]].updated_at)
                assert key in came or not is_claimed(bookmarks[0], at)
        elif stream == "ads":  # of which the list is read, and what was refused waits
            missing = (
                due(server, struck, stream, before).keys()
                - by_page(run, stream).get(struck, {}).keys()
            )
            waiting = {(struck, ad_id) for ad_id, day in bookmarks[0]["ads"] if not day}
            assert waiting == missing
        elif case.position == "first":
            value = before[stream].get("replication_key_value")
            assert bookmarks[0].get("replication_key_value") == value
        server.instead = None
        later_run = read(server, stream, run.state)
        assert later_run.returncode == 0, later_run.stderr
        for page in (good, struck, untouched):
            arrived = by_page(run, stream).get(page, {}) | by_page(later_run, stream).get(page, {})
            assert_same(arrived, due(server, page, stream, before))


# List-pages.


def assert_logged(run: Run, level: str, place: str, remedy: str) -> None:
    """Assert that one line says what happened where, and what to do."""
    lines = [line for grade, line in logged(run) if grade == level]
    assert len(lines) == 1, run.stderr
    assert lines[0].removeprefix("Skipped: ").startswith(place), lines
    assert remedy in lines[0], lines
    assert "Traceback" not in run.stderr


def struck_pages(form: Form, at: int, times: int | None = None) -> tuple[PancakeServer, list[int]]:
    """Return a server whose list-pages is refused from the n-th call on, and the calls it had."""
    server = PancakeServer(account_of("tags", [False] * 3))
    asked: list[int] = []

    def refuse(call: Call) -> Answer | None:
        if call.endpoint != "pages":
            return None
        asked.append(call.number)
        struck = len(asked) >= at and (times is None or len(asked) < at + times)
        return form.answer if struck else None

    server.instead = refuse
    return server, asked


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_list_pages_that_is_refused_ends_the_run(form: Form) -> None:
    before, _, _ = read_before("messages")
    server, asked = struck_pages(form, 1)
    with server:
        state = state_for(before, [page.id for page in server.account.pages])
        run = read(server, "messages", state)
        assert run.returncode == 1
        assert_logged(run, "CRITICAL", "pages: ", form.user.remedy)
        assert len(asked) == server.count()
        assert form.user.has_tried(len(asked))
        assert not run.records
        assert run.state["bookmarks"].items() >= state["bookmarks"].items()


PASSING = [form for form in FORMS if form.user.retried]


@pytest.mark.parametrize("often", [False, True])
@pytest.mark.parametrize("form", PASSING, ids=lambda form: form.name)
def test_list_pages_that_is_refused_for_a_while_costs_no_row(form: Form, *, often: bool) -> None:
    times = form.user.tries - 1 if often else 1
    server, asked = struck_pages(form, 1, times)
    with server:
        run = run_here(settings_for(server), catalog=select("pages", "tags"))
        assert run.returncode == 0, run.stderr
        assert len(asked) == times + 1
        assert {row["id"] for row in run.records["pages"]} == {
            page.id for page in server.account.pages
        }
        assert_same(run.by_key("tags"), records(server, "tags"))


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_list_pages_that_is_refused_when_a_token_was_replaced_loses_that_page_only(
    form: Form,
) -> None:
    server, asked = struck_pages(form, 2)
    page = server.account.pages[1]
    old = page.token
    with server:
        # The page's token is replaced when the tap has listed it.
        server.on_call = lambda call: (
            page.renew_token() if call.endpoint == "tags" and page.token == old else None
        )
        run = run_here(settings_for(server), catalog=select("tags", "users"))
        assert run.returncode == 1
        assert_logged(run, "ERROR", f"page {page.id}: ", form.user.remedy)
        assert form.user.has_tried(len(asked) - 1)
        assert server.count(page_id=page.id) == 1, "its other streams would meet the same"
        held = {
            key: row for key, row in records(server, "tags").items() if row["page_id"] != page.id
        }
        assert_same(run.by_key("tags"), held)


# Statistics of several pages, which the user token asks for.

SEVERAL = "multi_page_user_statistics"


def several() -> PancakeServer:
    """Return a server with statistics of several pages."""
    return PancakeServer(account_of("user_statistics", [False] * 2))


def several_held(server: PancakeServer, since: str) -> dict[tuple[str, ...], Json]:
    """What is to be read from a day on."""
    return {key: row for key, row in records(server, SEVERAL).items() if row["date"] >= since}


def outcome_of_several(form: Form) -> Outcome:
    """What a refusal comes to."""
    return NOT_THESE_PAGES if form.name.startswith("error 105") else form.user


@pytest.fixture(scope="module")
def several_before() -> tuple[Json, list[Question]]:
    """The state of a run up to a time, and what the next one asks."""
    with several() as server:
        config, catalog = settings_for(server), select(SEVERAL)
        state = run_here(config | {"end_date": BEFORE.isoformat()}, catalog=catalog).state
        server.reset_calls()
        run = run_here(config, catalog=catalog, state=state)
        since = state["bookmarks"][SEVERAL]["replication_key_value"]
        assert_same(run.by_key(SEVERAL), several_held(server, since))
        return state, questions_of(server, SEVERAL)


def at_each_position(forms: Iterable[Form]) -> list[Any]:
    """Each form at the first call; at later ones, one of each outcome and status, judged alike."""
    distinct = {(outcome_of_several(form), form.answer.status): form for form in forms}.values()
    return [
        pytest.param(form, position, id=f"{form.name}-{position}")
        for position in POSITIONS
        for form in (forms if position == "first" else distinct)
    ]


@pytest.mark.parametrize(("form", "position"), at_each_position(FORMS))
def test_statistics_of_several_pages_that_are_refused(
    several_before: tuple[Json, list[Question]], form: Form, position: str
) -> None:
    state, questions = several_before
    outcome = outcome_of_several(form)
    case = Case(form, outcome, position, at_position(questions, position))
    with several() as server:
        refuse_several(server, case)
        config, catalog = settings_for(server), select(SEVERAL, "tags")
        run = run_here(config, catalog=catalog, state=state)
        assert run.returncode == (not outcome.skipped)
        level = "WARNING" if outcome.skipped else "CRITICAL" if outcome.run else "ERROR"
        line = next(line for grade, line in logged(run) if grade == level)
        text = line.removeprefix("Skipped: ").removeprefix("Set aside: ")
        assert text.startswith(f"{SEVERAL}: "), line
        assert outcome.remedy in line, line
        assert "Traceback" not in run.stderr
        # Then each page may be asked alone, to find the one that is refused.
        ways = 1 + sum(page.category == "activated" for page in server.account.pages)
        asked_alone = not case.hits % ways and outcome.has_tried(case.hits // ways)
        assert asked_alone or outcome.has_tried(case.hits)
        if not outcome.run:
            assert_same(run.by_key("tags"), records(server, "tags"))

        began = state["bookmarks"][SEVERAL]["replication_key_value"]
        part, held = run.state["bookmarks"][SEVERAL], several_held(server, began)
        missing = held.keys() - run.by_key(SEVERAL).keys()
        assert missing
        assert not any(is_claimed(part, held[key]["date"]) for key in missing)
        assert not run.repeated(SEVERAL)
        if position == "middle":
            server.instead = None
            later_run = run_here(config, catalog=catalog, state=run.state)
            assert later_run.returncode == 0, later_run.stderr
            assert_same(run.by_key(SEVERAL) | later_run.by_key(SEVERAL), held)


def refuse_several(server: PancakeServer, case: Case) -> None:
    """Refuse what a case refuses, as long as it does."""

    def refuse(call: Call) -> Answer | None:
        if call.endpoint != SEVERAL:
            return None
        case.calls += 1
        if question_of(server, call) != case.question or case.hits == case.passes_after:
            return None
        case.hits += 1
        return case.form.answer

    server.instead = refuse


@pytest.mark.parametrize(("form", "position"), at_each_position(PASSING))
def test_statistics_of_several_pages_that_are_refused_for_a_while(
    several_before: tuple[Json, list[Question]], form: Form, position: str
) -> None:
    state, questions = several_before
    times = 1 if position == "first" else form.user.tries - 1
    case = Case(form, form.user, position, at_position(questions, position), times)
    with several() as server:
        refuse_several(server, case)
        run = run_here(settings_for(server), catalog=select(SEVERAL), state=state)
        assert run.returncode == 0, run.stderr
        assert case.calls == len(questions) + times
        since = state["bookmarks"][SEVERAL]["replication_key_value"]
        assert_same(run.by_key(SEVERAL), several_held(server, since))
