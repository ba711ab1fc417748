"""What the real API has answered comes through whole."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.rows.shaping import OTHERS
from tests.recorded import RECORDED, STREAMS, rows, serve
from tests.tap import key_of, log_lines, select, sync
from tests.test_personal_data import OF_SHOPS
from tests.truth import written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.tap import Json

pytestmark = pytest.mark.skipif(
    not RECORDED.is_dir(), reason="the recorded answers are not a part of the project"
)


def config(url: str, **more: Any) -> Json:
    return {"access_token": "invented", "api_url": url, "requests_per_second": 1000, **more}


SECRET = ("settings", "session_id", "token_for_business")
"""Never written."""
IDS = {"app_id", "flow_id", "order_id"}
"""May be numbers, and are written as texts; `id` is one of them below the top level."""


def less_secrets(value: Any) -> Any:
    """A value less what is never written."""
    if isinstance(value, dict):
        return {name: less_secrets(part) for name, part in value.items() if name not in SECRET}
    return [less_secrets(part) for part in value] if isinstance(value, list) else value


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Each value in a row that is no object or list with something in it, with its place."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from places(part, (*path, name))
    elif isinstance(value, list) and value:
        for number, part in enumerate(value):
            yield from places(part, (*path, number))
    else:
        yield path, value


def normalised(path: tuple[Any, ...], value: Any) -> Any:
    """A value as it is written."""
    *above, name = path
    if name == "avatar_url" and not above and value:
        return value.partition("?")[0]
    is_id = name in IDS or (name == "id" and above and "tag" not in above and "tags" not in above)
    return str(value) if is_id and isinstance(value, int) else value


def test_recorded_rows_come_through_whole_and_without_a_word(tmp_path: Path) -> None:
    with serve() as url:
        run = sync(tmp_path, config(url), catalog=select(*STREAMS))
    assert run.returncode == 0, run.stderr
    assert not log_lines(run, "WARNING")
    for stream in STREAMS:
        recorded = {key_of(stream, row): row for row in rows(stream)}
        records = run.by_key(stream)
        assert recorded
        assert records.keys() == recorded.keys(), stream
        for key, row in recorded.items():
            record = records[key]
            found = dict(places({**record, **(record[OTHERS] or {})}))
            for path, value in places(less_secrets(row)):
                if "birthday" in path:
                    continue  # one text, in place of three numbers
                if path == ("last_commented_at",) and value is False:
                    value = None  # noqa: PLW2901 - never
                # What has no column keeps the form of its times.
                expected = normalised(path, value)
                assert found[path] in [expected, written(expected)], (stream, path)


@pytest.mark.parametrize("how", ["hash", "drop"])
def test_personal_data_of_recorded_rows_is_protected(tmp_path: Path, how: str) -> None:
    protect = {"personal_data": how, "personal_data_of": "everybody", "personal_data_key": "x" * 32}
    with serve() as url:
        kept = sync(tmp_path, config(url), catalog=select(*STREAMS))
        run = sync(tmp_path, config(url, **protect), catalog=select(*STREAMS))
    assert run.returncode == 0, run.stderr
    personal = re.compile(r"Khách |Nhân viên |user_\d|@facebook\.com|(?<!\w)\+?0900")
    for stream in STREAMS:
        assert run.by_key(stream).keys() == kept.by_key(stream).keys(), stream
        seen = {
            (path, value)
            for row in run.records[stream]
            for path, value in places(row)
            if isinstance(value, str)
            and personal.search(value)
            and not path[-1].endswith("id")
            and (stream, *path) not in OF_SHOPS
            and (path[0], path[-1]) != ("attachments", "name")  # the text of an ad
        }
        assert not seen, stream
