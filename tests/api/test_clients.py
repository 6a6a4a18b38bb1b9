from uuid import UUID

import pytest

from api.clients import NOBODY, client_of, version_of
from api.telemetry import OTHER, Telemetry

PHONE = UUID("6f9619ff-8b86-d011-b42d-00cf4fc964ff")


def test_an_app_says_its_name_version_and_device() -> None:
    client = client_of(f"ios/9.4.1; device={PHONE}".encode())
    assert (client.app, client.version, client.label, client.device) == ("ios", (9, 4, 1), "ios/9.4.1", PHONE)


def test_a_device_may_be_left_out_and_other_facts_may_be_there() -> None:
    assert client_of(b"Android/10.0.0-beta2").version == (10, 0)
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
        "ios/9" + f"; a={'x' * 70}" * 8,  # too long to be remembered
    ],
)
def test_what_cannot_be_read_is_nobodys(header: str) -> None:
    assert client_of(header.encode("latin-1")) is NOBODY


def test_versions_compare_as_numbers() -> None:
    assert version_of("9.10") > version_of("9.9.9") > version_of("9")


def test_a_client_cannot_make_labels_without_end() -> None:
    telemetry = Telemetry()
    assert telemetry.client("ios/1") == "ios/1"
    alarm = {"why": "overload", "kind": "recording", "client": "ios/1"}  # else the first has no increase
    assert telemetry.registry.get_sample_value("cairn_refused_for_load_total", alarm) == 0
    assert [telemetry.client(f"ios/{number}") for number in range(2, 300)][-1] == OTHER
    assert telemetry.client("ios/1") == "ios/1"
