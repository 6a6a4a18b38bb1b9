"""A storm over the log: many writers, several followers, everything killed at random; then nothing may be missing.

By hand, for ten minutes: `.venv/bin/python -m tests.infra.event_store.storm --seconds 600` (`--seed` repeats a run).
"""

import argparse
import asyncio
import contextlib
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from uuid import UUID, uuid4, uuid5

import psycopg
from msgspec import Struct
from psycopg import Connection

from domain.errors import StoreUnavailable
from domain.events.follow import FollowStarted
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.mapper import MAPPER
from infra.event_store.postgres import PostgresLog
from infra.event_store.reader import LogReader
from infra.event_store.rows import Save, VersionTaken
from infra.keys import MasterKeys
from tests.servers import await_ready, kill_and_start, kill_backend, start, stop

POSITION = struct.Struct("!q")
NAMESPACE = UUID("5107a000-0000-4000-8000-000000000000")
HOT_STREAMS = 40  # that all writers fight for
OWNER = UUID("a0000000-0000-4000-8000-000000000001")


class Report(Struct, frozen=True, kw_only=True):
    """What came of it. `faults` is empty when all is well."""

    events: int
    acked: int
    refused: int
    followers: int
    kills: dict[str, int]
    faults: list[str]


def event(save: UUID, number: int, of: int) -> tuple[str, bytes]:
    """An event that tells which save it is of, and which of how many."""
    numbers = UUID(int=number << 8 | of)
    return "follow.started@1", (
        f'{{"at":"2026-05-01T08:00:00Z","follower_id":"{numbers}","followee_id":"{save}"}}'.encode()
    )


async def write(url: str, seed: int, told: Path) -> None:
    """Saves of one to four events on hot and on new streams, 24 at a time; what was answered goes to a file."""
    dice, log = random.Random(seed), PostgresLog(url)
    with told.open("a", buffering=1) as answers:
        await asyncio.gather(*(_write_one_by_one(log, random.Random(dice.random()), answers) for _ in range(24)))


async def _write_one_by_one(log: PostgresLog, dice: random.Random, answers: object) -> None:
    while True:
        hot = dice.random() < 0.5
        stream = uuid5(NAMESPACE, str(dice.randrange(HOT_STREAMS))) if hot else uuid4()
        save, of = uuid4(), dice.randint(1, 4)
        try:
            version = len(await log.load(stream)) if hot else 0
            await asyncio.sleep(dice.random() * 0.01)
            await log.append(Save(stream, OWNER, version + 1, tuple(event(save, n, of) for n in range(of))))
        except VersionTaken:
            print("refused", save, file=answers)  # type: ignore[call-overload]
        except StoreUnavailable:
            await asyncio.sleep(0.1)
        else:
            print("acked", save, file=answers)  # type: ignore[call-overload]


def write_slowly(url: str, seed: int) -> None:
    """Transactions that commit late, so that positions commit out of order, and some that never do."""
    dice = random.Random(seed)
    while True:
        with contextlib.suppress(psycopg.Error, ZeroDivisionError), psycopg.connect(url, autocommit=True) as connection:
            while True:
                with connection.transaction():
                    save, of = uuid4(), dice.randint(1, 4)
                    for number in range(of):
                        row = (save, number + 1, *event(save, number, of), OWNER)
                        connection.execute(_INSERT, row)
                    time.sleep(dice.random() * 0.02 if dice.random() < 0.3 else 0)
                    if dice.random() < 0.05:
                        raise ZeroDivisionError
        time.sleep(0.05)


