"""Each refusal of the table of errors, at each place of what a page has besides its inbox."""

from __future__ import annotations

import pytest

from tests.fault_matrix import EachRefusal, Matrix, read_matrix

STREAMS = ("tags", "users", "posts", "call_logs", "customers", "ad_conversations")


@pytest.fixture(scope="module", params=STREAMS)
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


class TestLists(EachRefusal):
    pass
