"""`cairn config`: what apps are told."""

import json
import os
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
    intervals = {"sync": 900, "feed": 300, "notifications": 300, "config": 21_600}
    assert json.loads(config("show", "--json").output) == {"version": 11, "settings": {}, "intervals_s": intervals}


def test_an_operator_without_a_name_is_noted_by_number(
    config: Run, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", dict[int, object]().__getitem__)  # as in a container with --user 12345
    assert config("set", "off.chat", "yes").exit_code == 0
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT operator FROM operator_actions").fetchall() == [(f"uid {os.getuid()}",)]


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
    ("name", "value", "reason"),
    [
        ("poll.sync", "1", "poll.sync does not take '1': there are poll.sync, .* of 5s to 7d"),
        ("poll.sync", "soon", "'soon' is no time"),
        ("poll.naps", "60s", "there are poll.sync, poll.feed, poll.notifications, poll.config"),
        ("feature.x", "101", "a share is from 0 to 100"),
        ("feature.x", "0.004", "with at most two decimals"),
        ("feature.x", "nan", "'nan' is no share"),
        ("feature.x", "-1", "'-1' is no share"),
        ("feature.x.by", "user", "set feature.x first"),
        ("feature", "5", "'feature' is nothing that can be set"),
        ("off.x", "no", "by the value yes"),
        ("off.X Y", "yes", "a name is of lower-case letters"),
        ("app.ios", "9", "'app.ios' is nothing that can be set"),
        ("app.ios.required", "nine", "up to four numbers, such as 9.4.1"),
        ("app.ios.url", "http://store.example", "a url begins with https://"),
        ("app.ios.colour", "blue", "is nothing that can be set"),
        ("app..required", "9", "named as in Cairn-Client"),
        ("volume", "11", "is nothing that can be set"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(name: str, value: str, reason: str) -> None:
    with pytest.raises(Fault, match=reason):
        changed(ClientSettings(), name, value)


def test_of_two_operators_at_the_same_time_the_second_looks_again(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        assert write_settings(connection, ClientSettings(), 0, "one") == 1
        with pytest.raises(Fault, match="just now"):
            write_settings(connection, ClientSettings(), 0, "two")
