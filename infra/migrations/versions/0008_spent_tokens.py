"""Refresh tokens are found when they are spent."""

from alembic import op

revision = "0008"
down_revision = "0007"
oldest_code = "0007"


def upgrade() -> None:
    """Add the index that `infra.housekeeping` looks in, while sessions are refreshed."""
    with op.get_context().autocommit_block():
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS refresh_tokens_spent")  # that was cut off
        op.execute("CREATE INDEX CONCURRENTLY refresh_tokens_spent ON refresh_tokens (coalesce(used_at, expires_at))")
