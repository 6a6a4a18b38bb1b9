"""The operators' log: what was done, by whom, why, and how it ended."""

import getpass
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg import Connection

from infra.projecting.lifecycle import note_action, note_outcome


@contextmanager
def noted(connection: Connection, action: str, arguments: Mapping[str, object]) -> Iterator[None]:
    """Leave a row in `operator_actions` around what is done."""
    given = {name: value for name, value in arguments.items() if value is not False and value not in {None, "", ()}}
    said = json.dumps(given, default=str)
    row = note_action(connection, getpass.getuser(), action, said)
    try:
        yield
    except BaseException as fault:
        note_outcome(connection, row, f"failed: {fault}" if str(fault) else f"failed: {type(fault).__name__}")
        raise
    note_outcome(connection, row, "done")
