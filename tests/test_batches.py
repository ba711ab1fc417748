"""Message batches bring a conversation's messages, none twice, and end without a wasted call."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tap_pancake.reading.batches import BatchSizes, MessageBatches
from tap_pancake.reading.coverage import BEGINNING
from tap_pancake.rows import times

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = dict[str, Any]

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)


def message(number: int) -> Row:
    at = BEGAN + timedelta(seconds=number)
    return {"id": f"m{number}", "inserted_at": at.isoformat()[:19]}


def sent(row: Row) -> int:
    return times.micros(row["inserted_at"])


def conversation(count: int) -> list[Row]:
    """Messages of a conversation, oldest first, a second apart."""
    return [message(number) for number in range(count)]


def read(
    held: list[Row],
    *,
    batch: tuple[int, int] = (30, 30),
    since: int = BEGINNING,
    expected: int | None = None,
    sizes: BatchSizes | None = None,
    before_call: Callable[[int], object] | None = None,
    newest_first: bool = False,
    spoil: Callable[[int, list[Row]], list[Row]] = lambda _, rows: rows,
) -> tuple[list[Row], int]:
    """Read a conversation as the API answers; give what came, and the number of calls.

    Args:
        held: its messages, oldest first; it may grow meanwhile.
        batch: the size of a batch on the first call, and on later ones.
        since: the time to read back to, in microseconds since 1970.
        expected: the API's count of messages; the true number by default.
        sizes: of the run; new ones by default.
        before_call: what happens before each call, by its number.
        newest_first: the order inside of a batch.
        spoil: what becomes of the batch of each call.
    """
    batches = MessageBatches(
        since=since,
        expected=len(held) if expected is None else expected,
        sizes=sizes or BatchSizes(),
    )
    came: list[Row] = []
    calls = 0
    while not batches.finished:
        calls += 1
        assert calls < 500, "the batches do not end"
        offset = batches.offset
        if before_call is not None:
            before_call(calls)
        end = max(0, len(held) - offset)
        rows = spoil(calls, held[max(0, end - batch[bool(offset)]) : end])
        new = batches.add_batch(rows[::-1] if newest_first else rows)
        assert new == sorted(new, key=lambda row: row["inserted_at"])
        came += new
    return came, calls


def numbers(rows: list[Row]) -> list[int]:
    """The messages that came, in the order in which they were sent; each as often as it came."""
    return sorted(int(row["id"][1:]) for row in rows)


@pytest.fixture(params=[(30, 30), (20, 25)], ids=["present", "older"])
def batch(request: pytest.FixtureRequest) -> tuple[int, int]:
    sizes: tuple[int, int] = request.param
    return sizes


@pytest.fixture
def known(batch: tuple[int, int]) -> BatchSizes:
    """The batch sizes of a run that has read a long conversation before."""
    sizes = BatchSizes()
    read(conversation(100), batch=batch, sizes=sizes)
    return sizes


def calls_needed(count: int, batch: tuple[int, int]) -> int:
    """Calls until one is not full, and so must be the last; each begins with the last one's end."""
    return 1 if count < batch[0] else 2 + (count - batch[0]) // (batch[1] - 1)


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("count", [1, 19, 20, 21, 29, 30, 31, 45, 60, 61, 300])
def test_all_messages_come_once_without_a_wasted_call(
    count: int, batch: tuple[int, int], known: BatchSizes, *, newest_first: bool
) -> None:
    came, calls = read(conversation(count), batch=batch, sizes=known, newest_first=newest_first)

    assert numbers(came) == list(range(count))
    assert calls == calls_needed(count, batch)


@pytest.mark.parametrize("count", [0, 1, 19, 20, 21, 29, 30, 31, 45, 60, 61, 300])
def test_all_messages_come_before_any_size_is_known(count: int, batch: tuple[int, int]) -> None:
    came, calls = read(conversation(count), batch=batch)

    assert numbers(came) == list(range(count))
    assert calls <= calls_needed(count, batch) + 1


@pytest.mark.parametrize(
    ("sizes", "empty"),
    [
        (sizes, empty)
        for sizes in [(30, 30), (20, 25), (15, 15), (2, 12), (1, 1)]
        for empty in [(), (1,), (2, 3), (3, 4, 5), (2, 3, 6, 7)]
        if len(empty) < 2 or min(sizes) > 1  # where a batch of one has nothing to overlap
    ],
)
def test_batches_of_any_length_are_read_to_their_end(
    sizes: tuple[int, int], empty: tuple[int, ...]
) -> None:
    """Also with a count of 0: more than half of the rows of TikTok have it (reference, 24.2)."""
    expected = 0 if min(sizes) >= 20 else 70
    came, _ = read(
        conversation(70),
        batch=sizes,
        expected=expected,
        spoil=lambda number, rows: [] if number in empty else rows,
    )
    assert numbers(came) == list(range(70))


