"""Each refusal of the table of errors, at each place of each kind of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault_matrix import (
    BEFORE,
    BY_TIME,
    FAILED,
    FAULT,
    FIREWALL,
    GATEWAY,
    IDLE,
    INVALID_TIME,
    NO_JSON,
    NOT_ASSIGNED,
    ON_PAGES,
    UNKNOWN,
    Case,
    EachRefusal,
    Matrix,
    account_of,
    bookmark_key,
    is_claimed,
    read_matrix,
    settings_for,
)
from tests.pancake_api import PancakeServer
from tests.stream_truth import BY_DAYS, CHILDREN, assert_same, records
from tests.tap import logged, part_of, run_here, select
from tests.truth import merged

if TYPE_CHECKING:
    from tests.pancake_api import Answer, Call


@pytest.fixture(scope="module", params=[stream for stream in BY_DAYS if stream in CHILDREN])
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


def is_aside(case: Case) -> bool:
    """Whether the span is set aside, and the others are read."""
    if case.outcome in {FIREWALL, GATEWAY} or case.form.answer.status in {502, 503, 504}:
        # Once other spans were read, it counts as a fault of the span alone.
        return case.position != "first"
    of_span = {FAILED, FAULT, INVALID_TIME, NO_JSON, NOT_ASSIGNED, UNKNOWN}
    return case.outcome in of_span or case.form.name == "302"


class TestStatistics(EachRefusal):
    """A span that fails is set aside; what each span would meet ends the stream."""

    def check_it_is_told_once_with_page_stream_and_remedy(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        for page_id, case in matrix.lasting.items():
            lines = [line for line in matrix.lines[page_id] if line[0] != "INFO"]
            level, kind = (
                ("WARNING", "Skipped: ")
                if case.outcome.skipped
                else ("ERROR", "Set aside: " if is_aside(case) else "")
            )
            start = f"{kind}page {page_id}, {matrix.stream}: "
            if len(lines) == 1:
                ((grade, line),) = lines
                if grade == level and line.startswith(start) and case.outcome.remedy in line:
                    continue
            wrong[str(case)] = lines
        assert not wrong, wrong

    def check_no_bookmark_passes_what_was_not_written(self, matrix: Matrix) -> None:
        wrong: dict[str, object] = {}
        before, key = matrix.before[matrix.stream], bookmark_key(matrix.stream)
        for page_id, case in matrix.lasting.items():
            held, came = matrix.due(page_id), matrix.first.get(page_id, {})
            part = part_of(matrix.run.state, matrix.stream, page_id)
            missing = [
                row
                for name, row in held.items()
                if name not in came and row[key] >= before["replication_key_value"]
            ]
            claimed = [row for row in missing if is_claimed(part, row[key])]
            # Of an idle page, a span but the newest is passed over like this, too.
            aside = is_aside(case) or (case.outcome == IDLE and case.position != "first")
            ended = case.position == "first" and not is_aside(case)
            as_before = part == {**before, "context": {"page_id": page_id}, "newest": None}
            whole = len(part.get("aside", [])) == aside
            if not came.items() <= held.items() or claimed or ended != as_before or not whole:
                wrong[str(case)] = part, claimed
            if aside and part["open"] != part["aside"] and matrix.stream not in BY_TIME:
                wrong[str(case)] = part
        assert not wrong, wrong

    def check_the_run_ends_with_the_counts_of_what_failed_and_was_skipped(
        self, matrix: Matrix
    ) -> None:
        cases = list(matrix.lasting.values())
        skipped = sum(case.outcome.skipped for case in cases)
        aside = sum(is_aside(case) for case in cases)
        assert matrix.run.returncode == 1
        (last,) = [line for level, line in logged(matrix.run) if level == "CRITICAL"]
        failed = len(cases) - skipped - aside
        assert last.startswith(f"{failed} failed, {aside} set aside: ")
        assert f"Skipped in all: {skipped} (" in matrix.run.stderr
        assert "Traceback" not in matrix.run.stderr
        assert matrix.server.url not in matrix.run.stderr


BOTH = ("customer_engagements", "user_engagements")


def test_a_refusal_of_engagements_keeps_both_streams_that_share_the_answer_in_step() -> None:
    forms = [form for form in ON_PAGES if not form.idle]
    catalog = select(*BOTH)
    with PancakeServer(account_of(BOTH[0], [False] * (len(forms) + 1))) as server:
        met = dict(zip([page.id for page in server.account.pages], forms, strict=False))

        def refuse(call: Call) -> Answer | None:
            struck = call.page_id in met and call.params.get("date_range", "")[:2] == "06"
            return met[call.page_id or ""].answer if struck else None

        before = run_here(settings_for(server, end_date=BEFORE.isoformat()), catalog=catalog)
        server.instead = refuse
        run = run_here(settings_for(server), catalog=catalog, state=before.state)
        assert run.returncode == 1
        problems = [line for level, line in logged(run) if level in {"ERROR", "WARNING"}]
        for page_id, form in met.items():
            # An answer of no known shape is logged by each of them.
            lines = [line for line in problems if f"page {page_id}, " in line]
            assert any(f", {BOTH[0]}: " in line for line in lines)
            assert all(form.page.remedy in line for line in lines)
            parts = [part_of(run.state, stream, page_id) for stream in BOTH]
            # The lookback of each began at its own moment.
            assert parts[0] | {"lookback": 0} == parts[1] | {"lookback": 0}, form.name
            assert all(is_claimed(parts[0], "2026-01-07") is False for part in parts)
            assert not is_claimed(parts[0], "2026-01-06"), form.name
        server.instead = None
        later_run = run_here(settings_for(server), catalog=catalog, state=run.state)
        assert later_run.returncode == 0
        for stream in BOTH:
            assert_same(merged(stream, before, run, later_run), records(server, stream))
