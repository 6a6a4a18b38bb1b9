"""Keys whose fold failed: their rows stay as they were, their later events are held back, until they are healed."""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, LiteralString, get_type_hints
from uuid import UUID

import msgspec
from msgspec import Struct
from psycopg import Connection
from psycopg.rows import class_row

from infra.projecting.folding import Fault, Held
from infra.projecting.shards import stop
from projections.projection import Key, Projection, Table

_log = logging.getLogger(__name__)

MOST: Final = 100  # quarantined keys of a build: past that not a key is wrong but the projection, and it stops


class Quarantined(Struct, frozen=True):
    """A key, and the event that its fold failed at."""

    schema_name: str
    table_name: str
    key: list[Any]
    owner_id: UUID
    stream_id: UUID
    version: int
    position: int
    topic: str
    reason: str
    held: int
    quarantined_at: datetime


def held_keys(connection: Connection, projection: Projection, schema: str) -> Held:
    """The quarantined keys of a build."""
    tables = {fold.table.name: fold.table for fold in projection.folds}
    found = connection.execute("SELECT table_name, key FROM quarantined_keys WHERE schema_name = %s", (schema,))
    return {(name, key_of(tables[name], stored)): 0 for name, stored in found if name in tables}


def note_faults(connection: Connection, schema: str, faults: Sequence[Fault]) -> None:
    """Quarantine the keys; past the threshold stop the build. Both are told."""
    for fault in faults:
        recorded = fault.recorded
        place = f"stream {recorded.stream_id} version {recorded.version} (position {recorded.position})"
        _log.error("%s: %s %s is quarantined at %s: %s", schema, fault.table, fault.key, place, fault.reason)
        connection.execute(
            _NOTE,
            (
                schema,
                fault.table,
                stored_key(fault.key),
                fault.owner_id,
                recorded.stream_id,
                recorded.version,
                recorded.position,
                recorded.event.TOPIC,
                fault.reason,
            ),
        )
    row = connection.execute("SELECT count(*) FROM quarantined_keys WHERE schema_name = %s", (schema,)).fetchone()
    if row is not None and row[0] > MOST:
        reason = f"{row[0]} keys are quarantined, which is more than {MOST}: the last one for {faults[-1].reason}"
        _log.critical("%s is stopped: %s", schema, reason)
        stop(connection, schema, reason)


def note_held(connection: Connection, schema: str, held: Held) -> None:
    """Count what was held back."""
    for (table, key), count in held.items():
        if count:
            connection.execute(_HELD, (count, schema, table, stored_key(key)))


def quarantined(connection: Connection, schemas: Sequence[str]) -> list[Quarantined]:
    """Those of these builds, in the order in which they were found."""
    with connection.cursor(row_factory=class_row(Quarantined)) as cursor:
        return cursor.execute(_ALL, (list(schemas),)).fetchall()


def stored_key(key: Key) -> str:
    """A key as JSON."""
    return msgspec.json.encode(key).decode()


def key_of(table: Table[Any], stored: Sequence[Any]) -> Key:
    """A key as it was before it was JSON."""
    return tuple(msgspec.convert(value, kind, strict=False) for value, kind in zip(stored, _kinds(table), strict=True))


def _kinds(table: Table[Any]) -> Sequence[Any]:
    hints = get_type_hints(table.row)
    return [hints[name] for name in table.key]


_NOTE: Final[LiteralString] = """
    INSERT INTO quarantined_keys (
        schema_name, table_name, key, owner_id, stream_id, version, position, topic, reason
    ) VALUES (%s, %s, %s::jsonb, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_HELD: Final[LiteralString] = """
    UPDATE quarantined_keys SET held = held + %s WHERE schema_name = %s AND table_name = %s AND key = %s::jsonb
"""
_ALL: Final[LiteralString] = """
    SELECT schema_name, table_name, key, owner_id, stream_id, version, position, topic, reason, held, quarantined_at
    FROM quarantined_keys WHERE schema_name = ANY(%s) ORDER BY quarantined_at, schema_name, table_name, key
"""
