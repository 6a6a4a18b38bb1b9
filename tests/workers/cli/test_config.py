"""`cairn config`: what apps are told."""

import json
from pathlib import Path

import psycopg
import pytest

from domain.client_settings import ClientSettings
from infra.client_settings import write_settings
from infra.faults import Fault
from tests.workers.cli.commands import Run, running
from workers.cli.config import changed, config_command


@pytest.fixture
def config(database_url: str, tmp_path: Path) -> Run:
    return running(config_command, database_url, tmp_path)


def test_what_is_set_is_shown_and_unset_again(config: Run) -> None:
    given = {
        "poll.sync": "1h",
        "feature.new-map": "12.5%",
        "feature.new-map.by": "device",
        "off.live-tracking": "yes",
        "app.ios.required": "9.0.0",
        "app.ios.url": "https://store.example/cairn",
    }
    for name, value in given.items():
        assert config("set", name, value, "--reason", "a test").exit_code == 0
    shown = config("show").output.splitlines()
    assert shown == [
        "version 6",
        "poll.sync 3600s",
        "poll.feed 300s  (default)",
        "poll.notifications 300s  (default)",
        "poll.config 21600s  (default)",
        "feature.new-map 12.5",
        "feature.new-map.by device",
        "off.live-tracking yes",
        "app.ios.required 9.0.0",
        "app.ios.url https://store.example/cairn",
    ]
    for name in ("poll.sync", "feature.new-map", "off.live-tracking", "app.ios.required", "app.ios.url"):
        config("unset", name)
        assert isinstance(config("unset", name).exception, Fault)  # and makes no version of what apps are told
    assert json.loads(config("show", "--json").output) == {"version": 11, "settings": {}}


def test_every_change_is_in_the_operators_log(config: Run, database_url: str) -> None:
    config("set", "off.chat", "yes", "--reason", "it floods")
    config("set", "off.chat", "perhaps")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT action, arguments, outcome FROM operator_actions ORDER BY action_id"
        ).fetchall()
    assert [(action, said) for action, said, _ in rows] == [
        ("config set", {"name": "off.chat", "value": "yes", "reason": "it floods"}),
        ("config set", {"name": "off.chat", "value": "perhaps"}),
    ]
    assert rows[0][2] == "done"
    assert rows[1][2].startswith("failed")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("poll.sync", "1"),
        ("poll.sync", "soon"),
        ("poll.naps", "60s"),
        ("feature.x", "101"),
        ("feature.x", "nan"),
        ("feature.x", "-1"),
        ("feature.x.by", "user"),
        ("feature", "5"),
        ("off.x", "no"),
        ("off.X Y", "yes"),
        ("app.ios", "9"),
        ("app.ios.required", "nine"),
        ("app.ios.colour", "blue"),
        ("app..required", "9"),
        ("volume", "11"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(name: str, value: str) -> None:
    with pytest.raises(Fault):
        changed(ClientSettings(), name, value)


def test_of_two_operators_at_the_same_time_the_second_looks_again(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert write_settings(connection, ClientSettings(), 0, "one") == 1
        with pytest.raises(Fault, match="just now"):
            write_settings(connection, ClientSettings(), 0, "two")
