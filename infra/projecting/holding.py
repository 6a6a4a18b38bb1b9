"""Builds at one position: live shards are held there for a moment, to be compared, exchanged or mended."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, LiteralString

from psycopg import Connection

from infra.event_store.fence import Fence
from infra.faults import Fault
from infra.projecting.shards import change_shards, lock_shards

_HOLD_SECONDS: Final = 10.0  # then workers go on by themselves, should whoever holds them be gone
_PATIENCE_SECONDS: Final = 8.0
_POLL_SECONDS: Final = 0.005


@contextmanager
def held_together(connection: Connection, schemas: Sequence[str]) -> Iterator[int]:
    """All shards of these builds at one position, which is given, for as long as the block runs; seconds at most.

    `Fault` when they do not come there: a shard is paused or stopped, no worker runs, or one is far behind.
    """
    with alone(connection, schemas):
        until = time.monotonic() + _PATIENCE_SECONDS
        try:
            position = _hold(connection, schemas)
            while late := _late(connection, schemas, position):
                if time.monotonic() > until:
                    raise Fault(f"{late}: is a worker running, and does it keep up? See cairn projections status.")
                time.sleep(_POLL_SECONDS)
            yield position
        finally:
            release(connection, schemas)


@contextmanager
def locked_together(connection: Connection, schemas: Sequence[str]) -> Iterator[int]:
    """The same for as long as the block takes, which is one transaction: nobody moves these shards before its end.

    Workers that have one of them wait, for all that they have.
    """
    with held_together(connection, schemas) as position, connection.transaction():
        if {*lock_shards(connection, schemas)} - {position}:
            raise Fault(
                f"{', '.join(schemas)} did not stay at one position until they could be locked: nothing was changed. "
                f"Try again."
            )
        yield position


@contextmanager
def alone(connection: Connection, schemas: Sequence[str]) -> Iterator[None]:
    """Two commands never hold one build at the same time: the first that ended would let it go for both. `Fault`.

    Whoever has it may take it again.
    """
    until = time.monotonic() + _PATIENCE_SECONDS
    taken: list[str] = []
    try:
        for schema in sorted(schemas):
            while connection.execute(_TRY_LOCK, (schema,)).fetchone() != (True,):
                if time.monotonic() > until:
                    raise Fault(f"another command works on {schema}: wait for it, then try again.")
                time.sleep(_POLL_SECONDS)
            taken.append(schema)
        yield
    finally:
        for schema in taken:
            connection.execute("SELECT pg_advisory_unlock(hashtext('cairn hold'), hashtext(%s))", (schema,))


def _hold(connection: Connection, schemas: Sequence[str]) -> int:
    fence = Fence(connection)
    with connection.transaction():
        position = max([*lock_shards(connection, schemas), fence.last_event()])
        change_shards(connection, schemas, _HOLD, (position, _HOLD_SECONDS))
    return position


def _late(connection: Connection, schemas: Sequence[str], position: int) -> str | None:
    row = connection.execute(_LATE, (list(schemas), position)).fetchone()
    if row is None:
        return None
    schema, shard, at, paused, stopped = row
    if stopped is not None:
        return f"shard {shard} of {schema} is stopped ({stopped})"
    if paused:
        return f"shard {shard} of {schema} is paused (cairn projections resume)"
    return f"shard {shard} of {schema} does not come to the others: it is {position - at:,} positions behind"


def release(connection: Connection, schemas: Sequence[str]) -> None:
    """Let workers go on."""
    change_shards(connection, schemas, "hold_at = NULL, hold_until = NULL")


_TRY_LOCK: Final = "SELECT pg_try_advisory_lock(hashtext('cairn hold'), hashtext(%s))"
_HOLD: Final = "hold_at = %s, hold_until = now() + make_interval(secs => %s)"
_LATE: Final[LiteralString] = """
    SELECT schema_name, shard, position, paused, stopped FROM projection_shards
    WHERE schema_name = ANY(%s) AND position <> %s ORDER BY stopped IS NULL, paused, position LIMIT 1
"""
