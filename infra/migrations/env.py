"""Alembic's environment: one connection, handed in by `infra.migrations.upgrade`."""

from alembic import context
from alembic.runtime.migration import MigrationContext, MigrationInfo
from alembic.script import Script
from sqlalchemy import text


def _note_oldest_code(ctx: MigrationContext, step: MigrationInfo, **_: object) -> None:
    """Write down, with the migration, by which code its tables can be used; `infra.server_checks` reads it."""
    script = step.up_revision
    if ctx.connection is not None and isinstance(script, Script):
        oldest = getattr(script.module, "oldest_code", script.revision)
        ctx.connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{oldest}'"))


context.configure(
    connection=context.config.attributes["connection"],
    transaction_per_migration=True,
    on_version_apply=_note_oldest_code,  # type: ignore[arg-type]  # it is called by keywords
)
with context.begin_transaction():
    context.run_migrations()
