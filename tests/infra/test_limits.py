"""The script in Valkey decides as the Python does; a Valkey that is away or slow costs little."""

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from api.admission.gcra import Claim, Rate, decide
from api.admission.limiter import Limiter
from infra.embedded.valkey import EmbeddedValkey
from infra.limits import ValkeyLimits
from tests.servers import running


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def shared(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> ValkeyLimits:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)  # others use this machine too
    return ValkeyLimits(redis)


def claims(*rates: Rate) -> list[Claim]:
    whose = uuid4().hex
    return [rate.claim(f"cairn:{{{whose}}}:{number}") for number, rate in enumerate(rates)]


async def test_the_script_decides_as_the_python_does_at_the_same_times(shared: ValkeyLimits) -> None:
    verdicts: Counter[bool] = Counter()
    for seed in range(20):
        dice = random.Random(seed)
        asked = claims(*[Rate("read", 1, 1)] * dice.randint(1, 3))
        arrivals = [0] * len(asked)
        for _ in range(60):
            if dice.random() < 0.1:
                await asyncio.sleep(dice.uniform(0, 0.05))
            depths = [dice.choice([20_000, 500_000, 20_000_000]) for _ in asked]  # quotas change now and then
            asked = [(key, dice.randint(1_000, depth), depth) for (key, _, _), depth in zip(asked, depths, strict=True)]
            found = await shared.take(asked)
            assert found is not None
            wait, now, *told = found
            expected = decide(arrivals, now, asked)
            assert (wait, told) == (expected.wait, list(expected.arrivals))
            if wait == 0:
                arrivals = told
            verdicts[wait == 0] += 1
    assert min(verdicts[True], verdicts[False]) > 50


@pytest.mark.parametrize("processes", [1, 3])
async def test_of_who_asks_often_valkey_is_told_now_and_then_and_little_more_comes_in(
    shared: ValkeyLimits, redis: Redis, processes: int
) -> None:
    quota, asked = 80, claims(Rate("read", 80, 36_000), Rate("read-all-devices", 320, 36_000))
    limiters = [Limiter(shared) for _ in range(processes)]
    before = await _scripts(redis)
    answers = [await limiters[number % processes].take(asked) for number in range(200)]
    let_in = sum(answer.wait == 0 for answer in answers)
    assert quota <= let_in <= quota + (processes - 1) * quota // 8
    assert (let_in == quota) or processes > 1
    assert await _scripts(redis) - before <= 1 + processes + let_in // (quota // 8)
    assert (await Limiter(shared).take(asked)).wait > 0  # of whom it was let in, Valkey knows


async def test_what_was_let_in_on_trust_is_told_with_the_next_and_counts_from_when_it_was(shared: ValkeyLimits) -> None:
    asked, times = claims(Rate("read", 80, 80)), iter([0.0, 0.0, 0.1, 0.1, 5.0, 5.0])
    limiter = Limiter(shared, lambda: next(times))
    for _ in range(2):
        await limiter.take(asked)
    await limiter.take(asked)  # at 5 s of its clock
    known = await shared.take(asked)
    assert known is not None
    _, now, arrival = known
    assert arrival - now <= 3 * 1_000_000  # not four: the one on trust has passed in between


