"""Statements on the event loop: each has its own time, and what was cut off is not taken for the next answer."""

import asyncio
import selectors
import struct

import pytest
from psycopg import Connection, OperationalError
from psycopg.errors import LockNotAvailable, UndefinedTable

from domain.errors import StoreUnavailable
from infra.channels import Channel, Channels, number_of


async def test_a_statement_that_fails_leaves_the_channel_usable(database_url: str) -> None:
    channel = await Channel.open(database_url, {b"divide": b"SELECT 1 / $1::int"}, 5.0)
    with pytest.raises(Exception, match="division by zero"):
        await channel.run(b"divide", [(0).to_bytes(4)], 5.0)
    found = await channel.run(b"divide", [(1).to_bytes(4)], 5.0)
    assert found.get_value(0, 0) == (1).to_bytes(4)
    channel.close()
    channel.close()
    assert channel.closed


async def test_of_a_channel_that_cannot_be_prepared_nothing_is_left(database_url: str, database: Connection) -> None:
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    before = database.execute(others).fetchone()
    for _ in range(3):
        with pytest.raises(UndefinedTable):
            await Channel.open(database_url, {b"early": b"SELECT * FROM not_there_yet"}, 5.0)
    for _ in range(200):  # the server needs a moment to let go
        if database.execute(others).fetchone() == before:
            break
        await asyncio.sleep(0.01)
    assert database.execute(others).fetchone() == before


async def test_a_connection_that_was_lost_while_nobody_had_it_is_not_given_out(
    database_url: str, database: Connection
) -> None:
    channels = Channels(database_url, {b"one": b"SELECT 1"})
    async with channels.one() as lost:
        pass
    database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    while not lost.closed:
        await asyncio.sleep(0.01)
    async with channels.one() as channel:
        assert number_of(await channel.run(b"one", [], 5.0), 0, 0) == 1
    channels.close()


SLEEP = {b"sleep": b"SELECT pg_sleep($1::float8)"}


async def test_a_statement_that_takes_too_long_closes_the_channel(database_url: str) -> None:
    channel = await Channel.open(database_url, SLEEP, 5.0)
    with pytest.raises(Exception, match="did not answer"):
        await channel.run(b"sleep", [struct.pack("!d", 5.0)], 0.1)
    assert channel.closed


OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


async def hang_up(channels: Channels, times: int) -> None:
    for _ in range(times):
        with pytest.raises(OperationalError):
            async with channels.one() as channel:
                await channel.run(b"sleep", [struct.pack("!d", 600.0)], 0.05)


def end_all(database: Connection) -> None:
    database.execute("SELECT pg_terminate_backend(pid, 5000) " + OTHERS)


async def test_what_was_hung_up_on_takes_four_sessions_of_the_server_until_they_end(
    database_url: str, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.hung_up._LOOK_AGAIN_SECONDS", 0.0)
    channels = Channels(database_url, SLEEP)
    await hang_up(channels, 4)
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            await hang_up(channels, 1)
    assert database.execute(f"SELECT count(*) {OTHERS} AND wait_event = 'PgSleep'").fetchone() == (4,)
    one = database.execute(f"SELECT pid {OTHERS} AND wait_event = 'PgSleep' LIMIT 1").fetchone()
    database.execute("SELECT pg_terminate_backend(%s, 5000)", one)
    await hang_up(channels, 1)
    with pytest.raises(StoreUnavailable):
        await hang_up(channels, 1)
    end_all(database)
    await hang_up(channels, 4)
    end_all(database)


async def test_who_is_cut_off_in_the_middle_hangs_up_too(database_url: str, database: Connection) -> None:
    channels = Channels(database_url, SLEEP)
    for _ in range(4):
        async with channels.one() as channel:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await channel.run(b"sleep", [struct.pack("!d", 600.0)], 60.0)
    with pytest.raises(StoreUnavailable):
        await hang_up(channels, 1)
    end_all(database)


async def test_whether_sessions_that_were_hung_up_on_are_there_is_not_asked_all_the_time(
    database_url: str, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.hung_up._LOOK_AGAIN_SECONDS", 600.0)
    channels = Channels(database_url, SLEEP)
    await hang_up(channels, 4)
    with pytest.raises(StoreUnavailable):
        await hang_up(channels, 1)
    end_all(database)
    with pytest.raises(StoreUnavailable):
        await hang_up(channels, 1)


async def test_a_statement_that_waits_for_a_lock_is_refused_and_leaves_the_channel_usable(
    database_url: str, database: Connection
) -> None:
    channel = await Channel.open(database_url, {b"count": b"SELECT count(*) FROM stored_events"}, 5.0)
    with database.transaction():
        database.execute("LOCK TABLE stored_events")
        with pytest.raises(LockNotAvailable):
            await channel.run(b"count", [], 60.0)
    assert number_of(await channel.run(b"count", [], 60.0), 0, 0) == 0
    channel.close()


async def test_each_statement_has_its_own_time(database_url: str) -> None:
    channel = await Channel.open(database_url, SLEEP, 5.0)
    await channel.run(b"sleep", [struct.pack("!d", 0.0)], 0.2)
    await asyncio.sleep(0.1)
    await channel.run(b"sleep", [struct.pack("!d", 0.3)], 5.0)  # beyond the time of the one before
    assert not channel.closed
    with pytest.raises(Exception, match="did not answer"):
        await channel.run(b"sleep", [struct.pack("!d", 3.0)], 0.1)  # long before that of the one before
    assert channel.closed


async def test_text_is_unicode_whatever_the_environment_says(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    channel = await Channel.open(database_url, {b"length": b"SELECT length($1::text)"}, 5.0)
    assert number_of(await channel.run(b"length", ["Łódź".encode()], 5.0), 0, 0) == 4
    channel.close()


class Looks(selectors.DefaultSelector):
    """Counts the turns of the event loop in which it did not sleep."""

    awake = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.awake += timeout == 0.0
        return super().select(timeout)


@pytest.mark.parametrize(
    ("prompt_seconds", "several_cores", "stays_awake"),
    [
        pytest.param(5.0, True, True, id="prompt answers"),
        pytest.param(0.0, True, False, id="late answers"),
        pytest.param(5.0, False, False, id="one core"),
    ],
)
def test_the_loop_stays_awake_for_an_answer_after_a_prompt_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch, *, prompt_seconds: float, several_cores: bool, stays_awake: bool
) -> None:
    monkeypatch.setattr("infra.channels._PROMPT_SECONDS", prompt_seconds)
    monkeypatch.setattr("infra.channels._SEVERAL_CORES", several_cores)
    looks = Looks()

    async def awake_during(channel: Channel) -> int:
        told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        before = looks.awake
        channel.begin(b"sleep", [struct.pack("!d", 0.05)], 5.0, told.set_result)
        await told
        return looks.awake - before

    async def turns() -> list[int]:
        channel = await Channel.open(database_url, SLEEP, 5.0)
        found = [await awake_during(channel) for _ in range(2)]
        before = looks.awake
        await asyncio.sleep(0.05)
        assert looks.awake - before < 5, "it does not go to sleep once the answer is there"
        channel.close()
        return found

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(looks)) as runner:
        assert [count > 20 for count in runner.run(turns())] == [stays_awake] * 2