def follow(url: str, seen: Path) -> None:
    """Note every position as it comes; killed, go on after the last one that was noted whole."""
    with seen.open("ab") as file:
        file.truncate(file.tell() // POSITION.size * POSITION.size)
        position = positions(seen)[-1] if file.tell() else 0
        while True:
            with contextlib.suppress(psycopg.Error, StoreUnavailable), psycopg.connect(url, autocommit=True) as opened:
                reader = LogReader(opened, MasterKeys([b"m" * 32]))
                while True:
                    events, position = reader.page(position, 500)
                    file.write(b"".join(POSITION.pack(recorded.position) for recorded in events))
                    file.flush()
                    time.sleep(0 if events else 0.002)
            time.sleep(0.05)


def positions(seen: Path) -> list[int]:
    data = seen.read_bytes()
    return [number for (number,) in POSITION.iter_unpack(data[: len(data) // POSITION.size * POSITION.size])]


_INSERT = """
    INSERT INTO stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    VALUES (%s, %s, %s, %s, %s, 1)
"""


class Storm:
    """The processes of one run, in one folder."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.dice = random.Random(seed)
        self.server = EmbeddedPostgres(folder / "server")
        self.postgres = start(self.server)
        migrations.upgrade(self.server.url)
        self.roles = [
            *(("write", f"answers-{number}") for number in range(3)),
            *(("write_slowly", "") for _ in range(3)),
            *(("follow", f"seen-{number}") for number in range(3)),
        ]
        for _, file in self.roles[-3:]:
            (folder / file).touch()  # in a short storm a follower may be killed before it makes it
        self.processes = [self.begin(number) for number in range(len(self.roles))]
        self.kills = {"writer": 0, "follower": 0, "backend": 0, "postmaster": 0}

    def begin(self, number: int) -> subprocess.Popen[bytes]:
        role, file = self.roles[number]
        argv = [sys.executable, "-m", "tests.infra.event_store.storm", "--role", role, "--url", self.server.url]
        argv += ["--seed", str(self.dice.randrange(2**32)), "--file", str(self.folder / file)]
        return subprocess.Popen(argv, stderr=subprocess.DEVNULL)

    def rage(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.dice.uniform(0.3, 1.5))
            chance = self.dice.random()
            if chance < 0.7:
                self.kill_process()
            elif chance < 0.92:
                self.kill_backend()
            else:
                self.kill_postmaster()

    def kill_process(self) -> None:
        number = self.dice.randrange(len(self.roles))
        self.processes[number].kill()
        self.processes[number].wait()
        self.kills["follower" if self.roles[number][0] == "follow" else "writer"] += 1
        self.processes[number] = self.begin(number)

    def kill_backend(self) -> None:
        self.kills["backend"] += kill_backend(self.server.url, self.dice)

    def kill_postmaster(self) -> None:
        self.postgres = kill_and_start(self.server, self.postgres)
        self.kills["postmaster"] += 1

    def end_writers(self) -> None:
        for process, (role, _) in zip(self.processes, self.roles, strict=True):
            if role != "follow":
                process.kill()
                process.wait()

    def await_followers(self, last: int) -> None:
        until = time.monotonic() + 20
        for _, file in self.roles[-3:]:
            while (positions(self.folder / file) or [0])[-1] < last and time.monotonic() < until:
                time.sleep(0.05)

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        stop(self.server, self.postgres)

    def told(self) -> tuple[set[UUID], set[UUID]]:
        acked, refused = set[UUID](), set[UUID]()
        for path in self.folder.glob("answers-*"):
            for line in path.read_text().splitlines():
                kind, _, save = line.partition(" ")
                if len(save) == 36:  # a writer that was killed may have left half a line
                    (acked if kind == "acked" else refused).add(UUID(save))
        return acked, refused


def run(seconds: float, seed: int, folder: Path) -> Report:
    """The storm, and then the count of what it left."""
    storm = Storm(folder, seed)
    try:
        storm.rage(seconds)
        storm.end_writers()
        time.sleep(0.5)  # for transactions that the server still carries out
        await_ready(storm.server, storm.postgres)  # the last thing killed may have been a backend
        with psycopg.connect(storm.server.url, autocommit=True) as connection:
            last = connection.execute("SELECT coalesce(max(notification_id), 0) FROM stored_events").fetchone()
            assert last is not None
            storm.await_followers(last[0])
            acked, refused = storm.told()
            faults = [*_faults_of_saves(connection, acked, refused), *_faults_of_followers(connection, storm)]
            count = connection.execute("SELECT count(*) FROM stored_events").fetchone()
        return Report(
            events=count[0] if count else 0,
            acked=len(acked),
            refused=len(refused),
            followers=3,
            kills=storm.kills,
            faults=faults,
        )
    finally:
        storm.close()


def _faults_of_saves(connection: Connection, acked: set[UUID], refused: set[UUID]) -> Iterator[str]:
    stored = connection.execute(
        "SELECT originator_id, originator_version, topic, state FROM stored_events ORDER BY 1, 2"
    ).fetchall()
    versions: dict[UUID, list[int]] = {}
    saves: dict[UUID, list[tuple[UUID, int, int]]] = {}
    for stream, version, topic, state in stored:
        event = MAPPER.decode(topic, state)
        assert isinstance(event, FollowStarted)
        versions.setdefault(stream, []).append(version)
        saves.setdefault(event.followee_id, []).append((stream, version, event.follower_id.int))
    for stream, found in versions.items():
        if found != list(range(1, len(found) + 1)):
            yield f"stream {stream} has versions {found}"
    for save, rows in saves.items():
        of = rows[0][2] & 0xFF
        if [numbers >> 8 for _, _, numbers in rows] != list(range(of)) or len({stream for stream, *_ in rows}) != 1:
            yield f"save {save} is not whole: {rows}"
        if any(later - earlier != 1 for (_, earlier, _), (_, later, _) in pairwise(rows)):
            yield f"save {save} is torn: {rows}"
    yield from (f"save {save} was acked and is lost" for save in acked - saves.keys())
    yield from (f"save {save} was refused and is there" for save in refused & saves.keys())


def _faults_of_followers(connection: Connection, storm: Storm) -> Iterator[str]:
    for (reason,) in connection.execute("SELECT reason FROM parked_streams"):
        yield f"parked: {reason}"
    stored = [position for (position,) in connection.execute("SELECT notification_id FROM stored_events ORDER BY 1")]
    for _, file in storm.roles[-3:]:
        seen = positions(storm.folder / file)
        skipped, doubled = sorted(set(stored) - set(seen)), len(seen) - len(set(seen))
        if skipped:
            yield f"{file} skipped {len(skipped)} events: {skipped[:10]}"
        if doubled:
            yield f"{file} saw {doubled} events twice"
        if seen != sorted(seen):
            yield f"{file} saw them out of order"
        if set(seen) - set(stored):
            yield f"{file} saw events that are not there"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--role", choices=["write", "write_slowly", "follow"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    match given.role:
        case "write":
            asyncio.run(write(given.url, given.seed, given.file))
        case "write_slowly":
            write_slowly(given.url, given.seed)
        case "follow":
            follow(given.url, given.file)
        case _:
            with tempfile.TemporaryDirectory() as folder:
                report = run(given.seconds, given.seed, Path(folder))
            print(f"seed {given.seed}: {report}")  # noqa: T201
            sys.exit(bool(report.faults))


if __name__ == "__main__":
    main()
