import re
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.exports import Totals
from domain.recordings.recording import Column
from infra.formats import parse
from infra.formats.fit_writer import write_fit
from tests.api.conftest import Runner, World
from tests.recordings import fit, gpx, session

TITLE = 'Früh "<&>" spät\r\nX-Evil: 1'


def recording(**points: list[Any]) -> bytes:
    return msgspec.json.encode({"started_at": "2026-05-01T07:00:00.250Z", "sport": "running", "points": points})


async def test_a_gpx_has_what_was_recorded(anna: Runner) -> None:
    activity_id, nan = uuid4(), float("nan")
    sent: dict[str, list[Any]] = {
        "t": [0, 1.001, 2.5, 60],
        "lat": [52.5, 52.5000001, None, 52.51],
        "lon": [13.4, 13.3999999, None, 13.41],
        "altitude_m": [30.12, -3.5, 31, None],
        "heart_rate_bpm": [None, 121, 122, 123],
        "cadence_spm": [171, 172, None, 0],
        "power_w": [250, None, 251, 252],
        "temperature_c": [-5, 20.5, 20, 21],
    }
    position = await anna.run(recording(**sent), activity_id, title=TITLE)
    answer = await anna.later(f"/activities/{activity_id}/export.gpx", position)
    assert answer.headers["Content-Type"] == "application/gpx+xml"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="2026-05-01-0700-running.gpx"'
    found = parse(answer.content)
    (session,) = found.sessions
    assert (session.sport, session.started_at, found.warnings) == (
        Sport.RUNNING,
        parse(recording(**sent)).sessions[0].started_at,
        (),
    )
    assert re.sub(r"\s+", " ", session.title or "") == re.sub(r"\s+", " ", TITLE)
    for name, values in sent.items():
        kept = [nan if value is None else value for row, value in enumerate(values) if row != 2]
        np.testing.assert_array_equal(session.columns[Column(name)], kept, err_msg=name)


async def test_a_fit_has_what_was_recorded(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(80), activity_id, title="Früh spät", sport="hiking")
    answer = await anna.later(f"/activities/{activity_id}/export.fit", position)
    assert answer.headers["Content-Type"] == "application/vnd.ant.fit"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="2026-05-01-0700-hiking.fit"'
    before, after = parse(fit(80)).sessions[0], parse(answer.content).sessions[0]
    assert (after.title, after.sport, after.started_at) == ("Früh spät", Sport.HIKING, before.started_at)
    for name, column in before.columns.items():
        np.testing.assert_allclose(after.columns[name], column, atol=1e-7, err_msg=name)
    known = await anna(
        "GET", f"/activities/{activity_id}/export.fit", headers={"If-None-Match": answer.headers["ETag"]}
    )
    assert known.status_code == 304


async def test_an_export_comes_in_again_as_the_same_run(world: World, anna: Runner) -> None:
    first = uuid4()
    position = await anna.run(gpx(81), first)
    told = await anna.get(f"/activities/{first}", after=position)
    for kind in ("gpx", "fit"):
        again, other = uuid4(), await world.runner("Other")
        file = (await anna("GET", f"/activities/{first}/export.{kind}")).content
        seen = await other.get(f"/activities/{again}", after=await other.run(file, again))
        assert seen["started_at"] == told["started_at"]
        assert seen["distance_m"] == pytest.approx(told["distance_m"], rel=0.001)
        assert seen["elapsed_s"] == told["elapsed_s"]
        assert seen["avg_heart_rate_bpm"] == told["avg_heart_rate_bpm"]


async def test_a_fit_says_the_activity_s_own_totals(anna: Runner) -> None:
    activity_id = uuid4()
    watch = Totals(distance_m=3_000.0, elapsed_s=4_034.862, moving_s=900.0)  # longer than its points
    position = await anna.run(write_fit(session(83), watch), activity_id)
    told = await anna.get(f"/activities/{activity_id}", after=position)
    assert told["elapsed_s"] == watch.elapsed_s
    (found,) = parse((await anna("GET", f"/activities/{activity_id}/export.fit")).content).sessions
    said = {
        "distance_m": found.device.distance_m,
        "elapsed_s": found.device.elapsed_s,
        "moving_s": found.device.timer_s,
    }
    assert said == {name: told[name] for name in said}


