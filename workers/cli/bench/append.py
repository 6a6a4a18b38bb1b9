"""Durable saves of one event, a second: ours, pgbench's single-row INSERTs, and the stock recorder's."""

import re
import subprocess
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import psycopg

from infra.embedded.postgres import EmbeddedPostgres
from infra.faults import Fault
from workers.cli.bench.appending import recorded, sealed
from workers.cli.bench.measure import Bench, Contender, Goal
from workers.cli.bench.stock import StockLog
from workers.cli.bench.together import rate_of

_PGBENCH_1: Final = "pgbench, 1 client"
_PGBENCH_32: Final = "pgbench, 32 clients"
_ONE: Final = "ours, 1 at a time"
_MANY: Final = "ours, 256 at once"
_TWO: Final = "ours, 256 at once in each of 2 processes"
_PORT: Final = "ours with load, decide and seal, 256 at once"
_STOCK_1: Final = "stock recorder, 1 thread"
_STOCK_32: Final = "stock recorder, 32 threads"

GOALS: Final = (
    Goal("append_256_clients", _MANY, _PGBENCH_32, 1.5),
    Goal("append_1_client", _ONE, _PGBENCH_1, 0.7),
    Goal("append_2_processes", _TWO, _MANY, 1.0),
    Goal("append_commands", _PORT, _PGBENCH_32, None),
    Goal("append_256_clients_to_stock", _MANY, _STOCK_32, None),
    Goal("append_1_client_to_stock", _ONE, _STOCK_1, None),
)


def bench(server: EmbeddedPostgres, folder: Path, seconds: float) -> Bench:
    """The INSERTs of pgbench go into a twin of the log's table, with its indexes and a sequence of its own."""
    (topic, state), (owner, _) = sealed(), recorded()
    script = folder / "insert.sql"
    script.write_text(INSERT.format(topic=topic, state=state.hex(), owner=owner))
    with psycopg.connect(server.url, autocommit=True) as connection:
        make_twin(connection)
    stock = StockLog(server.url, "stock_appended")
    pgbench = [str(server.programs / "pgbench"), "-n", "-M", "prepared", "-f", str(script), "-T", str(round(seconds))]
    return Bench(
        name="append",
        unit="saves/s",
        contenders=[
            Contender(name, partial(_from_nothing, server.url, run))
            for name, run in (
                (_PGBENCH_1, partial(pgbench_rate, [*pgbench, "-c", "1", server.url])),
                (_PGBENCH_32, partial(pgbench_rate, [*pgbench, "-c", "32", "-j", "2", server.url])),
                (_ONE, partial(_ours, server.url, 1, seconds)),
                (_MANY, partial(_ours, server.url, 256, seconds)),
                (_TWO, partial(_ours, server.url, 256, seconds, processes=2)),
                (_PORT, partial(_ours, server.url, 256, seconds, "--port")),
                (_STOCK_1, partial(stock.append, state, 1, seconds)),
                (_STOCK_32, partial(stock.append, state, 32, seconds)),
            )
        ],
        goals=GOALS,
    )


INSERT: Final = (
    "INSERT INTO pgbench_events (originator_id, originator_version, topic, state, owner_id, partition_id) "
    "VALUES (gen_random_uuid(), 1, '{topic}', '\\x{state}', '{owner}', 1);\n"
)


def make_twin(connection: psycopg.Connection) -> None:
    """The table that pgbench's INSERTs go into."""
    connection.execute("CREATE TABLE IF NOT EXISTS pgbench_events (LIKE stored_events INCLUDING ALL)")
    connection.execute("CREATE SEQUENCE IF NOT EXISTS pgbench_positions")
    connection.execute("ALTER TABLE pgbench_events ALTER notification_id SET DEFAULT nextval('pgbench_positions')")


def _from_nothing(url: str, run: Callable[[], float]) -> float:
    """The faster one would otherwise have the larger table, and its checkpoints would fall into another's run."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE stored_events, pgbench_events, stock_appended")
        connection.execute("CHECKPOINT")
    return run()


def pgbench_rate(command: Sequence[str]) -> float:
    """Transactions a second."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)
    if found is None:
        raise Fault(f"pgbench failed: {done.stderr.strip()[-500:]}")
    return float(found[1])


def _ours(url: str, at_once: int, seconds: float, *more: str, processes: int = 1) -> float:
    return rate_of("workers.cli.bench.appending", [url, str(at_once), str(seconds), *more], processes)
