"""The order of the tests, and fixtures that several files need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.targets import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST = (
    *("test_cases", "test_meltano", "test_statistics", "test_streams", "test_fault_matrix"),
    *("test_interrupt", "test_faults", "test_personal_data", "test_model", "test_settings"),
)
"""Files that take about a minute each. As the last ones, they would leave other cores idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; scripts/test.sh keeps this order."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(LONGEST)))


@pytest.fixture(name="database", scope="module")
def real_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server of this file of tests."""
    with postgres() as url:
        yield url
