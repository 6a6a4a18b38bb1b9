"""What apps are told to do, and whose rows were repaired: apps that keep a copy of those begin anew."""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = (
    # Every version that there was: the last one counts.
    """
    CREATE TABLE client_settings (
        version bigint PRIMARY KEY,
        document text NOT NULL,
        operator text NOT NULL,
        set_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # Rows that are made anew change without an event: how often that was, by owner.
    "CREATE TABLE refolded_owners (owner_id uuid PRIMARY KEY, times bigint NOT NULL DEFAULT 1)",
)


def upgrade() -> None:
    """Make them."""
    for table in _TABLES:
        op.execute(table)
