"""The group of commands."""

import click

from workers.cli.projections import exchanging, looking, mending, rebuilding


@click.group("projections")
def projections_command() -> None:
    """Change the shape of read models while everything runs.

    \b
    The four steps of a migration:
      cairn projections rebuild NAME                fill the new version from the log, then verify it
      cairn projections shadow NAME --percent 10    let a share of the users read it, and compare
      cairn projections cutover NAME                read it; back again: rollback
      cairn projections gc NAME                     drop the old one

    Every command says with --json what it says otherwise, ends with exit code 1 when it could not do what was asked,
    and those that change anything leave a row in the table operator_actions.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


for _command in (
    looking.list_command,
    looking.status_command,
    looking.plan_command,
    rebuilding.rebuild_command,
    exchanging.verify_command,
    exchanging.shadow_command,
    exchanging.cutover_command,
    exchanging.rollback_command,
    exchanging.pause_command,
    exchanging.resume_command,
    exchanging.gc_command,
    mending.quarantine_group,
    mending.heal_command,  # as it is spoken of: it is in `quarantine` too
    mending.skip_command,
    mending.audit_command,
):
    projections_command.add_command(_command)
