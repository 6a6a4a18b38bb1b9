"""That the object store is the one of this database: in its place may be a disk that is not mounted, or another's."""

from typing import Final
from uuid import uuid4

from psycopg import Connection

from infra.faults import Fault
from infra.object_store import MARK, Objects

_READ: Final = "SELECT convert_from(value, 'UTF8') FROM key_checks WHERE name = 'object store'"
_KEEP: Final = "INSERT INTO key_checks (name, value) VALUES ('object store', %s) ON CONFLICT DO NOTHING"


class StoreMissing(Fault):
    """The store has no id any more."""


class WrongStore(Fault):
    """The store is that of another database."""


def check_store(connection: Connection, objects: Objects) -> None:
    """Give store and database the same id where the database has none: it is new, or from before there were ids.

    The connection is in autocommit. `StoreMissing`, `WrongStore`; `StoreUnavailable`.
    """
    known = _known(connection)
    if known is None:
        connection.execute(_KEEP, (objects.begin(uuid4().hex).encode(),))
        known = _known(connection)
    found = objects.identity()
    if found is None:
        raise StoreMissing(
            f"the object store has no {MARK} any more: is its disk mounted, or its bucket the right one? "
            f"To go on with what is there, write {known} into an object {MARK} beside inbox/"
        )
    if found != known:
        raise WrongStore(f"the object store is that of another database: its {MARK} has {found} instead of {known}")


def _known(connection: Connection) -> str | None:
    row = connection.execute(_READ).fetchone()
    return None if row is None else str(row[0])
