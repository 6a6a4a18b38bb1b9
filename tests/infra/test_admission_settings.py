from ipaddress import ip_network

import pytest

from infra.admission_settings import RATES, AdmissionSettings, load_admission
from infra.faults import Fault


def test_without_settings_the_defaults_hold() -> None:
    assert load_admission({}) == AdmissionSettings()


def test_what_is_set_goes_over_the_defaults() -> None:
    settings = load_admission(
        {
            "CAIRN_RATE_LIMITS": "recording=600/60, read=5/1",
            "CAIRN_CONCURRENCY": "8-64",
            "CAIRN_TRUSTED_PROXIES": "10.0.0.0/8, ::1",
        }
    )
    assert settings.rates == {**RATES, "recording": (600, 60), "read": (5, 1)}
    assert (settings.least, settings.most) == (8, 64)
    assert settings.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CAIRN_RATE_LIMITS", "reading=1/1", r"NAME=REQUESTS/SECONDS.*The names: recording,"),
        ("CAIRN_RATE_LIMITS", "read=0/1", "NAME=REQUESTS/SECONDS"),
        ("CAIRN_RATE_LIMITS", "read=1/-1", "NAME=REQUESTS/SECONDS"),
        ("CAIRN_RATE_LIMITS", "read=1/90000", "NAME=REQUESTS/SECONDS"),
        ("CAIRN_RATE_LIMITS", "read=²/1", "NAME=REQUESTS/SECONDS"),
        ("CAIRN_RATE_LIMITS", "read=" + "9" * 5000 + "/1", "NAME=REQUESTS/SECONDS"),
        ("CAIRN_CONCURRENCY", "64", "LEAST-MOST"),
        ("CAIRN_CONCURRENCY", "64-8", "LEAST-MOST"),
        ("CAIRN_TRUSTED_PROXIES", "10.0.0.1/8", "addresses or networks"),
    ],
)
def test_what_is_not_valid_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(Fault, match=told):
        load_admission({name: value})
