from datetime import timedelta
from uuid import uuid4

import httpx
import psycopg
import pytest

from domain.follow import follow_id
from domain.measures import UserId
from domain.user import user_stream_id
from tests.api.conftest import Runner, World
from tests.recordings import STARTED, fit, gpx


async def test_best_efforts_are_those_of_what_is_a_run_by_now(anna: Runner) -> None:
    path = f"/activities/{(activity_id := uuid4())}"
    position = await anna.run(fit(36, kilometres=1.2), activity_id, sport="cycling")
    assert (await anna.get(path, after=position))["best_efforts"] == []
    for sport, efforts in (("running", ["400 m", "1/2 mile", "1 km"]), ("skating", [])):
        answer = await anna("PATCH", path, json={"sport": sport})
        seen = await anna.get(path, after=answer.headers["Cairn-Position"])
        assert (seen["sport"], [effort["name"] for effort in seen["best_efforts"]]) == (sport, efforts)


async def test_an_activity_has_everything_that_its_screen_shows(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(30, kilometres=5.3), activity_id, title="Round the park", visibility="followers")
    seen = await anna.get(f"/activities/{activity_id}", after=position)
    assert (seen["title"], seen["visibility"], seen["user_id"]) == ("Round the park", "followers", str(anna.user_id))
    assert seen["started_at"] == STARTED.isoformat().replace("+00:00", "Z")
    assert [round(split["distance_m"]) for split in seen["splits"]] == [1000] * 5 + [round(seen["distance_m"] - 5000)]
    assert sum(split["elapsed_s"] for split in seen["splits"]) == pytest.approx(seen["elapsed_s"], abs=0.1)
    assert [effort["name"] for effort in seen["best_efforts"]] == ["400 m", "1/2 mile", "1 km", "1 mile", "5 km"]
    assert seen["moving_s"] < seen["elapsed_s"]
    for name in ("avg_speed_mps", "max_speed_mps", "avg_heart_rate_bpm", "max_heart_rate_bpm", "avg_cadence_spm"):
        assert seen[name] > 0
    assert seen["polyline"]
    assert (seen["kudos_count"], seen["comment_count"]) == (0, 0)


async def test_a_track_comes_in_columns(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(31), activity_id)
    track = await anna.get(f"/activities/{activity_id}/track", after=position)
    lengths = {name: len(values) for name, values in track["columns"].items()}
    assert set(lengths.values()) == {track["points"]}
    assert {"t", "lat", "lon", "altitude_m", "distance_m", "heart_rate_bpm", "cadence_spm", "speed_mps"} == set(lengths)
    thin = await anna.get(f"/activities/{activity_id}/track?columns=t,lat&max_points=10")
    assert set(thin["columns"]) == {"t", "lat"}
    assert len(thin["columns"]["t"]) == 10
    assert (thin["columns"]["t"][0], thin["columns"]["t"][-1]) == (0, track["columns"]["t"][-1])


@pytest.mark.parametrize("query", ["columns=t,height", "columns=", "max_points=1", "max_points=many"])
async def test_a_track_is_asked_for_rightly_or_not_at_all(anna: Runner, query: str) -> None:
    activity_id = uuid4()
    await anna.run(fit(32), activity_id)
    answer = await anna("GET", f"/activities/{activity_id}/track?{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter")


def told(answer: httpx.Response) -> tuple[int, bytes, str]:
    """All of an answer but how much may still be asked."""
    headers = {name: value for name, value in answer.headers.items() if not name.startswith("ratelimit")}
    return answer.status_code, answer.content, str(sorted(headers.items()))


async def test_missing_foreign_hidden_and_deleted_look_alike(anna: Runner, ben: Runner) -> None:
    private, deleted = uuid4(), uuid4()
    await anna.run(fit(33), private, visibility="private")
    await anna.run(fit(34), deleted)
    position = (await anna("DELETE", f"/activities/{deleted}")).headers["Cairn-Position"]
    await anna.get("/feed", after=position)
    seen = set()
    for hidden in (uuid4(), private, deleted):
        for method, path, more in (
            ("GET", "", {}),
            ("GET", "/track", {}),
            ("GET", "/upload", {}),
            ("PATCH", "", {"json": {"title": "mine"}}),
            ("DELETE", "", {}),
        ):
            answer = await ben(method, f"/activities/{hidden}{path}", **more)
            seen.add(told(answer))
    seen.add(told(await ben("PUT", f"/activities/{private}", content=fit(35))))
    assert len(seen) == 1
    assert seen.pop()[0] == 404


