"""Once a user's key is destroyed, nothing that was private is left in the clear, wherever one looks."""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from domain.activity import Activity
from domain.events.activity import ActivityRecorded
from domain.events.measured import Measured
from domain.events.packing import NOTHING, pack
from domain.events.user import ProfileChanged, UserRegistered
from domain.streams import Request
from domain.user import Profile, User, user_stream_id
from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.event_store.inspection import Inspection, Verification
from infra.event_store.postgres import PostgresLog
from infra.event_store.reader import LogReader
from infra.event_store.streams import EventStore
from infra.keys import MasterKeys, UserKeys
from infra.views import ReadModels
from tests.scenarios import ANNA, BEN, MAY_1, MAY_2, run
from tests.servers import running

CANARY = "Xanthippe-Quetzalcoatl"
ROUTE = "kkgqHkWtnAaFJbJlKbQ"
MEASURED = pack(Measured(points=3, polyline=ROUTE))
MASTER = MasterKeys([b"m" * 32])
REQUEST = Request(b"k" * 32, b"f" * 32)


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A server of its own: its files are searched."""
    with TemporaryDirectory(prefix="cairn-") as folder, running(EmbeddedPostgres, Path(folder)) as started:
        assert isinstance(started, EmbeddedPostgres)
        migrations.upgrade(started.url)
        yield started


async def live(store: EventStore) -> UUID:
    """Anna registers under her name with a reply that tells it, renames often enough for a snapshot, runs, edits."""
    begin = partial(User.register, display_name=CANARY, at=MAY_1)
    await store.transact_once(User, user_stream_id(ANNA), ANNA, begin, REQUEST, f"welcome {CANARY}".encode())
    for number in range(205):
        profile = Profile(display_name=f"{CANARY} {number}", time_zone="Europe/Berlin")
        change = partial(User.change_profile, profile=profile, at=MAY_1)
        await store.transact(User, user_stream_id(ANNA), ANNA, change)
    recorded = replace(run(ANNA), title=CANARY, measured=MEASURED)
    await store.transact(Activity, recorded.activity_id, ANNA, partial(Activity.record, recorded=recorded))
    edit = partial(Activity.edit, user_id=ANNA, at=MAY_2, title=f"{CANARY} again")
    await store.transact(Activity, recorded.activity_id, ANNA, edit)
    begin = partial(User.register, display_name="Ben", at=MAY_1)
    await store.transact(User, user_stream_id(BEN), BEN, begin)
    return recorded.activity_id


def tables(connection: Connection) -> str:
    """Everything that every table holds, as text and as the text of bytes."""
    names = connection.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'"
    ).fetchall()
    values = [
        value
        for (name,) in names
        for row in connection.execute(SQL("SELECT * FROM {}").format(Identifier(name)))
        for value in row
    ]
    return "\n".join(value.decode("latin-1") if isinstance(value, bytes) else str(value) for value in values)


def files(folder: Path, *texts: str) -> list[Path]:
    """The files that one of the texts is in, as in the text of bytes."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in found if any(text.encode("latin-1") in path.read_bytes() for text in texts)]


async def test_no_plaintext_is_left_and_the_log_still_folds(
    server: EmbeddedPostgres, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    read_models = ReadModels(server.url, connections=2)
    await read_models.open()
    keys = UserKeys(read_models, MASTER)
    store = EventStore(PostgresLog(server.url), keys)
    activity_id = await live(store)
    await store.close()
    with psycopg.connect(server.url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM stream_snapshots").fetchone() == (1,)
        before, position = LogReader(connection, MASTER).page(0, 1_000)
        told = [one.event for one in before if isinstance(one.event, UserRegistered | ProfileChanged)]
        assert [event.display_name.startswith(CANARY) for event in told].count(True) == 206  # it was there
        kept = await store.replied(REQUEST)
        assert kept is not None
        assert CANARY.encode() in kept.reply

        await keys.destroy(ANNA)
        connection.execute("CHECKPOINT")

        everything = tables(connection)
        assert "activity.recorded@2" in everything  # what is looked for in this way is found
        assert CANARY not in everything
        assert ROUTE not in everything
        assert MEASURED.decode("latin-1") not in everything
        assert files(server._home.cluster, "activity.recorded@2")  # tables, indexes, write-ahead log
        assert files(server._home.cluster, CANARY, ROUTE, MEASURED.decode("latin-1")) == []
        assert CANARY not in caplog.text
        assert CANARY not in "".join(capfd.readouterr())

        again = EventStore(PostgresLog(server.url), keys)
        assert await again.replied(REQUEST) is None
        activity = await again.load(Activity, activity_id)
        assert (activity.user_id, activity.title, activity.deleted) == (ANNA, "", False)
        user = await again.load(User, user_stream_id(ANNA))
        assert (user.registered, user.profile.display_name, user.profile.time_zone) == (True, "", None)
        after, same_position = LogReader(connection, MASTER).page(0, 1_000)
        assert same_position == position
        assert [(one.position, type(one.event)) for one in after] == [(one.position, type(one.event)) for one in before]
        runs = [one.event for one in after if isinstance(one.event, ActivityRecorded)]
        assert [(event.title, event.measured, event.tally.distance_m) for event in runs] == [("", NOTHING, 5_000.0)]
        assert (await again.load(User, user_stream_id(BEN))).profile.display_name == "Ben"

        verification = Verification(Inspection(connection, MASTER))
        assert [found for rows in LogReader(connection, MASTER).scan() for found in verification.check(rows)] == []
        await again.close()
    await read_models.close()