@pytest.mark.parametrize("size", [2, 3, 10, 15, 19])
@pytest.mark.parametrize("expected", [0, 43])
def test_short_batches_with_a_count_that_is_too_low_are_read_to_their_end(
    size: int, expected: int
) -> None:
    came, _ = read(conversation(45), batch=(size, size), expected=expected)
    assert numbers(came) == list(range(45))


@pytest.mark.parametrize("newest_first", [False, True])
def test_old_messages_that_were_stored_last_hide_none(*, newest_first: bool) -> None:
    """An answer in the order of storage has them where the newest ones are."""
    late = [message(number) | {"id": f"m{300 + number}"} for number in range(3)]
    held = conversation(300) + late
    came, _ = read(held, since=sent(message(260)), newest_first=newest_first)
    assert set(numbers(came)) >= set(range(260, 303))


@pytest.mark.parametrize("error", [-300, -1, 1, 300])
@pytest.mark.parametrize("count", [1, 29, 30, 31, 60, 100])
def test_a_wrong_message_count_loses_nothing(
    count: int, error: int, batch: tuple[int, int], known: BatchSizes
) -> None:
    expected = max(0, count + error)
    came, calls = read(conversation(count), batch=batch, sizes=known, expected=expected)

    assert numbers(came) == list(range(count))
    # Where a whole batch of what is counted does not come, the end is asked for twice more.
    assert calls <= calls_needed(count, batch) + (3 if error == 300 else 1)


@pytest.mark.parametrize("left", [0, 1, 8])
@pytest.mark.parametrize("at", [2, 3, (2, 3), (3, 4)])
def test_a_cut_batch_does_not_end_a_conversation_that_counts_more(
    at: int | tuple[int, ...], left: int, batch: tuple[int, int], known: BatchSizes
) -> None:
    spoilt = (at,) if isinstance(at, int) else at
    came, _ = read(
        conversation(100),
        batch=batch,
        sizes=known,
        # The newest of a batch: what was known before.
        spoil=lambda call, rows: rows[len(rows) - left :] if call in spoilt else rows,
    )
    assert numbers(came) == list(range(100))


@pytest.mark.parametrize("expected", [0, 1, 40])
@pytest.mark.parametrize("seed", range(10))
def test_no_batch_is_the_last_since_it_is_short_where_the_count_is_too_low(
    seed: int, expected: int
) -> None:
    """Batches of an API whose answers differ in length, after others of the run were longer."""
    sizes, rng = BatchSizes(), random.Random(seed)
    read(conversation(200), sizes=sizes)
    came, _ = read(
        conversation(300),
        expected=expected,
        sizes=sizes,
        spoil=lambda _, rows: rows[-rng.randint(26, 30) :],
    )
    assert numbers(came) == list(range(300))


@pytest.mark.parametrize("needed", [1, 10, 17, 40, 70])
def test_older_messages_than_wanted_are_not_asked_for(
    needed: int, batch: tuple[int, int], known: BatchSizes
) -> None:
    since = sent(message(300 - needed))
    came, calls = read(conversation(300), batch=batch, sizes=known, since=since)

    assert set(numbers(came)) >= set(range(300 - needed, 300))
    assert calls == calls_needed(needed, batch)


def test_a_message_with_an_odd_time_does_not_end_a_conversation(batch: tuple[int, int]) -> None:
    held = conversation(59)
    held[50] |= {"inserted_at": "2020-01-01T00:00:00"}
    came, _ = read(held, batch=batch, since=sent(message(0)))
    assert numbers(came) == list(range(59))


def test_messages_of_the_very_moment_are_wanted() -> None:
    """The batch ends just at the moment, and more messages of that moment are below."""
    held = [message(7) | {"id": f"m{number}"} for number in range(50)]
    came, _ = read(held, since=sent(message(7)))
    assert numbers(came) == list(range(50))


def test_messages_that_arrive_meanwhile_hide_none(
    batch: tuple[int, int], known: BatchSizes
) -> None:
    """Each shifts the offset by one, since it counts from the newest."""
    for seed in range(200):
        rng = random.Random(seed)
        count, rate = rng.randrange(150), rng.choice([0, 1, 5, 15])
        held = conversation(count)

        def arrive(
            _: int, held: list[Row] = held, rng: random.Random = rng, rate: int = rate
        ) -> None:
            held += [message(len(held) + i) for i in range(rng.randrange(rate + 1))]

        came, _ = read(
            held,
            batch=batch,
            sizes=known,
            expected=max(0, count + rng.choice([-1, 0, 0, 1])),
            before_call=arrive,
            newest_first=rng.random() < 0.5,
        )
        assert set(numbers(came)) >= set(range(count)), seed
        assert len(set(numbers(came))) == len(came), seed


# What is there already begins each batch; so nothing is believed that did not come.


