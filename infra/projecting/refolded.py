"""Owners whose rows were made anew while they are read: no event tells of that, so apps that keep a copy begin anew."""

from collections.abc import Collection
from typing import Final, LiteralString
from uuid import UUID

from psycopg import Connection


def note_refolded(connection: Connection, owners: Collection[UUID]) -> None:
    """Count it, in the transaction of the rows. Cursors of `/changes` from before are refused from then on."""
    connection.execute(_NOTE, (list(owners),))


_NOTE: Final[LiteralString] = """
    INSERT INTO refolded_owners (owner_id) SELECT DISTINCT unnest(%s::uuid[])
    ON CONFLICT (owner_id) DO UPDATE SET times = refolded_owners.times + 1
"""