async def test_a_fit_is_of_the_runner_s_own_day(world: World, anna: Runner) -> None:
    watch = Totals(3_000.0, 1_500.0, 900.0, calories_kcal=300, utc_offset_s=-11 * 3600)
    position = await anna.run(write_fit(session(84), watch), first := uuid4())
    told = await anna.get(f"/activities/{first}", after=position)
    file = (await anna("GET", f"/activities/{first}/export.fit")).content
    other = await world.runner("Other")
    position = await other.run(file, again := uuid4())
    seen = await other.get(f"/activities/{again}", after=position)
    assert (told["utc_offset_s"], told["calories_kcal"]) == (-11 * 3600, 300)
    assert [seen[name] for name in ("utc_offset_s", "calories_kcal")] == [-11 * 3600, 300]


async def test_a_fit_says_what_only_the_device_told(world: World, anna: Runner) -> None:
    bare = replace(session(85), columns={Column.T: np.arange(1_501.0)})
    watch = Totals(3_000.0, 1_500.0, 900.0, elevation_gain_m=250, avg_heart_rate_bpm=151, max_heart_rate_bpm=172)
    position = await anna.run(write_fit(bare, watch), first := uuid4())
    await anna.get(f"/activities/{first}", after=position)
    file = (await anna("GET", f"/activities/{first}/export.fit")).content
    other = await world.runner("Other")
    seen = await other.get(f"/activities/{(again := uuid4())}", after=await other.run(file, again))
    said = [seen[name] for name in ("elevation_gain_m", "avg_heart_rate_bpm", "max_heart_rate_bpm")]
    assert said == [250, 151, 172]


async def test_a_fit_says_no_climb_where_nobody_knows_of_one(anna: Runner) -> None:
    bare = replace(session(86), columns={Column.T: np.arange(1_501.0)})
    position = await anna.run(write_fit(bare, Totals(3_000.0, 1_500.0, 900.0)), activity_id := uuid4())
    answer = await anna.later(f"/activities/{activity_id}/export.fit", position)
    assert parse(answer.content).sessions[0].device.ascent_m is None


@pytest.mark.parametrize("file", ["export.gpx", "export.fit"])
async def test_exports_are_their_owners_alone(anna: Runner, ben: Runner, file: str) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(82), activity_id, visibility="public")
    await ben.get(f"/activities/{activity_id}", after=position)
    missing, others = [await ben("GET", f"/activities/{it}/{file}") for it in (uuid4(), activity_id)]
    assert (others.status_code, others.content, dict(others.headers)) == (404, missing.content, dict(missing.headers))
    assert (await anna.http.get(f"/v1/activities/{activity_id}/{file}")).status_code == 401


@pytest.mark.parametrize(
    ("points", "file", "code"),
    [
        ({"t": [0, 60], "heart_rate_bpm": [100, 120]}, "export.gpx", "export-needs-positions"),
        ({"lat": [52.5, 52.51], "lon": [13.4, 13.4]}, "export.fit", "export-needs-times"),
    ],
)
async def test_what_a_format_cannot_say_is_refused_with_the_other_named(
    anna: Runner, points: dict[str, list[Any]], file: str, code: str
) -> None:
    activity_id = uuid4()
    position = await anna.run(recording(**points), activity_id)
    refused = await anna.later(f"/activities/{activity_id}/{file}", position)
    assert (refused.status_code, refused.json()["code"]) == (409, code)
    other = {"export.gpx": "export.fit", "export.fit": "export.gpx"}[file]
    assert other[-3:].upper() in refused.json()["detail"]
    assert (await anna("GET", f"/activities/{activity_id}/{other}")).status_code == 200
