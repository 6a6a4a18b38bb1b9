"""The loops of `cairn worker`: what they wait for, and what does not end them."""

import asyncio
import threading
from pathlib import Path

from psycopg import Connection

from tests.instance_settings import settings_of
from workers.cli.worker import run_reactor


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
