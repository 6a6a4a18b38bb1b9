"""The master key is replaced while others read and write, and nothing is lost when it is cut off."""

import asyncio
import base64
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import click.testing
import psycopg
import pytest
from psycopg import Connection

from domain.accounts import SignInRefused
from domain.measures import UserId
from domain.user import User, user_stream_id
from infra.accounts import PostgresAccounts
from infra.event_store.postgres import PostgresLog
from infra.event_store.reader import LogReader
from infra.event_store.streams import EventStore
from infra.faults import Fault
from infra.instance import Instance, announce, hold
from infra.keys import KeyUnusable, MasterKeys, UserKeys, Wrapped
from infra.rotation import Rotation
from infra.secrets import load_secrets, make_secrets
from infra.vault import Vault, WrongMasterKey
from infra.views import ReadModels
from tests.scenarios import ANNA, BEN, CARA, MAY_1
from tests.stores import marked
from workers.cli.keys import keys_command

OLD, NEW = b"o" * 32, b"n" * 32


class Server:
    """What one process holds: accounts and streams under the master keys it was given."""

    def __init__(self, database_url: str, *keys: bytes) -> None:
        self.read_models = ReadModels(database_url, connections=2)
        self.keys = UserKeys(self.read_models, MasterKeys(keys))
        self.streams = EventStore(PostgresLog(database_url), self.keys)
        self.accounts = PostgresAccounts(self.read_models, self.streams, Vault(keys), b"t" * 32)

    async def __aenter__(self) -> "Server":
        await self.read_models.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.accounts.close()
        await self.streams.close()
        await self.read_models.close()

    async def register(self, user_id: UserId, name: str) -> None:
        await self.accounts.claim(f"{name}@example.com", "a long password", user_id)
        begin = partial(User.register, display_name=name, at=MAY_1)
        await self.streams.transact(User, user_stream_id(user_id), user_id, begin)

    async def knows(self, user_id: UserId, name: str) -> bool:
        found = await self.accounts.authenticate(f"{name}@example.com", "a long password")
        user = await self.streams.load(User, user_stream_id(user_id))
        email = await self.accounts.email(user_id)
        return (found, user.profile.display_name, email) == (user_id, name, f"{name}@example.com")


@pytest.fixture
async def old(database_url: str, database: Connection) -> AsyncIterator[Server]:
    Vault([OLD]).check(database)
    async with Server(database_url, OLD) as server:
        await server.register(ANNA, "anna")
        await server.register(BEN, "ben")
        yield server


def rotate(database: Connection, *keys: bytes) -> tuple[int, int]:
    return Rotation(database, MasterKeys(keys), Vault(keys), lambda _count: None).run()


async def test_two_addresses_that_were_different_once_stay_two(
    old: Server, database: Connection, database_url: str
) -> None:
    composed, apart = "ren\xe9", "rene\u0301"
    dora = UserId(uuid4())
    await old.register(CARA, apart)
    before = Vault([OLD]).email_hashes(f"{apart}@example.com")[0]
    database.execute("UPDATE credentials SET email_hash = %s WHERE user_id = %s", (before, CARA))
    await old.register(dora, composed)
    assert rotate(database, NEW, OLD) == (4, 4)
    async with Server(database_url, NEW) as server:
        assert await server.knows(CARA, apart)
        assert await server.knows(dora, composed)


async def test_afterwards_the_new_key_is_enough_and_the_old_one_is_refused(
    old: Server, database: Connection, database_url: str
) -> None:
    await old.keys.destroy(BEN)
    assert rotate(database, NEW, OLD) == (1, 2)
    async with Server(database_url, NEW) as server:
        assert await server.knows(ANNA, "anna")
        assert (await server.streams.load(User, user_stream_id(BEN))).profile.display_name == ""
    Vault([NEW]).check(database)
    with pytest.raises(WrongMasterKey):
        Vault([OLD]).check(database)
    async with Server(database_url, OLD) as server:
        with pytest.raises(KeyUnusable, match="not among those given"):
            await server.keys.to_open(ANNA)
        with pytest.raises(SignInRefused):
            await server.accounts.authenticate("anna@example.com", "a long password")
    with psycopg.connect(database_url, autocommit=True) as connection:
        events, _ = LogReader(connection, MasterKeys([NEW])).page(0, 10)
        assert len(events) == 2


