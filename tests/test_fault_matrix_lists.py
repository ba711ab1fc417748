"""Each refusal of the table of errors, at each place of what a page has besides its inbox."""

from __future__ import annotations

import pytest

from tests.fault_matrix import EachRefusal, Matrix, read_matrix
from tests.stream_truth import BY_DAYS, CHILDREN


@pytest.fixture(scope="module", params=[name for name in CHILDREN if name not in BY_DAYS])
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


class TestLists(EachRefusal):
    pass
