"""Migrations of the event store and the bookkeeping. Read models belong to the projection runtime.

A migration says which is the oldest code that can use its tables, by the newest revision that this code has:
`oldest_code = "0007"`. Without it, only its own code and newer can. docs/contributors says what it keeps to.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg import Connection, connect
from psycopg.conninfo import make_conninfo
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool


def upgrade(database_url: str) -> tuple[str | None, str | None]:
    """Bring the tables to this code's version; the versions before and after. Two at the same time: one waits.

    Tables that newer code made are left as they are.
    """

    def connection() -> Connection:
        return connect(make_conninfo(database_url))  # SQLAlchemy's own URLs know less than libpq's

    engine = create_engine("postgresql+psycopg://", creator=connection, poolclass=NullPool)
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.connect() as opened:
        opened.execute(text("SELECT pg_advisory_lock(hashtext('cairn migrate'))"))
        opened.commit()  # the lock is the session's
        before = MigrationContext.configure(opened).get_current_revision()
        opened.commit()
        if before is not None and before > (ScriptDirectory.from_config(config).get_current_head() or ""):
            return before, before
        config.attributes["connection"] = opened
        command.upgrade(config, "head")
        after = MigrationContext.configure(opened).get_current_revision()
    return before, after
