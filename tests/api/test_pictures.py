from itertools import product
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from lxml import etree

from tests.api.conftest import Runner
from tests.recordings import fit

PICTURES = ["map.svg", "elevation.svg", "pace.svg"]


def recording(**points: list[Any]) -> bytes:
    return msgspec.json.encode({"started_at": "2026-05-01T07:00:00Z", "sport": "running", "points": points})


def words(svg: bytes) -> list[str]:
    return ["".join(map(str, element.itertext())) for element in etree.fromstring(svg).iter("{*}text")]


@pytest.mark.parametrize("picture", PICTURES)
async def test_a_picture_stands_by_itself_and_is_known_again(anna: Runner, picture: str) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(70, kilometres=5), activity_id, title="<script>alert(1)</script>")
    path = f"/activities/{activity_id}/{picture}"
    made = await anna.later(path, position)
    assert made.status_code == 200
    assert made.headers["Content-Type"] == "image/svg+xml"
    assert made.headers["X-Content-Type-Options"] == "nosniff"
    assert made.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert made.headers["Cache-Control"] == "private, no-cache"
    assert b"alert" not in made.content
    root = etree.fromstring(made.content)
    assert (root.get("width"), root.get("height")) == ("600", "300")
    known = await anna("GET", path, headers={"If-None-Match": made.headers["ETag"]})
    assert (known.status_code, known.content) == (304, b"")
    other = await anna("GET", f"{path}?theme=dark&width=320&height=160&units=imperial")
    assert other.headers["ETag"] != made.headers["ETag"]
    assert etree.fromstring(other.content).get("viewBox") == "0 0 320 160"


async def test_a_picture_is_asked_for_rightly_or_not_at_all(anna: Runner) -> None:
    wrong = ["theme=blue", "width=99", "width=2001", "height=1", "height=wide", "units=furlongs", "width=nan"]
    for picture, query in product(PICTURES, wrong):
        answer = await anna("GET", f"/activities/{uuid4()}/{picture}?{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter"), query
        assert query.partition("=")[0] in answer.json()["errors"][0]


async def test_who_may_not_see_an_activity_sees_no_picture_of_it(anna: Runner, ben: Runner) -> None:
    hidden, shown = uuid4(), uuid4()
    await anna.run(fit(71), hidden, visibility="private")
    await anna.run(fit(72), shown, visibility="public")
    for picture in PICTURES:
        missing, refused = [await ben("GET", f"/activities/{it}/{picture}") for it in (uuid4(), hidden)]
        assert (refused.status_code, refused.content) == (404, missing.content)
        assert dict(refused.headers) == dict(missing.headers)
        assert (await ben("GET", f"/activities/{shown}/{picture}")).status_code == 200
        unknown = await anna.http.get(f"/v1/activities/{shown}/{picture}")
        assert (unknown.status_code, unknown.json()["code"]) == (401, "token-refused")


@pytest.mark.parametrize(
    ("points", "missing"),
    [
        ({"t": [0, 60], "heart_rate_bpm": [100, 120]}, ["map", "elevation", "pace"]),
        ({"t": [0], "lat": [52.5], "lon": [13.4], "altitude_m": [30]}, ["map", "elevation", "pace"]),
        ({"lat": [52.5, 52.51], "lon": [13.4, 13.4], "altitude_m": [30, 40]}, ["pace"]),
        ({"t": [0, 300], "lat": [52.5, 52.51], "lon": [13.4, 13.4]}, ["elevation"]),
    ],
)
async def test_what_was_not_recorded_is_said_in_the_picture(
    anna: Runner, points: dict[str, list[Any]], missing: list[str]
) -> None:
    activity_id = uuid4()
    await anna.run(recording(**points), activity_id)
    for picture in PICTURES:
        answer = await anna("GET", f"/activities/{activity_id}/{picture}")
        assert answer.status_code == 200, answer.text
        kind = picture.removesuffix(".svg")
        assert (words(answer.content) == [f"No {kind} for this activity"]) == (kind in missing)


async def test_pictures_and_files_are_documented_as_what_they_are(anna: Runner) -> None:
    paths = (await anna.http.get("/openapi.json")).json()["paths"]
    kinds = {"map.svg": "image/svg+xml", "elevation.svg": "image/svg+xml", "pace.svg": "image/svg+xml"}
    kinds |= {"export.gpx": "application/gpx+xml", "export.fit": "application/vnd.ant.fit"}
    for name, kind in kinds.items():
        answers = paths[f"/v1/activities/{{activity_id}}/{name}"]["get"]["responses"]
        assert list(answers["200"]["content"]) == [kind]
        assert answers["404"] == {"$ref": "#/components/responses/Problem404"}


async def test_a_larger_map_shows_more_of_the_way(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(97, kilometres=8), activity_id)
    await anna.get(f"/activities/{activity_id}", after=position)
    sizes = [
        len((await anna("GET", f"/activities/{activity_id}/map.svg?width={width}")).content)
        for width in (150, 600, 2000)
    ]
    assert sizes[0] < sizes[1] < sizes[2]
