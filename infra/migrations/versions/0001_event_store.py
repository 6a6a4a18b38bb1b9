"""The event log in the library's own shape, and the bookkeeping around it."""

from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the log, accounts, projection positions and ingest bookkeeping."""
    for statement in _STATEMENTS:
        op.execute(statement)


_STATEMENTS = (
    # The library's table with three columns more, so that its stock recorder can read it. The sequence stays
    # uncached: a cached one hands out positions out of order. Vacuum for inserts as any table has it.
    """
    CREATE TABLE stored_events (
        originator_id uuid NOT NULL,
        originator_version bigint NOT NULL,
        topic text NOT NULL,
        state bytea NOT NULL,
        notification_id bigserial NOT NULL,
        owner_id uuid NOT NULL,
        partition_id smallint NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (originator_id, originator_version)
    )
    """,
    "CREATE UNIQUE INDEX stored_events_notification_id_idx ON stored_events (notification_id)",
    # Refuses a wrong master key before it does harm.
    "CREATE TABLE key_checks (name text PRIMARY KEY, value bytea NOT NULL)",
    # Secrets and personal data stay out of the log.
    """
    CREATE TABLE credentials (
        email_hash bytea PRIMARY KEY,
        user_id uuid NOT NULL UNIQUE,
        password_hash text NOT NULL,
        email_sealed bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE sessions (
        session_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        revoked_at timestamptz
    )
    """,
    "CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL",
    """
    CREATE TABLE refresh_tokens (
        token_hash bytea PRIMARY KEY,
        session_id uuid NOT NULL REFERENCES sessions,
        expires_at timestamptz NOT NULL,
        used_at timestamptz
    )
    """,
    "CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id)",
    # One row for each version of each projection: how far its tables are.
    """
    CREATE TABLE projection_positions (
        name text NOT NULL,
        version integer NOT NULL,
        position bigint NOT NULL DEFAULT 0,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (name, version)
    ) WITH (fillfactor = 50)
    """,
    # Which activity has a runner's bytes: the same bytes under another id are a duplicate.
    """
    CREATE TABLE recording_claims (
        user_id uuid NOT NULL,
        sha256 bytea NOT NULL,
        activity_id uuid NOT NULL,
        PRIMARY KEY (user_id, sha256)
    )
    """,
    # Tries that did not come to a verdict, so that a poisonous upload ends.
    """
    CREATE TABLE ingest_attempts (
        activity_id uuid PRIMARY KEY,
        attempts integer NOT NULL,
        started_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)
