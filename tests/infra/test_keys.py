from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
from cryptography.exceptions import InvalidTag
from psycopg import AsyncConnection, Connection

from domain.streams import OwnerErased
from infra.keys import KeyUnusable, MasterKeys, PageKeys, UserCipher, UserKeys, Wrapped
from infra.views import ReadModels
from tests.infra.event_store.conftest import MASTER, Store, opened
from tests.scenarios import ANNA, BEN, CARA

__all__ = ["opened"]


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_sealed_opens_only_with_the_same_key_and_place() -> None:
    cipher = UserCipher(b"k" * 32)
    sealed = cipher.seal(b"text", b"place")
    assert cipher.open(sealed, b"place") == b"text"
    assert cipher.seal(b"text", b"place") != sealed  # a nonce of its own each time
    for other, place, given in (
        (UserCipher(b"l" * 32), b"place", sealed),
        (cipher, b"another place", sealed),
        (cipher, b"place", sealed[:-1]),
        (cipher, b"place", sealed[:5]),
        (cipher, b"place", b""),
    ):
        with pytest.raises(InvalidTag):
            other.open(given, place)


def test_a_wrapped_key_is_of_one_owner_and_one_master() -> None:
    first, second = MasterKeys([b"1" * 32]), MasterKeys([b"2" * 32])
    stored = first.wrap(ANNA, b"k" * 32)
    assert first.unwrap(ANNA, stored) == b"k" * 32
    assert MasterKeys([b"2" * 32, b"1" * 32]).unwrap(ANNA, stored) == b"k" * 32
    with pytest.raises(KeyUnusable, match=f"user {BEN} was changed"):
        first.unwrap(BEN, stored)
    with pytest.raises(KeyUnusable, match=f"{stored.master_id}, which is not among those given"):
        second.unwrap(ANNA, stored)
    assert first.unwrap(ANNA, Wrapped(stored.master_id, None)) is None


async def test_an_owner_has_one_key_however_many_ask_first(opened: Store, database_url: str) -> None:
    others = [ReadModels(database_url, connections=1) for _ in range(3)]
    ciphers = []
    for read_models in others:
        await read_models.open()
        ciphers.append(await UserKeys(read_models, MASTER).to_seal(ANNA))
    sealed = (await opened.keys.to_seal(ANNA)).seal(b"text", b"")
    assert {cipher.open(sealed, b"") for cipher in ciphers} == {b"text"}
    for read_models in others:
        await read_models.close()


async def test_a_destroyed_key_stays_destroyed(opened: Store, database: Connection) -> None:
    await opened.keys.to_seal(ANNA)
    await opened.keys.destroy(ANNA)
    await opened.keys.destroy(ANNA)
    await opened.keys.destroy(BEN)  # who never had one
    for owner in (ANNA, BEN):
        assert await opened.keys.to_open(owner) is None
        with pytest.raises(OwnerErased):
            await opened.keys.to_seal(owner)
    assert database.execute("SELECT count(*), count(wrapped) FROM user_keys").fetchone() == (2, 0)
    when = "SELECT array_agg(destroyed_at ORDER BY destroyed_at) FROM user_keys"
    before = database.execute(when).fetchone()
    await opened.keys.destroy(ANNA)
    assert database.execute(when).fetchone() == before


async def test_a_key_that_is_asked_for_while_it_is_destroyed_is_not_held_afterwards(
    opened: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = opened.keys._database.connection

    @asynccontextmanager
    async def asked_for_before() -> AsyncIterator[AsyncConnection]:
        monkeypatch.undo()
        await opened.keys.to_seal(ANNA)
        async with connection() as one:
            yield one

    await opened.keys.to_seal(ANNA)
    monkeypatch.setattr(opened.keys._database, "connection", asked_for_before)
    await opened.keys.destroy(ANNA)
    assert await opened.keys.to_open(ANNA) is None


async def test_a_key_that_is_held_is_forgotten_after_five_minutes(database_url: str, opened: Store) -> None:
    """Another process destroyed it, and this one was not told."""
    clock, read_models = Clock(), ReadModels(database_url, connections=1)
    await read_models.open()
    held = UserKeys(read_models, MASTER, clock)
    await held.to_seal(ANNA)
    await opened.keys.destroy(ANNA)
    clock.now += 299
    assert await held.to_open(ANNA) is not None
    clock.now += 2
    assert await held.to_open(ANNA) is None
    await read_models.close()


async def test_a_page_asks_once_for_all_its_owners(opened: Store, database: Connection) -> None:
    clock = Clock()
    await opened.keys.to_seal(ANNA)
    await opened.keys.destroy(BEN)
    keys = PageKeys(database, MASTER, clock)
    found = keys.of([ANNA, BEN, CARA])
    assert isinstance(found[ANNA], UserCipher)
    assert found[BEN] is None
    assert isinstance(found[CARA], KeyUnusable)  # missing is not destroyed
    await opened.keys.destroy(ANNA)
    assert keys.of([ANNA])[ANNA] is found[ANNA]
    clock.now += 301
    assert keys.of([ANNA])[ANNA] is None


async def test_a_page_asks_when_it_meets_an_owner_who_is_not_known(opened: Store, database: Connection) -> None:
    """For all owners at once, and no second time for those whose key cannot be used."""
    clock, asked = Clock(), list[str]()
    await opened.keys.to_seal(ANNA)
    await opened.keys.destroy(BEN)
    keys = PageKeys(database, MASTER, clock)

    def page() -> Mapping[bytes, UserCipher | None]:
        def owners() -> Sequence[bytes]:
            asked.append("")
            return [ANNA.bytes, BEN.bytes, CARA.bytes]

        return keys.of_page(owners)

    first = page()
    assert asked == []
    assert isinstance(first[ANNA.bytes], UserCipher)
    assert first[BEN.bytes] is None
    for _ in range(2):
        with pytest.raises(KeyError):
            first[CARA.bytes]
    assert len(asked) == 1
    await opened.keys.to_seal(CARA)
    await opened.keys.destroy(ANNA)
    assert page()[ANNA.bytes] is first[ANNA.bytes]
    assert isinstance(page()[CARA.bytes], UserCipher)
    assert len(asked) == 2
    clock.now += 301
    assert page()[ANNA.bytes] is None


async def test_no_more_keys_are_held_than_may_be(
    opened: Store, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.keys._CACHED", 2)
    keys = PageKeys(database, MASTER)
    for owner in (ANNA, BEN, CARA):
        await opened.keys.to_seal(owner)
        keys.of([owner])
    assert list(opened.keys._cache._held) == [BEN.int, CARA.int]
    assert list(keys._known) == [CARA.bytes]


async def test_a_missing_key_is_not_taken_for_a_destroyed_one(opened: Store) -> None:
    with pytest.raises(KeyUnusable, match="put the table user_keys back from a backup"):
        await opened.keys.to_open(uuid4())


def test_parts_that_are_sealed_together_open_one_by_one_each_in_its_place() -> None:
    cipher = UserCipher(b"k" * 32)
    stem, sealed = cipher.seal_parts([(b"same", b"place"), (b"same", b"place")])
    assert sealed[0] != sealed[1]  # a nonce for each
    assert [cipher.open_part(stem, at, part, b"place") for at, part in enumerate(sealed)] == [b"same"] * 2
    for number, part, place in ((1, sealed[0], b"place"), (0, sealed[0], b"other"), (0, sealed[0][:-1], b"place")):
        with pytest.raises(InvalidTag):
            cipher.open_part(stem, number, part, place)
    assert cipher.seal_parts([(b"same", b"place")])[0] != stem
