"""Ingest bookkeeping in 240 bytes a recording instead of 390."""

from alembic import op

revision = "0007"
down_revision = "0006"

_STATEMENTS = (
    # Whose bytes are whose, under half a digest of both, as `infra.claims` makes it, instead of both in full.
    "ALTER TABLE recording_claims RENAME TO recording_claims_in_full",
    "ALTER INDEX recording_claims_pkey RENAME TO recording_claims_in_full_pkey",
    """
    CREATE TABLE recording_claims (
        bytes_id uuid PRIMARY KEY,
        activity_id uuid NOT NULL
    )
    """,
    """
    INSERT INTO recording_claims
    SELECT encode(substring(sha256(uuid_send(user_id) || sha256) FROM 1 FOR 16), 'hex')::uuid, activity_id
    FROM recording_claims_in_full
    """,
    "DROP TABLE recording_claims_in_full",
    # When activities were: to a tenth of a second and of a metre, and no id in the index. Who marks one looks first.
    """
    ALTER TABLE recorded_spans
        ALTER COLUMN elapsed_s TYPE real,
        ALTER COLUMN distance_m TYPE real,
        DROP CONSTRAINT recorded_spans_pkey
    """,
    "CREATE INDEX recorded_spans_of_user ON recorded_spans (user_id, started_at)",
)


def upgrade() -> None:
    """Make them anew."""
    for statement in _STATEMENTS:
        op.execute(statement)
