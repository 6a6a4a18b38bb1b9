"""Ingest bookkeeping: why uploads failed, those that nothing became of, and when activities were."""

from alembic import op

revision = "0005"
down_revision = "0004"

_STATEMENTS = (
    "ALTER TABLE ingest_attempts ADD COLUMN reason text NOT NULL DEFAULT ''",
    # Uploads that were given up: for operators, who may have them tried again. The verdict is in the object store.
    """
    CREATE TABLE dead_letters (
        activity_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        code text NOT NULL,
        reason text NOT NULL,
        attempts integer NOT NULL,
        received_at timestamptz NOT NULL,
        died_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # When a runner's recorded activities were: two at one time may be one run.
    """
    CREATE TABLE recorded_spans (
        user_id uuid NOT NULL,
        started_at timestamptz NOT NULL,
        activity_id uuid NOT NULL,
        elapsed_s double precision NOT NULL,
        distance_m double precision NOT NULL,
        PRIMARY KEY (user_id, started_at, activity_id)
    )
    """,
)


def upgrade() -> None:
    """Make them."""
    for statement in _STATEMENTS:
        op.execute(statement)