class Noting(ValkeyLimits):
    """Notes what it was told of requests before."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.told: list[tuple[int, int]] = []

    async def take(self, claims: Sequence[Claim], owed: int = 0, since: int = 0) -> Sequence[int] | None:
        self.told.append((owed, since))
        return await super().take(claims, owed, since)


async def test_what_valkey_could_not_be_told_is_told_with_the_next(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_page: object) -> list[object]:
        raise ConnectionResetError

    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)
    now, shared, asked = 0.0, Noting(redis), claims(Rate("read", 80, 80))
    limiter = Limiter(shared, lambda: now)
    for _ in range(2):
        await limiter.take(asked)  # the second on trust
    now = 1.0
    with monkeypatch.context() as patch:
        patch.setattr(shared, "_execute", away)
        await limiter.take(asked)
    now = 3.0
    await limiter.take(asked)
    assert shared.told == [(0, 0), (1, 1_000_000), (2, 3_000_000)]


async def test_who_was_seen_first_is_trusted_no_more_when_there_are_too_many(
    shared: ValkeyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.admission.limiter._ROOM", 2)
    limiter, everybody = Limiter(shared), [claims(Rate("read", 80, 80)) for _ in range(3)]
    for asked in everybody:
        await limiter.take(asked)
    assert [limiter.on_trust(asked) is not None for asked in everybody] == [False, True, True]


async def test_nobody_is_trusted_while_valkey_does_not_answer(shared: ValkeyLimits) -> None:
    limiter, asked = Limiter(shared), claims(Rate("read", 80, 80))
    await limiter.take(asked)
    assert limiter.on_trust(asked) is not None
    shared.doubt()
    assert limiter.on_trust(asked) is None
    shared.close()


async def test_who_waits_for_a_turn_waits_no_longer_in_all(
    shared: ValkeyLimits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.limits.time", SimpleNamespace(monotonic=iter([100.0, 110.0]).__next__))
    left, within = list[float](), shared._within

    async def noted(seconds: float, work: Any) -> Any:
        left.append(seconds)
        return await within(seconds, work)

    monkeypatch.setattr(shared, "_within", noted)
    assert await shared.take(claims(Rate("read", 80, 80))) is not None
    assert left == [20.0]  # of 30


async def test_a_key_that_cannot_be_counted_fails_no_others(shared: ValkeyLimits, redis: Redis) -> None:
    odd, others = claims(Rate("read", 80, 80)), claims(Rate("read", 80, 80))
    await redis.set(odd[0][0], "no number")
    answers = await asyncio.gather(shared.take(odd), shared.take(others))
    assert [answer is None for answer in answers] == [True, False]


async def test_what_is_closed_looks_for_valkey_no_more(shared: ValkeyLimits) -> None:
    shared.doubt()
    probing = shared._probing
    assert probing is not None
    await asyncio.sleep(0)  # it has begun
    shared.close()
    await asyncio.wait((probing,), timeout=30)
    assert probing.cancelled()


async def test_what_was_let_in_long_ago_has_passed_when_it_is_told(shared: ValkeyLimits) -> None:
    known = await shared.take(claims(Rate("read", 80, 80)), owed=3, since=5_000_000)
    assert known is not None
    wait, now, arrival = known
    assert (wait, arrival - now) == (0, 1_000_000)  # of this one alone


async def test_failures_count_in_a_row_only(shared: ValkeyLimits, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_page: object) -> list[object]:
        raise ConnectionResetError

    asked = claims(Rate("read", 10, 3600))
    for fails in (True, True, False, True):
        with monkeypatch.context() as patch:
            if fails:
                patch.setattr(shared, "_execute", away)
            assert (await shared.take(asked) is None) is fails
    assert shared.answers


async def _scripts(redis: Redis) -> int:
    told = await redis.info("commandstats")
    return int(told.get("cmdstat_evalsha", {}).get("calls", 0))


async def test_what_comes_at_the_same_time_is_counted_one_by_one(shared: ValkeyLimits) -> None:
    asked = claims(Rate("read", 10, 3600))
    answers = await asyncio.gather(*(shared.take(asked) for _ in range(50)))
    assert sum(answer is not None and answer[0] == 0 for answer in answers) == 10


async def test_who_hangs_up_leaves_the_others_that_ask_with_them_their_answers(shared: ValkeyLimits) -> None:
    asked = claims(Rate("read", 10, 3600))
    gone, other = (asyncio.create_task(shared.take(asked)) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await asyncio.wait_for(other, 30) is not None


async def test_a_valkey_that_was_emptied_or_started_anew_goes_on(shared: ValkeyLimits, redis: Redis) -> None:
    asked = claims(Rate("read", 1, 3600))
    assert (await shared.take(asked) or [1])[0] == 0
    await redis.script_flush()
    assert (await shared.take(asked) or [0])[0] > 0
    await redis.delete(asked[0][0])
    assert (await shared.take(asked) or [1])[0] == 0


async def test_keys_go_when_the_burst_is_free_again(shared: ValkeyLimits, redis: Redis) -> None:
    asked = claims(Rate("read", 10, 3600))
    await shared.take(asked)
    assert 359_000 < await redis.pttl(asked[0][0]) <= 360_000


async def test_without_valkey_each_process_limits_by_itself_and_does_not_wait() -> None:
    async with await asyncio.start_server(_silent, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        async with Redis(port=port, protocol=2, retry=Retry(NoBackoff(), 0)) as away:
            shared = ValkeyLimits(away)
            limiter, asked = Limiter(shared), claims(Rate("read", 10, 3600))
            answers = [await limiter.take(asked) for _ in range(3)]
            assert limiter.alone
            before = time.process_time()
            answers += [await limiter.take(asked) for _ in range(1_000)]
            assert time.process_time() - before < 5  # of nothing but arithmetic
            assert sum(answer.wait == 0 for answer in answers) == 10
            shared.close()


async def test_a_connection_that_does_not_end_when_it_should_keeps_nobody_waiting() -> None:
    over = asyncio.Event()

    class Stubborn(Connection):
        async def connect(self) -> None:
            while not over.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await over.wait()
            raise ConnectionRefusedError

    async with Redis(connection_pool=ConnectionPool(connection_class=Stubborn)) as away:
        shared, asked = ValkeyLimits(away), claims(Rate("read", 10, 3600))
        try:
            async with asyncio.timeout(30):
                for _ in range(3):
                    assert await asyncio.gather(*(shared.take(asked) for _ in range(3))) == [None] * 3
            assert not shared.answers
        finally:
            over.set()
            shared.close()
            await asyncio.sleep(0.01)  # for the connections to end


async def test_who_waits_when_valkey_is_doubted_waits_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 3_600.0)
    with running(EmbeddedValkey, tmp_path) as server:
        async with Redis.from_url(server.url, protocol=2, retry=Retry(NoBackoff(), 1)) as redis:
            shared, asked = ValkeyLimits(redis), claims(Rate("read", 10, 3600))
            assert await shared.take(asked) is not None
            pid = int((await redis.info("server"))["process_id"])
            os.kill(pid, signal.SIGSTOP)
            try:
                async with asyncio.timeout(30):
                    first = asyncio.create_task(shared.take(asked))
                    await asyncio.sleep(0.05)  # it is under way; the next waits for its turn
                    waiting = asyncio.gather(first, shared.take(asked))
                    await asyncio.sleep(0)
                    shared.doubt()
                    assert list(await waiting) == [None, None]
            finally:
                os.kill(pid, signal.SIGCONT)
                shared.close()


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that is there, and never says a word."""
    await reader.read()
    writer.close()


