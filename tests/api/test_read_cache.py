from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.front.cache import LIFE_SECONDS, Asked, ReadCache
from api.front.kept import Keep, Kept, Seen, Stored

ANNA, BEN, CARLA = (UUID(int=number) for number in (1, 2, 3))
AT = datetime(2026, 5, 1, 7, tzinfo=UTC)
FEED = Asked(ANNA.int, b"/v1/feed", b"")


def answer(position: int, *about: UUID, body: bytes = b"{}", until: datetime | None = None) -> Kept:
    return Kept(body, "application/json", {}, Keep(frozenset(about), Seen(position, "builds"), until))


def opened(max_bytes: int = 1_000_000) -> ReadCache:
    cache = ReadCache(max_bytes)
    cache.open = True
    return cache


def test_an_answer_is_kept_until_somebody_of_whom_it_tells_changes() -> None:
    cache = opened()
    assert cache.keep(FEED, answer(10, ANNA, BEN), 0.0, AT, 0)
    cache.changed([CARLA], 11)
    assert cache.find(FEED, 0.0) is not None
    cache.changed([BEN], 11)
    assert cache.find(FEED, 0.0) is None


def test_an_answer_from_before_a_change_that_comes_after_it_is_not_kept() -> None:
    cache = opened()
    cache.changed([BEN], 11)
    assert not cache.keep(FEED, answer(10, ANNA, BEN), 0.0, AT, 0)
    assert cache.keep(FEED, answer(11, ANNA, BEN), 0.0, AT, 0)


def test_an_answer_from_before_changes_that_are_not_remembered_any_more_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.front.cache._MAX_CHANGES", 1)
    cache = opened()
    cache.changed([ANNA], 11)
    cache.changed([BEN], 12)
    assert not cache.keep(FEED, answer(10, ANNA), 0.0, AT, 0)
    assert cache.keep(FEED, answer(11, ANNA), 0.0, AT, 0)


def test_news_of_an_older_change_leave_a_newer_answer_alone() -> None:
    cache = opened()
    cache.keep(FEED, answer(12, ANNA, BEN), 0.0, AT, 0)
    cache.changed([BEN], 11)
    assert cache.find(FEED, 0.0) is not None


def test_news_of_an_older_change_leave_what_a_newer_one_said() -> None:
    cache = opened()
    cache.changed([BEN], 12)  # one's own write, say
    cache.changed([BEN], 11)
    assert not cache.keep(FEED, answer(11, BEN), 0.0, AT, 0)
    assert cache.keep(FEED, answer(12, BEN), 0.0, AT, 0)


def test_of_changes_the_latest_told_are_remembered_and_the_highest_forgotten_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("api.front.cache._MAX_CHANGES", 2)
    cache = opened()
    for user, position in ((ANNA, 1), (BEN, 2), (ANNA, 3), (CARLA, 4)):  # Ben's is forgotten, Anna's was told again
        cache.changed([user], position)
    assert cache.keep(FEED, answer(2, BEN), 0.0, AT, 0)
    assert not cache.keep(FEED, answer(2, ANNA), 0.0, AT, 0)
    cache.changed([BEN], 20)
    cache.changed([UUID(int=4)], 5)
    cache.changed([UUID(int=5)], 6)
    cache.changed([UUID(int=6)], 7)  # of the forgotten ones, 20 came before lower ones
    assert not cache.keep(FEED, answer(10, BEN), 0.0, AT, 0)


def test_what_is_gone_takes_no_room() -> None:
    cache = opened()
    for _ in range(2):  # the second takes the first one's place
        cache.keep(FEED, answer(1, ANNA), 0.0, AT, 0)
    cache.changed([ANNA], 2)
    assert (len(cache), cache.bytes, len(cache._telling)) == (0, 0, 0)
    cache.keep(FEED, answer(2, ANNA), 0.0, AT, 0)
    cache.clear()
    assert (len(cache), cache.bytes, len(cache._telling)) == (0, 0, 0)


def test_closed_it_keeps_nothing() -> None:
    cache = ReadCache()
    assert not cache.keep(FEED, answer(1, ANNA), 0.0, AT, 0)


def test_what_was_begun_before_all_was_made_old_is_not_kept_when_it_comes() -> None:
    cache = opened()
    begun_in = cache.generation
    cache.clear()
    assert not cache.keep(FEED, answer(10, ANNA), 0.0, AT, begun_in)
    assert cache.keep(FEED, answer(10, ANNA), 0.0, AT, cache.generation)


def test_nothing_is_kept_for_longer_than_a_minute_or_than_the_clock_allows() -> None:
    cache, week = opened(), Asked(ANNA.int, b"/v1/me/summaries", b"")
    cache.keep(FEED, answer(1, ANNA), 0.0, AT, 0)
    day = Asked(ANNA.int, b"/v1/me/summaries", b"period=day")
    cache.keep(week, answer(1, ANNA, until=AT + timedelta(seconds=5)), 0.0, AT, 0)
    cache.keep(day, answer(1, ANNA, until=AT + timedelta(hours=9)), 0.0, AT, 0)
    assert cache.find(week, 4.9) is not None
    assert cache.find(week, 5.0) is None
    for asked in (FEED, day):
        assert cache.find(asked, LIFE_SECONDS - 0.1) is not None
        assert cache.find(asked, LIFE_SECONDS) is None
    assert len(cache) == cache.bytes == 0


