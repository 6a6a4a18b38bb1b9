"""The loops of `cairn worker`: what they wait for, and what does not end them."""

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from psycopg import Connection

from infra.object_store import FolderObjects
from infra.store_mark import WrongStore, check_store
from tests.infra.event_store.proxy import Host
from tests.instance_settings import settings_of
from workers.cli.worker import run_chores, run_housekeeping, run_ingest, run_projector, run_reactor


async def test_a_node_that_takes_no_writes_is_waited_out(
    database_url: str, database: Connection, redis_url: str, tmp_path: Path
) -> None:
    (name,) = database.execute("SELECT current_database()").fetchone() or ("",)
    stop = threading.Event()
    database.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    reacting = asyncio.create_task(asyncio.to_thread(run_reactor, settings_of(tmp_path, database_url, redis_url), stop))
    await asyncio.sleep(0.5)  # it has tried, as a rule
    database.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    for _ in range(600):
        if reacting.done() or database.execute("SELECT 1 FROM reactors").fetchone():
            break
        await asyncio.sleep(0.1)
    assert not reacting.done()
    stop.set()
    await reacting


async def test_what_is_waited_for_is_told_with_its_cause(
    database_url: str, database: Connection, redis_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stop = threading.Event()
    reacting = asyncio.create_task(asyncio.to_thread(run_reactor, settings_of(tmp_path, database_url, redis_url), stop))
    try:
        while not database.execute("SELECT 1 FROM reactors").fetchone():
            await asyncio.sleep(0.02)
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        while "waiting for Postgres: " not in caplog.text:
            await asyncio.sleep(0.02)
    finally:
        stop.set()
        await reacting
    assert "waiting for Postgres: terminating connection due to administrator command" in caplog.text


async def test_a_projector_whose_lines_lead_nowhere_goes_on_over_others(
    database_url: str,
    redis_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("infra.attended.LOOK_SECONDS", 0.1)
    caplog.set_level(logging.INFO, "workers.cli.worker")
    stop = threading.Event()
    async with Host(database_url).running() as host:
        settings = settings_of(tmp_path, host.url, redis_url)
        projecting = asyncio.create_task(asyncio.to_thread(run_projector, settings, stop))
        try:
            async with asyncio.timeout(30):
                for ready in (1, 2):
                    while caplog.messages.count("ready") < ready:
                        await asyncio.sleep(0.02)
                    host.die()
        finally:
            stop.set()
            await projecting


async def test_whatever_a_chore_fails_at_the_others_and_the_next_hour_come(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.cli.worker._FIRST_CHORES_SECONDS", 0.01)
    monkeypatch.setattr("workers.cli.worker._CHORES_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "workers.cli.worker")
    position = tmp_path / "collection" / "position"
    position.parent.mkdir()
    position.write_text("no number")
    tidying = asyncio.create_task(run_chores(settings_of(tmp_path, database_url, redis_url)))
    while "packed 0 cold tracks again" not in caplog.text:
        assert not tidying.done()
        await asyncio.sleep(0.02)
    assert "Traceback" in caplog.text
    position.write_text("0")
    while "removed what was kept of 0 deleted activities" not in caplog.text:
        assert not tidying.done()
        await asyncio.sleep(0.02)
    tidying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await tidying


async def test_housekeeping_goes_on_once_it_can(
    database_url: str,
    database: Connection,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("workers.cli.worker._CLEANING_RETRY_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "workers.cli.worker")
    hide, show = "ALTER TABLE kept_replies RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO kept_replies"
    database.execute(hide)  # as before `cairn migrate`
    cleaning = asyncio.create_task(run_housekeeping(settings_of(tmp_path, database_url, "redis://127.0.0.1:1")))
    for said in ("nothing was dropped this time: ", "dropped 0 replies that were kept long enough"):
        while said not in caplog.text:
            assert not cleaning.done()
            await asyncio.sleep(0.02)
        database.execute(show if said.startswith("nothing") else "SELECT 1")
    assert "Traceback" not in caplog.text
    cleaning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cleaning


async def test_ingest_takes_nothing_out_of_the_store_of_another_database(
    database_url: str, database: Connection, redis_url: str, tmp_path: Path
) -> None:
    check_store(database, FolderObjects(tmp_path / "own"))
    settings = settings_of(tmp_path, database_url, redis_url, "another")
    async with asyncio.timeout(10):
        with pytest.raises(WrongStore):
            await run_ingest(settings)


async def test_ingest_gives_a_new_store_its_id(
    database_url: str, database: Connection, redis_url: str, tmp_path: Path
) -> None:
    settings = settings_of(tmp_path, database_url, redis_url)
    (tmp_path / "cairn-store").unlink()
    ingesting = asyncio.create_task(run_ingest(settings))
    async with asyncio.timeout(10):
        while not (tmp_path / "cairn-store").exists():
            await asyncio.sleep(0.02)
    ingesting.cancel()
    await asyncio.gather(ingesting, return_exceptions=True)
    check_store(database, FolderObjects(tmp_path))
