"""The operators' log: what was done, by whom, why, and how it ended."""

import getpass
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import Connection

from infra.projecting.lifecycle import note_action, note_outcome


@dataclass
class Noted:
    """What is being done. `outcome` is how it ended, unless it ended by an exception."""

    outcome: str = "done"


@contextmanager
def noted(connection: Connection, action: str, arguments: Mapping[str, object]) -> Iterator[Noted]:
    """Leave a row in `operator_actions` around what is done."""
    given = {name: value for name, value in arguments.items() if value is not False and value not in {None, "", ()}}
    said = json.dumps(given, default=str)
    row = note_action(connection, operator(), action, said)
    told = Noted()
    try:
        yield told
    except BaseException as fault:
        note_outcome(connection, row, f"failed: {fault}" if str(fault) else f"failed: {type(fault).__name__}")
        raise
    note_outcome(connection, row, told.outcome)


def operator() -> str:
    """Who this is: by name, or by number where it has none, as a container's user may have."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # the second from Python 3.13 on
        return f"uid {os.getuid()}"
