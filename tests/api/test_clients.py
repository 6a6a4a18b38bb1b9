import subprocess
import sys
from itertools import product
from uuid import UUID

import pytest
from prometheus_client import generate_latest

from api.clients import NOBODY, client_of, version_of
from api.telemetry import OTHER, Telemetry
from domain.client_settings import AppVersions, ClientSettings
from infra.processes import child_environ

FILLS = [b" ", b"\t", b" \xa0", b"-", b"device=", b'device="']
HOSTILE = list(product(FILLS, range(1, 9), [b"", b";ab", b";\x00", b'"']))
READER = (
    "import sys; from api.clients import client_of; print(len([client_of(bytes.fromhex(one)) for one in sys.stdin]))"
)
PHONE = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


def test_an_app_says_its_name_version_and_device() -> None:
    client = client_of(f"ios/9.4.1; device={PHONE}".encode())
    assert (client.app, client.version, client.label, client.device) == ("ios", (9, 4, 1), "ios/9.4.1", PHONE)


def test_a_device_may_be_left_out_and_other_facts_may_be_there() -> None:
    assert client_of(b"Android/10.0.0-beta2").version == (10, 0, 0)
    assert client_of(f"android/10; os=14; device={PHONE}; build=7".encode()).device == PHONE
    assert client_of(b"ios/9; device=none").device is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "ios",
        "ios/",
        "/9",
        "ios/9.4\x00",
        "ios/" + "9" * 100,
        "é/1",
        "ios/9 build",
        "ios/9;" + " " * 81,
        "ios/9" + ";" * 9,
        "ios/9" + f"; a={'x' * 70}" * 8,  # too long to be remembered
    ],
)
def test_what_cannot_be_read_is_nobodys(header: str) -> None:
    assert client_of(header.encode("latin-1")) is NOBODY


def test_versions_compare_as_numbers() -> None:
    assert version_of("9.10") > version_of("9.9.9") > version_of("9")


@pytest.mark.parametrize("version", ["9.4.1", "9.4.1-beta", "9.4.1-rc.1", "9.4.1_42", "9.4.1+7", "9.4.1b7"])
def test_a_build_of_a_version_is_as_good_as_that(version: str) -> None:
    client = client_of(f"ios/{version}".encode())
    assert (client.label, client.version) == (f"ios/{version}", (9, 4, 1))
    assert ClientSettings(apps={"ios": AppVersions(required="9.4.1")}).upgrade(client.app, client.version) is None


def test_no_header_takes_long_to_read() -> None:
    """Read by another process, which can be ended: a pattern that tries all ways holds its process for years."""
    headers = [b"ios/9" + (b";" + (fill * 80)[: 480 // parts]) * parts + end for fill, parts, end in HOSTILE]
    given = "".join(f"{header.hex()}\n" for header in headers)
    command = [sys.executable, "-c", READER]
    done = subprocess.run(
        command, input=given, env=child_environ(), timeout=60, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{len(headers)}\n")


def test_a_client_cannot_make_labels_without_end() -> None:
    telemetry = Telemetry(lambda: {"ios"})
    assert telemetry.client("ios/1", signed_in=True) == "ios/1"
    alarm = {"why": "overload", "kind": "recording", "client": "ios/1"}  # else the first has no increase
    assert telemetry.registry.get_sample_value("cairn_refused_for_load_total", alarm) == 0
    assert telemetry.client("ios/2") == "ios/other"
    assert [telemetry.client(f"web/{number}") for number in range(300)][-1] == OTHER
    assert telemetry.client("web/1", signed_in=True) == "web/1"
    telemetry.meters.of("GET", "/v1/feed").answered(200, "web/1", 0.01)
    telemetry.refused.labels("rate", "read", "web/1").inc()
    assert "web/1" in generate_latest(telemetry.registry).decode()
    for number in range(2, 100):
        assert telemetry.client(f"web/{number}", signed_in=True) == f"web/{number}"
    assert telemetry.client("ios/1", signed_in=True) == "ios/1"  # so the other one is older
    assert [telemetry.client(f"new/{number}", signed_in=True) for number in range(2)] == ["new/0", OTHER]
    assert [telemetry.client(label) for label in ("ios/1", "web/1", "unnamed")] == ["ios/1", OTHER, "unnamed"]
    assert '"web/1"' not in generate_latest(telemetry.registry).decode()
