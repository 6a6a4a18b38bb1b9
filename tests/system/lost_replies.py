"""Trials of every kind of command whose reply is lost: cut off behind the commit, in its midst, or before the request
is whole. It is sent again as docs/mobile tells an app to, and what it did is counted in the event log.

By hand: `.venv/bin/python -m tests.system.lost_replies --trials 10000` (`--seed` repeats a run).
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import psycopg
import uvicorn
from msgspec import Struct

from api.app import create_app
from api.front.front import Front
from api.main import services_of
from infra import migrations
from infra.bootstrap import now, open_parts
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.reading_pool import ProcessReader
from infra.settings import Settings
from tests.commands import RECIPES, Command, Stage, commands_of
from tests.instance_settings import settings_of
from tests.servers import running
from workers.ingest.ingest import Ingest
from workers.ingest.loop import IngestLoop

_TRIES: Final = 400  # of one command: each waits for a twentieth of a second
_TOLD_EVERY: Final = 500
_BUSY: Final = frozenset({409, 503})


class Fate(StrEnum):
    """What becomes of a request."""

    WHOLE = "whole"
    LOST = "lost"  # it is answered, and nothing of the answer arrives
    TORN = "torn"  # the answer breaks off at a byte
    EARLY = "early"  # the request breaks off at a byte
    IMPATIENT = "impatient"  # the client hangs up at once, and sends it again while the first is under way


class Report(Struct, kw_only=True):
    """What came of it. `faults` is empty when all is well."""

    trials: dict[str, int]
    fates: dict[str, int]
    replies_lost: int = 0  # those that said that it was done
    replayed: int = 0  # answers that were marked as such
    effects: int = 0  # events
    faults: list[str]


class Line:
    """A line to the server on which each connection has the fate that was told before it."""

    def __init__(self, server_url: str, dice: random.Random) -> None:
        address = urlsplit(server_url)
        self._server = address.hostname, address.port
        self._dice = dice
        self.url = ""
        self.fate = Fate.WHOLE
        self.unseen: list[httpx.Response] = []  # answers that did not arrive, or not whole
        self._under_way: set[asyncio.Task[None]] = set()

    async def quiet(self) -> None:
        """Until the server has answered all."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        fate, request = self.fate, await _message(reader)
        there_reader, there = await asyncio.open_connection(*self._server)
        try:
            if fate is Fate.EARLY:
                there.write(request[: self._dice.randrange(1, len(request))])
                await there.drain()
                await asyncio.sleep(self._dice.random() * 0.01)  # until it is there
                return
            there.write(request)
            if fate is Fate.IMPATIENT:
                writer.transport.abort()
            answer = await _message(there_reader)
            if fate is Fate.WHOLE:
                writer.write(answer)
            else:
                self.unseen.append(_parsed(answer))
            if fate is Fate.TORN:
                writer.write(answer[: self._dice.randrange(1, len(answer))])
            with suppress(ConnectionError):
                await writer.drain()
                if fate is Fate.TORN:
                    await asyncio.sleep(0.002)
        finally:
            writer.close() if fate is Fate.WHOLE else writer.transport.abort()
            there.transport.abort()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A request or an answer, whole."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0]) if lengths else 0)


def _parsed(answer: bytes) -> httpx.Response:
    head, _, body = answer.partition(b"\r\n\r\n")
    line, *headers = head.decode().split("\r\n")
    pairs = [(name, value) for name, _, value in (one.partition(": ") for one in headers)]
    return httpx.Response(int(line.split()[1]), headers=pairs, content=body)