def test_what_was_not_read_for_longest_goes_first() -> None:
    cache = opened(max_bytes=10_000)
    pages = [Asked(ANNA.int, b"/v1/feed", str(number).encode()) for number in range(4)]
    for page in pages[:3]:
        cache.keep(page, answer(1, ANNA), 0.0, AT, 0)
    cache.find(pages[0], 0.0)
    cache.keep(pages[3], answer(1, ANNA), 0.0, AT, 0)
    assert [cache.find(page, 0.0) is not None for page in pages] == [True, False, True, True]


def test_a_very_large_answer_is_not_kept() -> None:
    assert not opened().keep(FEED, answer(1, ANNA, body=b"x" * 70_000), 0.0, AT, 0)


def test_an_answer_comes_back_from_where_it_was_stored() -> None:
    kept = answer(7, ANNA, BEN, body=b'{"a":1}')
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(kept.stored(AT)), type=Stored).kept()
    assert (again.body, again.about, again.seen, again.until) == (kept.body, kept.about, kept.seen, AT)


def test_lists_that_name_many_count_for_what_they_take() -> None:
    cache, many = opened(), [UUID(int=number) for number in range(100)]
    cache.keep(FEED, answer(1, ANNA), 0.0, AT, 0)
    one = cache.bytes
    cache.keep(Asked(ANNA.int, b"/v1/users", b"ids=" + b"x" * 3_700), answer(1, *many), 0.0, AT, 0)
    assert cache.bytes > 10 * one
    cache.changed(many, 2)
    assert len(cache) == cache.bytes == 0


users = st.sampled_from([ANNA, BEN, CARLA])


@given(st.lists(st.tuples(st.sampled_from(["change", "news", "gap", "begin", "end", "read"]), users), max_size=60))
@example([(step, ANNA) for step in ("begin", "change", "gap", "end", "read")])
def test_no_reader_gets_what_is_older_than_the_news_that_were_heard(steps: list[tuple[str, UUID]]) -> None:
    """Rows change, news of it come later or are lost in a gap, reads begin and end at any time: an answer that is kept
    is never older than the last change that was heard of, or than the last gap.
    """
    cache, position = opened(), 0
    rows, heard = dict.fromkeys((ANNA, BEN, CARLA), 0), dict.fromkeys((ANNA, BEN, CARLA), 0)
    untold: list[tuple[UUID, int]] = []
    reading: list[tuple[UUID, Kept, int]] = []
    for step, user in steps:
        asked = Asked(user.int, b"/v1/feed", b"")
        if step == "change":
            position += 1
            rows[user] = position
            untold.append((user, position))
        elif step == "news" and untold:
            changed, at = untold.pop(0)
            heard[changed] = at
            cache.changed([changed], at)
        elif step == "gap":  # whose news nobody hears
            heard = dict(rows)
            untold.clear()
            cache.clear()
        elif step == "begin":
            reading.append((user, answer(position, user, body=str(rows[user]).encode()), cache.generation))
        elif step == "end" and reading:
            reader, kept, generation = reading.pop()
            cache.keep(Asked(reader.int, b"/v1/feed", b""), kept, 0.0, AT, generation)
        elif (found := cache.find(asked, 0.0)) is not None:
            assert int(found.body) >= heard[user]


@given(st.lists(st.tuples(st.sampled_from(["event", "project", "news", "react", "begin", "end", "read"]), users)))
def test_what_is_of_two_writers_is_no_older_than_what_either_said(steps: list[tuple[str, UUID]]) -> None:
    """As `/bootstrap` is, of read models and of notices: each of their writers is somewhere else in the log. The
    projector says what it has done; the reactor says what it is about to do, and may die before it does.
    """
    cache, log, rows_at, notices_at = opened(), list[UUID](), 0, 0
    rows, notices, heard = (dict.fromkeys((ANNA, BEN, CARLA), 0) for _ in range(3))
    untold, reading = list[tuple[UUID, int]](), list[tuple[UUID, Kept]]()
    for step, user in steps:
        asked = Asked(user.int, b"/v1/bootstrap", b"", b"1 ios/9.4")
        if step == "event":
            log.append(user)
        elif step == "project" and rows_at < len(log):
            rows_at += 1
            rows[log[rows_at - 1]] = rows_at
            untold.append((log[rows_at - 1], rows_at))
        elif step == "news" and untold:
            changed, at = untold.pop(0)
            heard[changed] = at
            cache.changed([changed], at)
        elif step == "react" and notices_at < len(log):
            cache.changed([log[notices_at]], notices_at + 1)
            if user is not CARLA:  # else it dies, and does it again
                notices_at += 1
                notices[log[notices_at - 1]] = notices_at
        elif step == "begin":
            told = f"{rows[user]} {notices[user]}".encode()
            reading.append((user, answer(min(rows_at, notices_at), user, body=told)))
        elif step == "end" and reading:
            reader, kept = reading.pop()
            cache.keep(asked._replace(user=reader.int), kept, 0.0, AT, 0)
        elif (found := cache.find(asked, 0.0)) is not None:
            row, notice = map(int, found.body.split())
            assert row >= heard[user]
            assert notice == notices[user]