async def test_followers_see_what_is_for_followers(anna: Runner, ben: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(36), activity_id, visibility="followers")
    assert (await ben("GET", f"/activities/{activity_id}")).status_code == 404
    position = (await ben("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    assert (await ben.get(f"/activities/{activity_id}", after=position))["title"]
    assert len((await ben.get(f"/users/{anna.user_id}/activities"))["items"]) == 1


async def test_an_edit_is_seen_everywhere(anna: Runner) -> None:
    activity_id = uuid4()
    await anna.run(gpx(37), activity_id)
    edited = await anna("PATCH", f"/activities/{activity_id}", json={"title": "A hike", "sport": "hiking"})
    assert edited.status_code == 204
    position = edited.headers["Cairn-Position"]
    assert (await anna.get(f"/activities/{activity_id}", after=position))["sport"] == "hiking"
    [week] = (await anna.get("/me/summaries", after=position))["items"]
    assert list(week["by_sport"]) == ["hiking"]


async def test_notes_are_free_text_that_those_see_who_see_the_activity(anna: Runner, ben: Runner) -> None:
    activity_id, notes = uuid4(), "Rain.\n\nNew shoes: \U0001f45f \x01" + "x" * 4_900
    position = await anna.run(fit(46), activity_id, visibility="public")
    assert (await anna.get(f"/activities/{activity_id}", after=position))["notes"] == ""
    position = (await anna("PATCH", f"/activities/{activity_id}", json={"notes": notes})).headers["Cairn-Position"]
    assert (await ben.get(f"/activities/{activity_id}", after=position))["notes"] == notes
    for path in ("/feed", f"/users/{anna.user_id}/activities"):
        assert "notes" not in (await anna.get(path, after=position))["items"][0]
    position = (await anna("PATCH", f"/activities/{activity_id}", json={"notes": ""})).headers["Cairn-Position"]
    assert (await anna.get(f"/activities/{activity_id}", after=position))["notes"] == ""


async def test_notes_stand_sealed_in_the_log(world: World, anna: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(47), activity_id)
    await anna("PATCH", f"/activities/{activity_id}", json={"notes": "a secret of Anna's"})
    query = "SELECT topic, state FROM stored_events WHERE originator_id = %s ORDER BY originator_version"
    with psycopg.connect(world.settings.database_url) as database:
        stored = database.execute(query, (activity_id,)).fetchall()
    assert [topic for topic, _ in stored] == ["activity.recorded@2", "activity.edited@2"]
    assert not any(b"secret" in state for _, state in stored)


@pytest.mark.parametrize("notes", [b'"\\u0000"', b'"\\ud800"', b'"' + b"x" * 5_001 + b'"', b"null", b"5"])
async def test_notes_that_are_no_notes_are_refused(anna: Runner, notes: bytes) -> None:
    answer = await anna(
        "PATCH",
        f"/activities/{uuid4()}",
        content=b'{"notes": ' + notes + b"}",
        headers={"Content-Type": "application/json"},
    )
    assert answer.json()["code"] in {"invalid-body", "malformed-body"}


async def test_streams_of_other_kinds_are_no_activities(anna: Runner, ben: Runner) -> None:
    await anna("PUT", f"/me/following/{ben.user_id}")
    for stream in (user_stream_id(UserId(anna.user_id)), follow_id(UserId(anna.user_id), UserId(ben.user_id))):
        assert (await anna("DELETE", f"/activities/{stream}")).status_code == 404
        assert (await anna("PATCH", f"/activities/{stream}", json={"title": "x"})).status_code == 404
        assert (await anna("GET", f"/activities/{stream}")).status_code == 404


@pytest.mark.parametrize("patch", [{"title": " "}, {"visibility": "all"}, {"distance_m": 42195}, {"title": None}, []])
async def test_an_edit_changes_nothing_else(anna: Runner, patch: object) -> None:
    activity_id = uuid4()
    await anna.run(fit(38), activity_id)
    assert (await anna("PATCH", f"/activities/{activity_id}", json=patch)).status_code == 422


async def test_a_deleted_run_leaves_lists_and_sums_and_stays_away(anna: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(39), activity_id)
    positions = [(await anna("DELETE", f"/activities/{activity_id}")).headers["Cairn-Position"] for _ in range(2)]
    for path in ("/feed", "/me/summaries", f"/users/{anna.user_id}/activities"):
        assert (await anna.get(path, after=positions[-1]))["items"] == []


async def test_lists_come_in_pages(anna: Runner) -> None:
    ids = [uuid4() for _ in range(3)]
    starts = [STARTED + timedelta(hours=number) for number in range(3)]
    positions = [await anna.run(fit(40, started_at=start), one) for one, start in zip(ids, starts, strict=True)]
    for path in ("/feed", f"/users/{anna.user_id}/activities"):
        first = await anna.get(f"{path}?limit=2", after=positions[-1])
        rest = await anna.get(f"{path}?limit=2&cursor={first['next_cursor']}")
        assert {item["activity_id"] for item in [*first["items"], *rest["items"]]} == set(map(str, ids))
        assert rest["next_cursor"] is None


async def test_cursors_are_not_for_others(anna: Runner, ben: Runner) -> None:
    position = await anna.run(fit(45))
    cursor = (await anna.get("/feed?limit=1", after=position))["next_cursor"]
    wrong = ((ben, "/feed", cursor), (anna, f"/users/{anna.user_id}/activities", cursor), (anna, "/feed", "A" * 500))
    for runner, path, sent in wrong:
        answer = await runner("GET", f"{path}?cursor={sent}")
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed-cursor")


async def test_what_a_client_has_already_is_not_sent_again(anna: Runner) -> None:
    position = await anna.run(fit(46))
    await anna.get("/feed", after=position)
    first = await anna("GET", "/feed")
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert first.headers["Vary"] == "Authorization, Accept-Encoding"
    again = await anna("GET", "/feed", headers={"If-None-Match": f'"other", {first.headers["ETag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    other = await anna("GET", "/feed", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
