"""Reactors: how far each is, what it has told, and what it failed at."""

from alembic import op

revision = "0004"
down_revision = "0003"

_TABLES = (
    """
    CREATE TABLE reactors (
        name text PRIMARY KEY,
        position bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Keyed by the reaction and the event: whatever is tried again, nobody is told twice.
    """
    CREATE TABLE outbox (
        reactor text NOT NULL REFERENCES reactors,
        stream_id uuid NOT NULL,
        version bigint NOT NULL,
        number smallint NOT NULL,
        notice_id uuid NOT NULL UNIQUE,
        recipient_id uuid NOT NULL,
        kind text NOT NULL,
        about_id uuid NOT NULL,
        at timestamptz NOT NULL,
        PRIMARY KEY (reactor, stream_id, version, number)
    )
    """,
    "CREATE INDEX outbox_by_recipient ON outbox (recipient_id, at, notice_id)",
    "CREATE INDEX outbox_by_subject ON outbox (about_id)",
    """
    CREATE TABLE reactor_faults (
        reactor text NOT NULL REFERENCES reactors,
        stream_id uuid NOT NULL,
        version bigint NOT NULL,
        position bigint NOT NULL,
        reason text NOT NULL,
        PRIMARY KEY (reactor, stream_id, version)
    )
    """,
)


def upgrade() -> None:
    """Make them."""
    for table in _TABLES:
        op.execute(table)
