"""A checked connection to the instance's database, for commands that look at it or mend it."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import Connection
from psycopg.errors import DeadlockDetected

from domain.errors import StoreUnavailable
from infra.away import AWAY
from infra.faults import Fault
from infra.server_checks import check_server, require_session
from infra.settings import Settings
from infra.vault import Vault


@contextmanager
def connected(settings: Settings) -> Iterator[Connection]:
    """In autocommit, once the master key and the tables are the right ones; `Fault` otherwise."""
    try:
        with psycopg.connect(settings.database_url, connect_timeout=5, autocommit=True) as connection:
            require_session(settings.database_url)
            check_server(connection, Vault(settings.master_keys))
            yield connection
    except DeadlockDetected:
        raise Fault(
            "somebody else changed the same at the same time, each waited for the other, and Postgres ended this one: "
            "run the same command again."
        ) from None
    except (*AWAY, StoreUnavailable) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise Fault(
            f"Postgres does not answer as it should: is the instance up (./cairn up), or DATABASE_URL right? ({reason})"
        ) from None
