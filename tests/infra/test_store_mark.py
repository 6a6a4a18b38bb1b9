"""An object store and its database know each other."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from psycopg import Connection
from redis.asyncio import Redis

from infra.object_store import FolderObjects
from infra.server_checks import ServerChecks
from infra.store_mark import StoreMissing, WrongStore, check_store
from infra.vault import Vault


def test_the_first_look_gives_both_an_id_and_later_ones_find_it(database: Connection, tmp_path: Path) -> None:
    store = tmp_path / "objects"
    check_store(database, FolderObjects(store))
    check_store(database, FolderObjects(store))
    (store / "cairn-store").rename(tmp_path / "mark")
    with pytest.raises(StoreMissing, match="is its disk mounted"):
        check_store(database, FolderObjects(store))
    assert list(store.iterdir()) == []
    (store / "cairn-store").write_text((tmp_path / "mark").read_text() + "\n")  # as the message says
    check_store(database, FolderObjects(store))


def test_a_database_without_an_id_takes_that_of_the_store_and_one_with_an_id_no_other(
    database: Connection, tmp_path: Path
) -> None:
    FolderObjects(tmp_path / "old").begin("old")
    check_store(database, FolderObjects(tmp_path / "old"))
    FolderObjects(tmp_path / "new").begin("new")
    with pytest.raises(WrongStore, match="has new instead of old"):
        check_store(database, FolderObjects(tmp_path / "new"))


async def seen(checks: ServerChecks) -> str | None:
    """What a look says of the store; None: it is there."""
    looking = asyncio.create_task(checks.look_for_ever())
    while checks.missing().get("objects") == "not looked at yet":
        await asyncio.sleep(0.01)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    return checks.missing().get("objects")


async def test_what_is_missing_is_told_and_a_store_with_an_id_needs_no_database(
    database_url: str, tmp_path: Path
) -> None:
    def checks(url: str) -> ServerChecks:
        vault, redis = Vault([b"m" * 32]), Redis.from_url("redis://127.0.0.1:1")
        return ServerChecks(url, redis, vault, FolderObjects(tmp_path / "objects"))

    away = "postgresql://127.0.0.1:1/none"
    assert "which the database gives it" in str(await seen(checks(away)))
    assert not (tmp_path / "objects").exists()
    assert await seen(checks(database_url)) is None
    assert await seen(checks(away)) is None
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    assert "is its disk mounted" in str(await seen(checks(database_url)))
    FolderObjects(tmp_path / "objects").begin("another")
    wrong = checks(database_url)
    await wrong.look_for_ever()
    assert "that of another database" in str(wrong.fatal)


async def test_another_store_that_comes_into_the_place_of_the_first_is_found_out(
    database_url: str, tmp_path: Path
) -> None:
    objects = FolderObjects(tmp_path / "objects")
    checks = ServerChecks(database_url, Redis.from_url("redis://127.0.0.1:1"), Vault([b"m" * 32]), objects)
    for _ in range(2):
        await checks.look()
        assert "objects" not in checks.missing()
    (tmp_path / "objects").rename(tmp_path / "unmounted")
    await checks.look()
    assert "is its disk mounted" in checks.missing()["objects"]
    objects.begin("another")
    await checks.look()
    assert "that of another database" in str(checks.fatal)


async def test_a_mark_that_is_no_text_ends_no_look(database_url: str, tmp_path: Path) -> None:
    checks = ServerChecks(
        database_url, Redis.from_url("redis://127.0.0.1:1"), Vault([b"m" * 32]), FolderObjects(tmp_path)
    )
    (tmp_path / "cairn-store").write_bytes(b"\xff\xfe")
    await checks.look()
    assert checks.missing()["objects"] == "cannot be looked at: the log says why"
    (tmp_path / "cairn-store").unlink()
    await checks.look()
    assert "objects" not in checks.missing()
