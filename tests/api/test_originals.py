from uuid import uuid4

import pytest

from tests.api.conftest import Runner, World
from tests.recordings import TCX, fit, gpx


@pytest.mark.parametrize(
    ("body", "media_type", "suffix"),
    [
        (fit(80, kilometres=9), "application/vnd.ant.fit", "fit"),
        (gpx(80, kilometres=9), "application/gpx+xml", "gpx"),
        (TCX, "application/vnd.garmin.tcx+xml", "tcx"),
    ],
)
async def test_a_recording_comes_back_as_it_was_sent(anna: Runner, body: bytes, media_type: str, suffix: str) -> None:
    activity_id = uuid4()
    position = await anna.run(body, activity_id)
    answer = await anna.later(f"/activities/{activity_id}/original", position)
    assert answer.status_code == 200
    assert answer.content == body
    assert answer.headers["Content-Type"] == media_type
    assert answer.headers["Content-Disposition"].endswith(f'.{suffix}"')
    again = await anna("GET", f"/activities/{activity_id}/original", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_it_is_for_who_sent_it_only(anna: Runner, ben: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(81), activity_id, visibility="public")
    hidden, missing = [await ben("GET", f"/activities/{one}/original") for one in (activity_id, uuid4())]
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content) == (404, missing.content)


async def test_once_the_key_is_destroyed_it_is_gone(world: World, anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(82), activity_id)
    await anna.get(f"/activities/{activity_id}", after=position)
    await world.parts.keys.destroy(anna.user_id)
    assert (await anna("GET", f"/activities/{activity_id}/original")).status_code == 404
