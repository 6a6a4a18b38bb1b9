"""Ten thousand apps after an outage, on a virtual clock."""

import random

import pytest

from api.client.pacing import WATCHED, Pacer, Pacing
from tests.api.outages import FixedPauses, outage


def pacer(pacing: Pacing | None = None) -> Pacer:
    return Pacer(random.Random(1), pacing)


def test_after_a_minute_s_outage_ten_thousand_apps_come_back_gently() -> None:
    came = outage(Pacer)
    assert came.peak <= 1.5
    assert came.requests_a_sync < 2


def test_what_a_fixed_interval_does_instead() -> None:
    assert outage(lambda _: FixedPauses(5.0)).peak > 4


def test_the_usual_load_may_be_half_of_the_capacity() -> None:
    came = outage(Pacer, capacity=333)
    assert came.usual > 0.5
    assert came.peak <= 1.5


def test_quick_retries_are_a_fifth_of_the_requests_and_two_in_reserve() -> None:
    apps = pacer()
    pauses = [apps.failed(now, asked_at=now) for now in map(float, range(100))]
    assert sum(pause <= 2 for pause in pauses[:2]) == 2
    assert max(pauses) > 50
    for _ in range(5):
        apps.succeeded()
    assert apps.failed(200, asked_at=200) <= 0.5  # earned again
    assert max(apps.failed(now, asked_at=now) for now in map(float, range(300, 350))) > 50


def test_a_pause_is_never_shorter_than_told_and_never_the_same_for_all() -> None:
    pauses = [Pacer(random.Random(seed)).failed(0, asked_at=0, told=7) for seed in range(100)]
    assert min(pauses) >= 7
    assert max(pauses) < 7 + 1 + 0.5
    assert len(set(pauses)) == 100
    assert pacer().told(10**9) < 3_602


def test_who_is_told_waits_alone_and_who_hears_nothing_stops_all() -> None:
    app = pacer()
    app.failed(0, asked_at=0, told=7)
    assert app.wait(0) == 0
    pause = app.failed(10, asked_at=10)
    assert app.wait(10) == pytest.approx(pause)
    assert not app.is_well
    app.succeeded()
    assert (app.wait(10), app.is_well) == (0, True)


def test_requests_that_fail_together_count_once() -> None:
    app, alone = pacer(WATCHED), pacer(WATCHED)
    pauses = [app.failed(1.0, asked_at=0.5) for _ in range(8)]
    assert pauses == pytest.approx([alone.failed(1.0, asked_at=0.5)] * 8)


def test_a_connection_that_breaks_off_costs_no_retry_as_long_as_others_go_well() -> None:
    app = pacer()
    for now in map(float, range(200)):
        assert app.failed(now, asked_at=now, broke=True) <= 0.5
        app.succeeded()
