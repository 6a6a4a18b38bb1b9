import math
from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest

from domain.client_settings import AppVersions, ClientSettings, Feature, Purpose
from tests.scenarios import ANNA, BEN

DEVICES = [UUID(int=number << 80, version=4) for number in range(4_000)]
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_devices_are_spread_evenly_over_the_interval() -> None:
    """By the detector of synchronised clients (Rayleigh): these ask at no time more than at another."""
    settings, interval = ClientSettings(), 900
    phases = [settings.phase_s(Purpose.SYNC, device) for device in DEVICES]
    assert all(0 <= phase < interval for phase in phases)
    angles = [2 * math.pi * phase / interval for phase in phases]
    vector = math.hypot(sum(map(math.cos, angles)), sum(map(math.sin, angles)))
    assert vector**2 / len(angles) < 13.8  # p > 1e-6, of one fixed set of devices
    tenths = [sum(int(phase // (interval / 10)) == tenth for phase in phases) for tenth in range(10)]
    assert max(tenths) < 1.3 * min(tenths)
    whole_minutes = sum(phase % 60 < 1 for phase in phases)
    assert whole_minutes < 1.5 * len(phases) / 60


def test_a_device_s_next_time_stays_until_it_has_come_and_the_next_is_an_interval_later() -> None:
    settings = ClientSettings(polls={Purpose.SYNC: 600})
    first = settings.next_at(Purpose.SYNC, DEVICES[1], NOON)
    assert NOON < first <= NOON + timedelta(seconds=600)
    assert settings.next_at(Purpose.SYNC, DEVICES[1], first - timedelta(microseconds=1)) == first
    assert settings.next_at(Purpose.SYNC, DEVICES[1], first) == first + timedelta(seconds=600)
    assert first.timestamp() % 600 == pytest.approx(settings.phase_s(Purpose.SYNC, DEVICES[1]))


def test_a_feature_is_on_for_its_share_and_those_who_have_it_keep_it_as_it_grows() -> None:
    before: set[UUID] = set()
    for percent in (0, 1, 25, 100):
        now = {device for device in DEVICES if Feature(percent).is_on("maps", device, None)}
        assert len(now) == pytest.approx(len(DEVICES) * percent / 100, rel=0.1, abs=30)
        assert before <= now
        before = now


def test_two_features_are_for_different_users() -> None:
    both = sum(Feature(50).is_on("one", device, None) and Feature(50).is_on("two", device, None) for device in DEVICES)
    assert both == pytest.approx(len(DEVICES) / 4, rel=0.1)


def test_a_feature_by_device_is_the_same_for_all_users_of_it() -> None:
    feature = Feature(50, "device")
    assert all(feature.is_on("x", ANNA, device) is feature.is_on("x", BEN, device) for device in DEVICES[:50])


@pytest.mark.parametrize(
    ("version", "level"),
    [
        ((9,), None),
        ((9, 0), None),
        ((8, 9, 9), "recommended"),
        ((8, 0), "recommended"),
        ((7, 10), "required"),
        ((), None),
    ],
)
def test_an_app_is_told_to_upgrade(version: tuple[int, ...], level: str | None) -> None:
    settings = ClientSettings(apps={"ios": AppVersions("8.0.0", "9.0", "https://store.example/cairn")})
    found = settings.upgrade("ios", version)
    assert (found and found.level) == level
    assert settings.upgrade("android", version) is None


@pytest.mark.parametrize(
    "document",
    [
        {"polls": {"sync": 1}},
        {"polls": {"naps": 60}},
        {"polls": {"sync": 6e7}},
        {"features": {"Maps": {"percent": 5}}},
        {"features": {"maps": {"percent": 101}}},
        {"features": {"maps": {"percent": math.nan}}},
        {"features": {"maps": {"percent": 5, "by": "mood"}}},
        {"apps": {"ios": {"required": "nine"}}},
        {"apps": {"ios": {"url": "http://store.example"}}},
        {"apps": {"ios": {"url": "javascript:alert(1)"}}},
        {"switched_off": ["a b"]},
        {"other": 1},
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(document: object) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(document, ClientSettings)