@pytest.mark.usefixtures("old")
async def test_no_user_is_left_out_whatever_their_id(database: Connection, database_url: str) -> None:
    zero = UserId(UUID(int=0))
    async with Server(database_url, OLD) as server:
        await server.register(zero, "zero")
    assert rotate(database, NEW, OLD) == (3, 3)
    async with Server(database_url, NEW) as server:
        assert await server.knows(zero, "zero")


async def test_a_second_rotation_changes_nothing(old: Server, database: Connection) -> None:
    assert rotate(database, NEW, OLD) == (2, 2)
    assert rotate(database, NEW, OLD) == (0, 0)
    assert await old.accounts.email(CARA) is None


@pytest.mark.usefixtures("old")
async def test_processes_with_both_keys_read_and_write_before_during_and_after(
    database: Connection, database_url: str
) -> None:
    async with Server(database_url, NEW, OLD) as both:
        assert await both.knows(ANNA, "anna")
        await both.register(CARA, "cara")
        rotate(database, NEW, OLD)
        assert await both.knows(ANNA, "anna")
        assert await both.knows(CARA, "cara")
    async with Server(database_url, NEW) as server:
        assert await server.knows(CARA, "cara")


async def test_what_a_process_with_the_old_key_wrote_meanwhile_is_found_by_the_next_run(
    old: Server, database: Connection, database_url: str
) -> None:
    rotate(database, NEW, OLD)
    await old.register(CARA, "cara")
    assert rotate(database, NEW, OLD) == (1, 1)
    async with Server(database_url, NEW) as server:
        assert await server.knows(CARA, "cara")


async def test_what_a_process_with_the_old_key_wrote_before_the_proof_is_changed_too(
    old: Server, database: Connection
) -> None:
    """Also of a user whose turn is over."""
    first = UUID(int=0)
    await old.keys.to_seal(first)
    stored = database.execute("DELETE FROM user_keys WHERE owner_id = %s RETURNING *", (first,)).fetchone()

    def write(_count: int) -> None:
        database.execute("INSERT INTO user_keys VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING", stored)

    keys = [NEW, OLD]
    assert Rotation(database, MasterKeys(keys), Vault(keys), write).run() == (3, 2)
    assert database.execute("SELECT DISTINCT master_id FROM user_keys").fetchall() == [(MasterKeys(keys).current,)]