class Trials:
    """One runner and one who is followed, at one server."""

    def __init__(self, app: Front, database_url: str, stage: Stage, line: Line, dice: random.Random) -> None:
        missing = set(commands_of(app)) - set(RECIPES)
        assert not missing, f"say in tests/commands.py what becomes of {missing}"
        self._log = psycopg.connect(database_url, autocommit=True)
        self._stage = stage
        self._line = line
        self._dice = dice
        self._phone = httpx.AsyncClient(
            base_url=line.url, timeout=60, limits=httpx.Limits(max_keepalive_connections=0), trust_env=False
        )
        self.report = Report(trials=dict.fromkeys(RECIPES, 0), fates=dict.fromkeys(Fate, 0), faults=[])

    async def run(self, trials: int) -> None:
        routes = list(RECIPES)
        for number in range(trials):
            route = routes[number % len(routes)]
            command = await RECIPES[route](self._stage)
            try:
                await self._trial(command)
            except AssertionError as failed:
                self.report.faults.append(f"{number} {route}: {failed}")
            self.report.trials[route] += 1
            if (number + 1) % _TOLD_EVERY == 0:
                sys.stderr.write(f"{number + 1} trials, {len(self.report.faults)} faults\n")
        await self._phone.aclose()
        self._log.close()

    async def _trial(self, command: Command) -> None:
        before, self._line.unseen = self._position(), []
        fates = self._dice.choices(list(Fate)[1:], k=self._dice.choice((1, 1, 1, 2, 3)))
        answer = await self._sent(command, fates)
        await self._line.quiet()
        self._compare(command, answer)
        if command.upload is not None:
            await self._settled(command.upload)
        await command.forgetful()
        found = self._effects(before)
        assert found == command.effects, f"{fates}: the log has {found}, not {command.effects}"
        self.report.effects += sum(found.values())

    async def _sent(self, command: Command, fates: list[Fate]) -> httpx.Response:
        """The answer, once one arrives that counts."""
        headers = {**self._stage.headers(signed_in=command.signed_in, key=command.key), **command.headers}
        todo = iter(fates)
        for _ in range(_TRIES):
            self._line.fate = next(todo, Fate.WHOLE)
            self.report.fates[self._line.fate] += 1
            with suppress(httpx.TransportError):
                answer = await self._phone.request(
                    command.method, f"/v1{command.path}", json=command.json, content=command.content, headers=headers
                )
                if answer.status_code not in _BUSY or answer.status_code in command.statuses:
                    return answer
                await asyncio.sleep(0.05)  # less than the server asks for
        raise AssertionError(f"no answer after {_TRIES} tries")

    def _compare(self, command: Command, answer: httpx.Response) -> None:
        assert answer.status_code in command.statuses, f"{answer.status_code} {answer.text}"
        told = command.told(answer)
        unseen = [one for one in self._line.unseen if one.status_code in command.statuses]
        self.report.replies_lost += len(unseen)
        replies = [answer, *unseen]
        self.report.replayed += sum(_is_replay(one) for one in replies)
        if not command.keyed:
            assert all(command.told(one) == told for one in unseen), "another answer than before"
            return
        assert len({_comparable(one) for one in replies}) == 1, f"several answers: {[one.text for one in replies]}"
        assert sum(not _is_replay(one) for one in replies) == 1, "not one of the answers is the first"

    async def _settled(self, activity_id: UUID) -> None:
        for _ in range(6_000):
            state = await self._stage.do("GET", f"/activities/{activity_id}/upload", 200)
            if state.json()["status"] != "processing":
                assert state.json()["status"] == "ready", state.text
                return
            await asyncio.sleep(0.02)
        raise AssertionError("it is processing for ever")

    def _position(self) -> int:
        row = self._log.execute("SELECT coalesce(max(notification_id), 0) FROM stored_events").fetchone()
        return int(row[0]) if row else 0

    def _effects(self, after: int) -> Mapping[str, int]:
        """Whatever was appended since, whosever it is: trials come one after the other."""
        topics = self._log.execute("SELECT topic FROM stored_events WHERE notification_id > %s", (after,))
        return dict(Counter(topic for (topic,) in topics))


def _is_replay(answer: httpx.Response) -> bool:
    return "idempotency-replayed" in answer.headers


def _comparable(answer: httpx.Response) -> tuple[object, ...]:
    left_out = {"date", "connection", "idempotency-replayed"}
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in left_out)
    return answer.status_code, answer.content, tuple(headers)


@contextmanager
def servers(folder: Path) -> Iterator[Settings]:
    """A Postgres and a Valkey, migrated."""
    with ExitStack() as stack:
        postgres = stack.enter_context(running(EmbeddedPostgres, folder / "postgres"))
        valkey = stack.enter_context(running(EmbeddedValkey, folder / "valkey"))
        migrations.upgrade(postgres.url)
        yield settings_of(folder, postgres.url, valkey.url, "objects")


@asynccontextmanager
async def served(app: Front) -> AsyncIterator[str]:
    """The API on a port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    await serving


@asynccontextmanager
async def line_to(server_url: str, dice: random.Random) -> AsyncIterator[Line]:
    line = Line(server_url, dice)
    async with await asyncio.start_server(line.serve, "127.0.0.1", 0, limit=1 << 20) as listening:
        line.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield line


async def _stage(http: httpx.AsyncClient, dice: random.Random) -> Stage:
    """Two runners who are there already."""
    signed = []
    for _ in range(2):
        body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse", "display_name": "Anna"}
        signed.append((body["email"], (await http.post("/v1/users", json=body)).json()))
    stage = Stage(http, signed[0][1], UUID(signed[1][1]["user_id"]), dice)
    stage.email = signed[0][0]
    return stage


async def trials(settings: Settings, count: int, seed: int) -> Report:
    """So many, one after the other, of all kinds in turn."""
    dice, reader = random.Random(seed), ProcessReader()
    async with open_parts(settings) as parts:
        ingest = Ingest(
            parts.inbox, parts.streams, reader, parts.tracks, parts.claims, parts.attempts, parts.sessions, clock=now
        )
        loop = asyncio.create_task(IngestLoop(ingest, parts.inbox, parts.queue, clock=now).run())
        app = create_app(services_of(parts, settings))
        async with served(app) as url, line_to(url, dice) as line, httpx.AsyncClient(base_url=url, timeout=60) as http:
            all_of_them = Trials(app, settings.database_url, await _stage(http, dice), line, dice)
            await all_of_them.run(count)
        loop.cancel()
        with suppress(asyncio.CancelledError):
            await loop
    reader.close()
    return all_of_them.report


def run(count: int, seed: int, folder: Path) -> Report:
    """The trials, at servers of their own."""
    with servers(folder) as settings:
        return asyncio.run(trials(settings, count, seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cairn-") as temporary:
        found = run(given.trials, given.seed, Path(temporary))
    print(f"seed {given.seed}, {time.monotonic() - began:.0f} s: {found}")  # noqa: T201
    sys.exit(bool(found.faults))
