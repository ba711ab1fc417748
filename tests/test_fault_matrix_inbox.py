"""Each refusal of the table of errors, at each place of the inbox."""

from __future__ import annotations

import pytest

from tests.fault_matrix import INBOX, EachRefusal, Matrix, read_matrix


@pytest.fixture(scope="module", params=INBOX)
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


class TestInbox(EachRefusal):
    pass
