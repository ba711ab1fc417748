"""Feedback of customers about the staff of a page (the reference, section 24).

Some hours of the page's statistics have a feedback, which is invented when it is first needed, the
same in every process. `add` adds others. The answer has times in the page's own time.
"""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from . import invented
from .statistics import HOUR, hour_label
from .world import inside

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from .account import Bounds, Json, Page
    from .dialects import Observed
    from .world import Window

TOO_LONG = timedelta(seconds=2_592_000)
"""The shortest span that is refused."""
SHARE = 0.06
"""The share of hours with a feedback."""
OPTIONAL = frozenset({"message", "message_id", "feedback_name"})


class Feedbacks:
    """The feedbacks of one page. `inserted_at` is an aware time here."""

    def __init__(self, page: Page) -> None:
        """Begin with the feedback of the hours of the page's statistics."""
        self._page = page
        self._added: list[Json] = []

    def add(self, at: datetime) -> Json:
        """Add a feedback, and return it; it may be changed."""
        rng = Random(f"{self._page.account.seed}:{self._page.id}:added:{len(self._added)}")
        self._added.append(self._invent(rng, at))
        return self._added[-1]

    def held(self, low: datetime | None = None, high: datetime | None = None) -> list[Json]:
        """Return all feedback, newest first.

        Args:
            low: The oldest time, if any.
            high: The newest time, if any.
        """
        found = [
            row
            for row in (*self._of_hours(low, high), *self._added)
            if (low is None or low <= row["inserted_at"])
            and (high is None or row["inserted_at"] <= high)
        ]
        return sorted(found, key=lambda row: (row["inserted_at"], row["id"]), reverse=True)

    def _of_hours(self, low: datetime | None, high: datetime | None) -> Iterator[Json]:
        numbers = self._page.statistics
        bounds = [
            at and at.astimezone(numbers.zone).replace(tzinfo=None)
            for at in (low and low - HOUR, high)
        ]
        for hour in numbers.hours(*bounds):
            rng = Random(f"{self._page.account.seed}:{self._page.id}:feedback:{hour}")
            at = numbers.instant(hour) + timedelta(seconds=rng.randrange(3600))
            if rng.random() < SHARE and numbers.until is not None and at < numbers.until:
                yield self._invent(rng, at)

    def _invent(self, rng: Random, at: datetime) -> Json:
        page = self._page
        staff, language = rng.choice(page.staff), page.channel.language
        return {
            "id": invented.uuid(rng),
            "admin_id": staff.fb_id,
            "page_id": page.id,
            "conversation_id": f"{page.id}_9{page.number:04d}{rng.randrange(10**8):08d}",
            "rate": rng.randint(1, 5),
            "message": rng.choice((None, invented.sentence(language, rng))),
            "message_id": rng.choice((None, f"m_{rng.randrange(10**12):012d}")),
            "sent_by_user": rng.random() < 0.5,
            "feedback_name": rng.choice((None, "CSKH")),
            "employee_name": staff.name,
            "customer_name": invented.person(language, rng),
            "inserted_at": at.replace(microsecond=0),
            "page_name": page.name,
            "platform": page.platform,
        }


def wire(page: Page, row: Json, dialect: Observed) -> Json:
    """Return a feedback as a dialect shows it: a missing value is null, or left out."""
    at = row["inserted_at"].astimezone(page.statistics.zone)
    return {
        name: hour_label(at, dialect) if name == "inserted_at" else value
        for name, value in row.items()
        if not (value is None and name in OPTIONAL and dialect.name == "documented")
    }


def body(page: Page, window: Window, bounds: Bounds, most: int | None, dialect: Observed) -> Json:
    """Return the answer of `statistics/customer_feedbacks`.

    Args:
        page: The page.
        window: `since` and `until`.
        bounds: Whether they are inclusive.
        most: The most rows, which does not change the counts; None for no limit.
        dialect: The form of the answer.
    """
    rows = [
        row for row in page.feedbacks.held(*window) if inside(row["inserted_at"], window, bounds)
    ]
    rates: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        rates.setdefault((row["admin_id"], row["employee_name"]), []).append(row["rate"])
    return {
        "success": True,
        "customer_feedback": [wire(page, row, dialect) for row in rows[:most]],
        "customer_average_feedback": [
            {
                "admin_id": admin_id,
                "employee_name": name,
                "feedback_count": len(given),
                "avg_feedback": round(sum(given) / len(given), 2),
                "botcake_count": 0,
            }
            for (admin_id, name), given in rates.items()
        ],
    }
