"""Refresh tokens are found when they are spent."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the index that `infra.housekeeping` looks in."""
    op.execute("CREATE INDEX refresh_tokens_spent ON refresh_tokens (coalesce(used_at, expires_at))")