@pytest.mark.parametrize("many", [1, 2, 19, 24, 29, 30, 31, 60])
@pytest.mark.parametrize("call", [2, 3, 4])
def test_messages_that_are_deleted_meanwhile_hide_none(
    call: int, many: int, batch: tuple[int, int]
) -> None:
    """The newest ones, which moves all others up."""
    held = conversation(150)

    def delete(number: int) -> None:
        if number == call:
            del held[-many:]

    came, calls = read(held, batch=batch, expected=150, before_call=delete)
    assert set(numbers(came)) >= set(range(150 - many))
    assert len(set(numbers(came))) == len(came)
    assert calls <= calls_needed(150, batch) + 6


@pytest.mark.parametrize("many", [19, 24, 28, 29, 30, 31, 60])
def test_many_messages_that_arrive_at_once_hide_none(many: int, batch: tuple[int, int]) -> None:
    """As many as a batch moves on by bring the very same one again."""
    held = conversation(100)

    def arrive(number: int) -> None:
        if number == 2:
            held.extend(message(100 + each) for each in range(many))

    came, _ = read(held, batch=batch, expected=100, before_call=arrive)
    assert set(numbers(came)) >= set(range(100))


def test_all_that_were_known_may_be_deleted(batch: tuple[int, int]) -> None:
    held = conversation(90)

    def delete(number: int) -> None:
        if number == 2:
            del held[-60:]

    came, _ = read(held, batch=batch, expected=90, before_call=delete)
    assert set(numbers(came)) >= set(range(30))


def test_a_conversation_that_is_emptied_meanwhile_ends(batch: tuple[int, int]) -> None:
    held = conversation(90)

    def delete(number: int) -> None:
        if number == 2:
            held.clear()

    came, calls = read(held, batch=batch, expected=90, before_call=delete)
    assert numbers(came) == list(range(90 - batch[0], 90))
    assert calls <= 10


@pytest.mark.parametrize("empty", [1, 2, 3, 4])
def test_an_empty_batch_among_others_hides_nothing_and_costs_a_call(
    empty: int, batch: tuple[int, int], known: BatchSizes
) -> None:
    came, calls = read(
        conversation(100),
        batch=batch,
        sizes=known,
        spoil=lambda number, rows: [] if number == empty else rows,
    )
    assert numbers(came) == list(range(100))
    assert calls == calls_needed(100, batch) + 1


def test_a_conversation_without_messages_is_asked_for_again() -> None:
    assert read([], expected=0) == ([], 2)
    assert read([], expected=3) == ([], 4)


def test_an_api_that_answers_with_its_oldest_batch_for_ever_is_left(
    batch: tuple[int, int], known: BatchSizes
) -> None:
    """It cuts an offset that is too large to where the last full batch begins."""
    held = conversation(100)
    came, calls = read(
        held,
        batch=batch,
        sizes=known,
        expected=200,
        spoil=lambda number, rows: rows if len(rows) > 20 or number == 1 else held[: batch[1]],
    )
    assert numbers(came) == list(range(100))
    assert calls <= calls_needed(100, batch) + 4, "the API counts 100 more"


@pytest.mark.parametrize("limit", [58, 59, 60, 300])
def test_an_api_that_stops_in_the_middle_is_left(limit: int) -> None:
    """It has an offset from which on it answers with nothing, though messages were seen there."""
    held = conversation(400)
    batches = MessageBatches(since=BEGINNING, expected=400, sizes=BatchSizes())
    came: list[Row] = []
    calls = 0
    while not (batches.finished or batches.is_stuck):
        calls += 1
        assert calls < 200
        end = len(held) - batches.offset
        came += batches.add_batch([] if batches.offset >= limit else held[max(0, end - 30) : end])
    assert {*numbers(came)} >= {*range(400 - limit, 400)}
    assert batches.is_stuck or batches.missing_count


def test_what_comes_where_it_does_not_belong_is_not_dropped() -> None:
    """An API that rounds the offset up to a whole batch: no answer begins with a known message."""
    held = conversation(100)
    batches = MessageBatches(since=BEGINNING, expected=100, sizes=BatchSizes())
    came: list[Row] = []
    while not (batches.finished or batches.is_stuck):
        end = max(0, len(held) - -(-batches.offset // 30) * 30)
        came += batches.add_batch(held[max(0, end - 30) : end])
    assert {*numbers(came)} >= {*range(40, 100)}
    assert batches.is_stuck or batches.missing_count


@pytest.mark.parametrize(("counted", "lacking"), [(100, 0), (119, 0), (120, 20), (500, 400)])
def test_what_is_counted_and_does_not_come_is_told(counted: int, lacking: int) -> None:
    held = conversation(100)
    batches = MessageBatches(since=BEGINNING, expected=counted, sizes=BatchSizes())
    while not batches.finished:
        end = max(0, len(held) - batches.offset)
        batches.add_batch(held[max(0, end - 30) : end])
    assert batches.missing_count == lacking
