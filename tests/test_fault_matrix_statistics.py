"""Each refusal of the table of errors, at each place of each kind of statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault_matrix import (
    BEFORE,
    ON_PAGES,
    EachRefusal,
    Matrix,
    account_of,
    logged,
    read_matrix,
    settings_for,
)
from tests.pancake_api import PancakeServer
from tests.stream_truth import CHILDREN, DATED, assert_same, records
from tests.tap import run_here, select
from tests.truth import merged

if TYPE_CHECKING:
    from tests.pancake_api import Answer, Call


@pytest.fixture(scope="module", params=[stream for stream in DATED if stream in CHILDREN])
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


class TestStatistics(EachRefusal):
    pass


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
        told = [line for level, line in logged(run) if level in {"ERROR", "WARNING"}]
        for page_id, form in met.items():
            # An answer of no known shape is told by each of them.
            lines = [line for line in told if f"page {page_id}, " in line]
            assert any(f", {BOTH[0]}: " in line for line in lines)
            assert all(form.page.remedy in line for line in lines)
            for stream in BOTH:
                assert run.bookmark(stream, page_id) == "2026-01-06", form.name
        server.instead = None
        mended = run_here(settings_for(server), catalog=catalog, state=run.state)
        assert mended.returncode == 0
        for stream in BOTH:
            assert_same(merged(stream, before, run, mended), records(server, stream))