@pytest.mark.usefixtures("old")
async def test_a_key_that_is_destroyed_meanwhile_stays_destroyed(
    database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = MasterKeys([NEW, OLD])
    rewrap, destroy = master.rewrap, "UPDATE user_keys SET wrapped = NULL, destroyed_at = now() WHERE owner_id = %s"

    def rewrap_and_destroy(owner_id: UUID, stored: Wrapped) -> Wrapped:
        database.execute(destroy, (owner_id,))
        return rewrap(owner_id, stored)

    monkeypatch.setattr(master, "rewrap", rewrap_and_destroy)
    assert Rotation(database, master, Vault([NEW, OLD]), lambda _count: None).run() == (0, 2)
    assert database.execute("SELECT wrapped FROM user_keys").fetchall() == [(None,), (None,)]


@pytest.mark.usefixtures("old")
async def test_cut_off_it_is_run_again(database: Connection, database_url: str) -> None:
    calls = 0

    def cut_off(_count: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt

    keys = [NEW, OLD]
    with pytest.raises(KeyboardInterrupt):
        Rotation(database, MasterKeys(keys), Vault(keys), cut_off).run()
    Vault([OLD]).check(database)  # not proven yet: the old key is still the one that is asked for
    rotate(database, *keys)
    async with Server(database_url, NEW) as server:
        assert await server.knows(BEN, "ben")


async def test_a_key_that_does_not_open_stops_it_with_what_to_do(old: Server, database: Connection) -> None:
    database.execute("UPDATE user_keys SET wrapped = 'x' WHERE owner_id = %s", (ANNA,))
    with pytest.raises(Fault, match=f"user {ANNA} was changed: put it back from a backup"):
        rotate(database, NEW, OLD)
    await old.keys.destroy(ANNA)
    database.execute("UPDATE credentials SET email_sealed = 'x' WHERE user_id = %s", (BEN,))
    with pytest.raises(Fault, match=f"address of user {BEN} does not open"):
        rotate(database, NEW, OLD)


def run(data: Path) -> click.testing.Result:
    environ = {"CAIRN_DATA": str(data), "REDIS_URL": "redis://127.0.0.1:1", "OBJECT_STORE_URL": marked(data).as_uri()}
    return click.testing.CliRunner().invoke(keys_command, ["rotate"], env=environ)


async def test_the_command_twice_with_a_restart_in_between(tmp_path: Path, database_url: str) -> None:
    make_secrets(tmp_path)
    key = base64.b64decode(load_secrets(tmp_path)["CAIRN_MASTER_KEY"])
    async with Server(database_url, key) as server:
        await server.register(ANNA, "anna")
    instance = Instance(
        pid=1,
        api_url="http://127.0.0.1:1",
        database_url=f"postgresql://?{database_url.replace(' ', '&')}",
        redis_url="redis://127.0.0.1:1",
        object_store_url=(tmp_path / "objects").as_uri(),
    )
    with hold(tmp_path):
        announce(tmp_path, instance)
        first = await asyncio.to_thread(run, tmp_path)
        assert first.exit_code == 0, first.output
        assert "restart cairn up" in first.stdout
        both = load_secrets(tmp_path)["CAIRN_MASTER_KEY"].split(",")
        assert (len(both), base64.b64decode(both[1])) == (2, key)
        too_early = await asyncio.to_thread(run, tmp_path)
        assert isinstance(too_early.exception, Fault)
        assert "restart it" in str(too_early.exception)
        await asyncio.sleep(0.01)
        announce(tmp_path, instance)
        second = await asyncio.to_thread(run, tmp_path)
        assert second.exit_code == 0, second.output
        assert "1 users' keys, 1 addresses and 0 uploads" in second.stdout
    assert load_secrets(tmp_path)["CAIRN_MASTER_KEY"] == both[0]
    async with Server(database_url, base64.b64decode(both[0])) as server:
        assert await server.knows(ANNA, "anna")


def test_a_single_key_from_the_environment_is_told_how_to_become_two(tmp_path: Path) -> None:
    key = base64.b64encode(OLD).decode()
    environ = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "REDIS_URL": "redis://127.0.0.1:1",
        "OBJECT_STORE_URL": "file:///tmp",
        "CAIRN_MASTER_KEY": key,
        "CAIRN_TOKEN_KEYS": f"k:{key}",
        "CAIRN_CURSOR_KEY": key,
        "CAIRN_DATA": str(tmp_path),
    }
    result = click.testing.CliRunner().invoke(keys_command, ["rotate"], env=environ)
    assert isinstance(result.exception, Fault)
    assert "NEW,OLD" in str(result.exception)
    both = {**environ, "CAIRN_MASTER_KEY": f"{base64.b64encode(NEW).decode()}, {key}"}
    away = click.testing.CliRunner().invoke(keys_command, ["rotate"], env=both)
    assert "Postgres does not answer as it should" in str(away.exception)


def test_without_secrets_it_is_said_where_they_come_from(tmp_path: Path) -> None:
    result = click.testing.CliRunner().invoke(keys_command, ["rotate", "--data", str(tmp_path)])
    assert "start ./cairn up there" in str(result.exception)