async def test_when_valkey_answers_again_it_is_asked_again(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 0.01)
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", -1.0)
    limiter, asked = Limiter(shared := ValkeyLimits(redis)), claims(Rate("read", 10, 3600))
    for _ in range(3):
        await limiter.take(asked)
    assert limiter.alone
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 30.0)
    while not shared.answers:
        await asyncio.sleep(0.01)
    assert (await shared.take(asked) or [1])[0] == 0


async def test_a_valkey_that_may_not_write_is_none_until_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 0.01)
    with running(EmbeddedValkey, tmp_path) as server:
        async with Redis.from_url(server.url, protocol=2) as redis:
            limiter, asked = Limiter(shared := ValkeyLimits(redis)), claims(Rate("read", 10, 3600))
            await redis.config_set("maxmemory", 1)
            for _ in range(3):
                await limiter.take(asked)
            await asyncio.sleep(0.2)
            assert limiter.alone
            assert "maxmemory" in caplog.text
            monkeypatch.setattr("infra.limits._PROBE_SECONDS", 30.0)
            await redis.config_set("maxmemory", 0)
            while not shared.answers:
                await asyncio.sleep(0.01)
            assert (await shared.take(asked) or [1])[0] == 0


async def test_in_doubt_nobody_waits_until_a_probe_is_answered(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 30.0)
    shared, asked = ValkeyLimits(redis), claims(Rate("read", 10, 3600))
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)
    shared.doubt()
    shared.doubt()  # once is enough
    assert await shared.take(asked) is None
    shared.close()
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 0.01)
    shared = ValkeyLimits(redis)
    shared.doubt()
    await asyncio.sleep(0)  # it has begun
    monkeypatch.setattr("infra.limits._PROBE_SECONDS", 30.0)  # for a new connection
    while not shared.answers:
        await asyncio.sleep(0.01)
    assert await shared.take(asked) is not None


async def test_what_valkey_said_is_known_when_it_goes_away(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", 30.0)
    limiter, asked = Limiter(shared := ValkeyLimits(redis)), claims(Rate("read", 10, 3600))
    for _ in range(4):
        await limiter.take(asked)
    monkeypatch.setattr("infra.limits._DEADLINE_SECONDS", -1.0)
    answers = [await limiter.take(asked) for _ in range(10)]
    assert sum(answer.wait == 0 for answer in answers) == 6
    shared.close()
