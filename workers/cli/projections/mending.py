"""Commands about keys whose fold fails, streams that cannot be read, and rows that differ from the log."""

import re
import sys
from pathlib import Path

import click

from domain.streams import MalformedPosition
from infra.faults import Fault
from infra.positions import from_token
from infra.projecting.auditing import audit
from workers.cli.options import data_option, json_option, reason_option, required_reason_option
from workers.cli.projections.lines import audit_lines, emit, healed_lines, quarantine_lines
from workers.cli.projections.tools import name_argument, tools_for


@click.group("quarantine")
def quarantine_group() -> None:
    """Keys whose fold failed, and streams that cannot be read: everything else goes on without them."""


@quarantine_group.command("list")
@click.argument("name", required=False)
@json_option
@data_option
def quarantine_list_command(*, name: str | None, as_json: bool, data: Path) -> None:
    """Print what is held back, since which event, and why; and the events that are left out."""
    with tools_for(data) as tools, tools.healer() as healer:
        if name is not None:
            tools.registry.named(name)
        keys, streams, skipped = healer.quarantined(name), healer.parked(), healer.skipped(name)
    found = {"keys": keys, "streams": streams, "skipped": skipped}
    emit(found, as_json, lambda: quarantine_lines(keys, streams, skipped))


@quarantine_group.command("heal")
@click.argument("name", required=False)
@reason_option
@json_option
@data_option
def heal_command(*, name: str | None, reason: str, as_json: bool, data: Path) -> None:
    """After the fix: make what was quarantined anew from the log, and let it go on.

    Exit code 1 when something fails again, which stays in quarantine, or when rows stay as they are, since a stream
    that concerns their users still cannot be read.
    """
    with tools_for(data, "heal", name=name, reason=reason) as tools, tools.healer() as healer:
        if name is not None:
            tools.registry.named(name)
        healed = healer.heal(name)
    emit(healed, as_json, lambda: healed_lines(healed))
    if any(one.still_quarantined or one.left_out for one in healed):
        sys.exit(1)


@click.command("skip")
@name_argument
@click.argument("position")
@click.option("--undo", is_flag=True, help="Fold an event again that was to be left out.")
@required_reason_option("Why: kept in the operators' log.")
@json_option
@data_option
def skip_command(*, name: str, position: str, undo: bool, reason: str, as_json: bool, data: Path) -> None:
    """Leave out an event that a projection fails at, now and in every rebuild, and heal what it has quarantined.

    In sums the later events of its stream go with it, for they take back what was never added. POSITION is as
    `quarantine list` has it, such as p1-2a. The last resort: the events stay in the log.
    """
    try:
        at = from_token(position)
    except MalformedPosition:
        raise Fault(f"{position!r} is no position: give it as quarantine list has it, such as p1-2a.") from None
    arguments = {"name": name, "position": position, "undo": undo, "reason": reason}
    with tools_for(data, "skip", **arguments) as tools, tools.healer() as healer:
        tools.registry.named(name)
        healed = healer.take_back(name, at) if undo else healer.skip(name, at, reason)
    emit(healed, as_json, lambda: healed_lines(healed))


@click.command("audit")
@click.argument("name", required=False)
@click.option("--sample", default="1%", show_default=True, help="Of the keys, as a percentage.")
@json_option
@data_option
def audit_command(*, name: str | None, sample: str, as_json: bool, data: Path) -> None:
    """Fold a random share of the keys again from the log, and compare them with the live rows.

    Exit code 1 when a row differs. Workers do the same by themselves with a small share, once an hour.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", sample)
    if found is None or not 0 < float(found[1]) <= 100:
        raise Fault(f"--sample {sample!r}: give a percentage above 0 and up to 100, such as 1%.")
    with tools_for(data) as tools:
        if name is not None:
            tools.registry.named(name)
        audited = audit(tools.url, tools.registry, tools.master, name, float(found[1]))
    emit(audited, as_json, lambda: audit_lines(audited))
    if any(one.differences for one in audited):
        sys.exit(1)
