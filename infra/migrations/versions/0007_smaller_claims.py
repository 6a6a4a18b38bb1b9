"""Whose bytes are whose, under half a digest of runner and bytes: half of what both in full took."""

from alembic import op

revision = "0007"
down_revision = "0006"

# The digest as `infra.claims` makes it.
_STATEMENTS = (
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
)


def upgrade() -> None:
    """Make them anew."""
    for statement in _STATEMENTS:
        op.execute(statement)
