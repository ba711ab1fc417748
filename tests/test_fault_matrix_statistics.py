"""Each refusal of the table of errors, at each place of each kind of statistics."""

from __future__ import annotations

import pytest

from tests.fault_matrix import EachRefusal, Matrix, read_matrix
from tests.stream_truth import CHILDREN, DATED


@pytest.fixture(scope="module", params=[stream for stream in DATED if stream in CHILDREN])
def matrix(request: pytest.FixtureRequest) -> Matrix:
    return read_matrix(request.param)


class TestStatistics(EachRefusal):
    pass
