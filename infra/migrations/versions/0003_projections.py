"""Versions of projections and their shards, quarantined keys, operators' actions; the log by partition."""

from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables. Read models of before go: they are filled again from the log."""
    for statement in _STATEMENTS:
        op.execute(statement)


_STATEMENTS = (
    "DROP SCHEMA IF EXISTS activities_v1, feed_v1, goals_v1, people_v1, summaries_v1 CASCADE",
    "DROP TABLE projection_positions",
    # What a part of a rebuild, an export and a refold of chosen users read.
    "CREATE INDEX stored_events_by_partition ON stored_events (partition_id, notification_id)",
    # A set of tables: one build of one version. Builds of the same version differ in nothing but when they were made.
    """
    CREATE TABLE projection_builds (
        schema_name text PRIMARY KEY,
        name text NOT NULL,
        version integer NOT NULL,
        build integer NOT NULL,
        fingerprint bytea NOT NULL,
        state text NOT NULL CHECK (state IN ('planned', 'building', 'indexing', 'catching up', 'verifying', 'ready',
            'active', 'standby', 'retired')),
        built_to bigint,
        verified_at bigint,
        reason text,
        made_at timestamptz NOT NULL DEFAULT now(),
        changed_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (name, version, build)
    )
    """,
    # Which build is read; and of a share of users, which one instead.
    """
    CREATE TABLE projection_pointers (
        name text PRIMARY KEY,
        active text NOT NULL REFERENCES projection_builds,
        standby text REFERENCES projection_builds,
        shadow text REFERENCES projection_builds,
        shadow_percent integer NOT NULL DEFAULT 0 CHECK (shadow_percent BETWEEN 0 AND 100),
        changed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # How far each shard of a build is, and which worker has it until when. Whoever takes it raises the epoch, and so
    # fences out who had it before.
    """
    CREATE TABLE projection_shards (
        schema_name text NOT NULL REFERENCES projection_builds ON DELETE CASCADE,
        shard integer NOT NULL,
        position bigint NOT NULL,
        epoch bigint NOT NULL DEFAULT 0,
        holder uuid,
        leased_until timestamptz,
        hold_at bigint,
        hold_until timestamptz,
        paused boolean NOT NULL DEFAULT false,
        stopped text,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, shard)
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE projection_workers (
        holder uuid PRIMARY KEY,
        knows text[] NOT NULL, -- what its code declares: 'feed 1'
        seen_at timestamptz NOT NULL DEFAULT now()
    ) WITH (fillfactor = 50)
    """,
    # Rows whose fold failed: they stay as they were before that event until they are healed.
    """
    CREATE TABLE quarantined_keys (
        schema_name text NOT NULL REFERENCES projection_builds ON DELETE CASCADE,
        table_name text NOT NULL,
        key jsonb NOT NULL,
        owner_id uuid NOT NULL,
        stream_id uuid NOT NULL,
        version bigint NOT NULL,
        position bigint NOT NULL,
        topic text NOT NULL,
        reason text NOT NULL,
        held bigint NOT NULL DEFAULT 0,
        quarantined_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (schema_name, table_name, key)
    )
    """,
    # Events that a projection leaves out, live and in rebuilds: an operator's last resort, with the reason.
    """
    CREATE TABLE skipped_events (
        name text NOT NULL,
        position bigint NOT NULL,
        reason text NOT NULL,
        skipped_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (name, position)
    )
    """,
    # Parts of a rebuild, each of some partitions of the log: one that is done is not done again.
    """
    CREATE TABLE rebuild_parts (
        schema_name text NOT NULL REFERENCES projection_builds ON DELETE CASCADE,
        foreign_rows boolean NOT NULL,
        first_partition smallint NOT NULL,
        last_partition smallint NOT NULL,
        events bigint,
        rows bigint,
        seconds double precision,
        done_at timestamptz,
        PRIMARY KEY (schema_name, foreign_rows, first_partition)
    )
    """,
    # Reads of a share of users by the new version, compared with what the old one says.
    """
    CREATE TABLE shadow_counts (
        schema_name text PRIMARY KEY REFERENCES projection_builds ON DELETE CASCADE,
        compared bigint NOT NULL DEFAULT 0,
        mismatched bigint NOT NULL DEFAULT 0,
        last_mismatch text
    )
    """,
    """
    CREATE TABLE operator_actions (
        action_id bigserial PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT now(),
        operator text NOT NULL,
        action text NOT NULL,
        arguments jsonb NOT NULL,
        outcome text
    )
    """,
)
