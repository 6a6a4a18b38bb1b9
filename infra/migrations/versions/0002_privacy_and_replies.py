"""Keys of users, kept replies, snapshots of streams, and streams that followers parked."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    for statement in _STATEMENTS:
        op.execute(statement)


_STATEMENTS = (
    # One key for each owner, wrapped by the master key. NULL: destroyed, and what it sealed is redacted for ever.
    """
    CREATE TABLE user_keys (
        owner_id uuid PRIMARY KEY,
        master_id text NOT NULL,
        wrapped bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        destroyed_at timestamptz,
        CHECK ((wrapped IS NULL) = (destroyed_at IS NOT NULL))
    )
    """,
    # Replies to requests with an idempotency key, in the transaction of their events.
    """
    CREATE TABLE kept_replies (
        key_hash bytea PRIMARY KEY,
        fingerprint bytea NOT NULL,
        owner_id uuid NOT NULL,
        sealed bytea NOT NULL,
        position bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX kept_replies_in_time ON kept_replies (created_at)",  # they are purged by age
    """
    CREATE TABLE stream_snapshots (
        stream_id uuid NOT NULL,
        topic text NOT NULL,
        version bigint NOT NULL,
        state bytea NOT NULL,
        position bigint NOT NULL,
        owner_id uuid NOT NULL,
        PRIMARY KEY (stream_id, topic)
    )
    """,
    # From this position on, followers hold the stream's events back: the first of them does not decode.
    """
    CREATE TABLE parked_streams (
        stream_id uuid PRIMARY KEY,
        owner_id uuid NOT NULL,
        version bigint NOT NULL,
        position bigint NOT NULL,
        reason text NOT NULL,
        parked_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)
