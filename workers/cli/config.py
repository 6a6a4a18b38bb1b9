"""`cairn config`: what apps are told, changed while everything runs."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from domain.client_settings import ClientSettings, Purpose, Told
from infra.client_settings import read_settings, write_settings
from infra.faults import Fault
from infra.settings import load_settings
from workers.cli.connecting import connected
from workers.cli.noting import noted, operator
from workers.cli.options import data_option, json_option, reason_option

_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NAMES: Final = "a name is of lower-case letters, digits and hyphens, up to 40"
_FITS: Final = {  # what `ClientSettings` takes
    "poll": f"there are {', '.join(f'poll.{purpose}' for purpose in Purpose)}, of 5s to 7d",
    "feature": f"a share is from 0 to 100, by user or device; {_NAMES}; there are at most 200",
    "off": f"{_NAMES}; there are at most 200",
    "app": (
        "a version is up to four numbers, such as 9.4.1; a url begins with https://, itms-apps:// or market://; "
        "an app is named as in Cairn-Client, in lower case"
    ),
}


@click.group("config")
def config_command() -> None:
    """What apps are told by /v1/client-config and /v1/bootstrap. API processes see a change within five seconds.

    \b
      poll.PURPOSE          how often apps ask: 90s, 15m, 6h; PURPOSE is sync, feed, notifications or config
      feature.NAME          the share of users for whom it is on, in per cent: 0 to 100
      feature.NAME.by       whose share: user (or left out) or device
      off.NAME              yes: a part of the app that is switched off
      app.NAME.required     the least version that is answered; older apps may still hand in runs
      app.NAME.recommended  the least version that is not asked to upgrade
      app.NAME.url          where newer ones are: https://...

    NAME of an app is what it calls itself in Cairn-Client, such as ios.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are


@config_command.command("show")
@json_option
@data_option
def show_command(*, as_json: bool, data: Path) -> None:
    """Print all of it, in the form that `set` takes. Intervals that nobody set are marked.

    With --json, `settings` is what was set, and `intervals_s` what apps are told, in seconds.
    """
    with connected(load_settings(data, os.environ)) as connection:
        told = read_settings(connection)
    if as_json:
        intervals = {purpose: told.settings.interval_s(purpose) for purpose in Purpose}
        click.echo(json.dumps({**msgspec.to_builtins(told), "intervals_s": intervals}, indent=2))
        return
    for line in _lines(told):
        click.echo(line)


def _lines(told: Told) -> Iterator[str]:
    yield f"version {told.version}"
    settings = told.settings
    for purpose in Purpose:
        default = "" if purpose in settings.polls else "  (default)"
        yield f"poll.{purpose} {settings.interval_s(purpose)}s{default}"
    for name, feature in sorted(settings.features.items()):
        yield f"feature.{name} {feature.percent:g}"
        if feature.by != "user":
            yield f"feature.{name}.by {feature.by}"
    for name in settings.switched_off:
        yield f"off.{name} yes"
    for name, versions in sorted(settings.apps.items()):
        for part, value in msgspec.to_builtins(versions).items():
            yield f"app.{name}.{part} {value}"


@config_command.command("set")
@click.argument("name")
@click.argument("value")
@reason_option
@data_option
def set_command(name: str, value: str, reason: str, data: Path) -> None:
    """Set one thing. The rest stays."""
    _change(data, name, value, reason)


@config_command.command("unset")
@click.argument("name")
@reason_option
@data_option
def unset_command(name: str, reason: str, data: Path) -> None:
    """Take one thing back: an interval to its default; a feature, a switch or an app's version away."""
    _change(data, name, None, reason)


def _change(data: Path, name: str, value: str | None, reason: str) -> None:
    arguments = {"name": name, "value": value, "reason": reason}
    with (
        connected(load_settings(data, os.environ)) as connection,
        noted(connection, "config unset" if value is None else "config set", arguments),
    ):
        told = read_settings(connection)
        new = changed(told.settings, name, value)
        if value is None and new == told.settings:
            raise Fault(f"nothing is set under {name}: cairn config show lists what is.")
        version = write_settings(connection, new, told.version, operator())
    click.echo(
        f"version {version}: " + (f"{name} is as if it had never been set" if value is None else f"{name} {value}")
    )


def changed(settings: ClientSettings, name: str, value: str | None) -> ClientSettings:
    """The settings with one thing set, or taken back (None). `Fault` names what does not fit."""
    kind, _, rest = name.partition(".")
    document: dict[str, Any] = msgspec.to_builtins(settings)
    match kind, rest.rpartition("."):
        case "poll", ("", "", purpose) if purpose:
            _put(document, "polls", purpose, value if value is None else _seconds(value))
        case "off", ("", "", part) if part:
            _switch(document, part, value)
        case "feature", ("", "", feature) if feature and value is None:
            _put(document, "features", feature, None)
        case "feature", ("", "", feature) if feature:
            _put_in(document, "features", feature, "percent", _number(value or ""))
        case "feature", (feature, ".", "by"):
            if feature not in settings.features:
                raise Fault(f"set feature.{feature} first: a share is of users or of devices.")
            _put_in(document, "features", feature, "by", value)
        case "app", (app, ".", "required" | "recommended" | "url" as part):
            _put_in(document, "apps", app, part, value)
        case _:
            raise Fault(f"{name!r} is nothing that can be set: cairn config --help names what can.")
    try:
        return msgspec.convert(document, ClientSettings)
    except msgspec.ValidationError:
        raise Fault(f"{name} does not take {value!r}: {_FITS[kind]}.") from None


def _put(document: dict[str, Any], table: str, name: str, value: object) -> None:
    found = document.setdefault(table, {})
    if value is None:
        found.pop(name, None)
    else:
        found[name] = value


def _put_in(document: dict[str, Any], table: str, name: str, part: str, value: object) -> None:
    """What is left without any part goes."""
    row = document.setdefault(table, {}).setdefault(name, {})
    if value is None:
        row.pop(part, None)
    else:
        row[part] = value
    if not row:
        document[table].pop(name)


def _switch(document: dict[str, Any], name: str, value: str | None) -> None:
    if value not in {None, "yes"}:
        raise Fault("a part of the app is switched off by the value yes, and on again by cairn config unset.")
    others = [one for one in document.get("switched_off", ()) if one != name]
    document["switched_off"] = others if value is None else sorted([*others, name])


def _seconds(text: str) -> int:
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if found is None:
        raise Fault(f"{text!r} is no time: give it as 90s, 15m or 6h.")
    return int(found[1]) * _UNITS[found[2]]


def _number(text: str) -> float:
    if re.fullmatch(r"\d{1,3}(\.\d{1,2})?%?", text) is None:
        raise Fault(f"{text!r} is no share: give it in per cent with at most two decimals, such as 12.5.")
    return float(text.removesuffix("%"))
