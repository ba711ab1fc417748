"""In which order the tests run, and what several files of them need."""

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
"""Files that take about a minute each: last, they would keep one core busy and the others idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; scripts/test.sh keeps this order."""
    first = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: first.get(item.path.stem, len(LONGEST)))


@pytest.fixture(name="database", scope="module")
def real_postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that a file of tests has for itself."""
    with postgres() as url:
        yield url
