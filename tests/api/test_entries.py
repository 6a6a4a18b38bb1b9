"""Runs that were not recorded."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from tests.api.conftest import Runner, World
from tests.recordings import fit

ENTRY = {
    "sport": "running",
    "started_at": "2026-05-01T07:00:00Z",
    "distance_m": 5_000,
    "elapsed_s": 1_800,
    "moving_s": 1_750,
    "elevation_gain_m": 40,
}
GOAL = {"metric": "distance", "target": 10_000, "period": "custom", "starts_on": "2026-05-01", "ends_on": "2026-05-01"}


async def entered(runner: Runner, key: str | None = None, **changes: object) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return await runner("POST", "/activities", json={**ENTRY, **changes}, headers=headers)


async def count(runner: Runner, after: str) -> int:
    summaries = await runner.get("/me/summaries?period=all", after=after)
    return sum(item["count"] for item in summaries["items"])


async def test_an_entry_is_an_activity_like_any_other(anna: Runner, ben: Runner) -> None:
    await anna("PUT", f"/me/goals/{uuid4()}", json=GOAL)
    await ben("PUT", f"/me/following/{anna.user_id}")
    answer = await entered(anna, title="Without a watch", notes="It was at home.", utc_offset_s=7200)
    assert answer.status_code == 201
    activity_id, position = answer.json()["activity_id"], answer.headers["Cairn-Position"]
    assert answer.headers["Location"] == f"/v1/activities/{activity_id}"
    seen = await anna.get(f"/activities/{activity_id}", after=position)
    told = {name: seen[name] for name in ("title", "notes", "utc_offset_s", *ENTRY)}
    assert told == {**ENTRY, "title": "Without a watch", "notes": "It was at home.", "utc_offset_s": 7200}
    assert (seen["source"]["format"], seen["distance_source"]) == ("manual", "manual")
    assert (seen["avg_speed_mps"], seen["polyline"], seen["best_efforts"]) == (2.857, None, [])
    [item] = (await ben.get("/feed", after=position))["items"]
    assert item["activity_id"] == activity_id
    [day] = (await anna.get("/me/summaries?period=day", after=position))["items"]
    assert (day["starts_on"], day["distance_m"]) == ("2026-05-01", 5_000)
    [goal] = (await anna.get("/me/goals", after=position))["items"]
    assert goal["progress"] == 5_000


async def test_what_is_left_out_is_as_with_a_recording(anna: Runner) -> None:
    await anna("PATCH", "/me", json={"default_visibility": "followers"})
    answer = await anna("POST", "/activities", json={**ENTRY, "started_at": "2026-05-01T07:00:00+09:00"})
    seen = await anna.get(f"/activities/{answer.json()['activity_id']}", after=answer.headers["Cairn-Position"])
    assert (seen["title"], seen["visibility"], seen["utc_offset_s"]) == ("Morning run", "followers", 9 * 3600)
    assert seen["started_at"] == "2026-04-30T22:00:00Z"


async def test_an_entry_has_no_track_and_nothing_of_it_was_uploaded(anna: Runner, ben: Runner) -> None:
    answer = await entered(anna)
    path, position = f"/activities/{answer.json()['activity_id']}", answer.headers["Cairn-Position"]
    await anna.get(path, after=position)
    assert [(await anna("GET", f"{path}/{part}")).status_code for part in ("track", "original", "export.gpx")] == [
        404,
        404,
        409,
    ]
    assert (await anna("GET", f"{path}/original", headers={"If-None-Match": "*"})).status_code == 404
    assert "No map" in (await anna("GET", f"{path}/map.svg")).text
    for export in ("export.gpx", "export.fit"):
        assert "entered by hand" in (await anna("GET", f"{path}/{export}")).json()["detail"]
    state = await anna("GET", f"{path}/upload")
    assert (state.json()["status"], state.json()["activities"]) == ("ready", [answer.json()["activity_id"]])
    assert state.headers["Cairn-Position"] == position
    assert (await ben("GET", f"{path}/upload")).status_code == 404


async def test_an_entry_is_edited_and_deleted(anna: Runner) -> None:
    path = f"/activities/{(await entered(anna)).json()['activity_id']}"
    assert (await anna("PATCH", path, json={"title": "Treadmill"})).status_code == 204
    position = (await anna("DELETE", path)).headers["Cairn-Position"]
    assert await count(anna, position) == 0


async def test_an_entry_under_its_id_is_there_once_and_its_figures_stay(anna: Runner) -> None:
    own = str(uuid4())
    answers = [await entered(anna, activity_id=own, title=title) for title in ("First", "First", "Second")]
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert len({answer.headers["Cairn-Position"] for answer in answers}) == 1
    assert await count(anna, answers[0].headers["Cairn-Position"]) == 1
    other = await entered(anna, activity_id=own, distance_m=6_000)
    assert (other.status_code, other.json()["code"]) == (409, "recording-differs")


async def test_an_entry_without_id_and_key_is_known_by_its_figures(anna: Runner) -> None:
    first, again, other = [await entered(anna, distance_m=metres) for metres in (5_000, 5_000.0, 5_001)]
    assert first.content == again.content != other.content
    position = (await anna("DELETE", f"/activities/{first.json()['activity_id']}")).headers["Cairn-Position"]
    assert await count(anna, position) == 1
    anew = await entered(anna)
    assert anew.content not in (first.content, other.content)
    assert await count(anna, anew.headers["Cairn-Position"]) == 2


async def test_another_key_is_another_run(anna: Runner) -> None:
    first, second = await entered(anna, "one"), await entered(anna, "two")
    assert first.content != second.content
    assert await count(anna, second.headers["Cairn-Position"]) == 2


async def test_an_entry_and_a_recording_do_not_share_an_id(anna: Runner) -> None:
    """The one that came second is refused, and leaves nothing: its bytes may come again under another id."""
    manual, recorded, body = str(uuid4()), str(uuid4()), fit(301)
    position = (await entered(anna, activity_id=manual)).headers["Cairn-Position"]
    for answer in (  # before its bytes are taken: a phone that hears 202 may forget them
        await anna("PUT", f"/activities/{manual}", content=body),
        await anna("PUT", f"/activities/{manual}", content=body, headers={"Prefer": "wait=20"}),
        await anna("PUT", f"/activities/{manual}/chunks/0", content=body[:100]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "recording-differs")
    assert (await anna.get(f"/activities/{manual}/upload"))["status"] == "ready"
    assert [one["status"] for one in (await anna.get(f"/uploads?ids={manual}"))["items"]] == ["ready"]
    again = await entered(anna, activity_id=manual)
    assert (again.status_code, again.headers["Cairn-Position"]) == (201, position)
    await anna.get(f"/activities/{manual}", after=position)
    assert (await anna("GET", f"/activities/{manual}/track")).status_code == 404
    position = await anna.run(body, UUID(recorded))
    assert await count(anna, position) == 2
    late = await entered(anna, activity_id=recorded)
    assert (late.status_code, late.json()["code"]) == (409, "recording-differs")


async def test_the_id_of_anothers_run_is_not_found_and_not_to_be_taken(anna: Runner, ben: Runner) -> None:
    manual = str(uuid4())
    assert (await entered(anna, activity_id=manual)).status_code == 201
    body = fit(302)
    for answer in (
        await entered(ben, activity_id=manual),
        await ben("PUT", f"/activities/{manual}", content=body),
        await ben("PUT", f"/activities/{manual}", content=body, headers={"Prefer": "wait=20"}),
        await ben("PUT", f"/activities/{manual}/chunks/0", content=body[:100]),
    ):
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")
    assert (await anna.get(f"/activities/{manual}/upload"))["status"] == "ready"


async def test_what_was_sent_under_the_id_of_an_entry_while_nobody_could_tell_is_told_to_have_failed(
    anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads are taken in without Postgres, which knows of entries: the phone must hear that its run is not there."""
    monkeypatch.setattr("api.uploads._ROOM_SECONDS", 0.0)
    mine, other = str(uuid4()), str(uuid4())
    for manual in (mine, other):
        assert (await entered(anna, activity_id=manual)).status_code == 201
    for sender, manual, seed in ((anna, mine, 303), (ben, other, 304)):
        assert (await sender("PUT", f"/activities/{manual}", content=fit(seed))).status_code == 202
        async with asyncio.timeout(30):
            while (told := await sender.get(f"/activities/{manual}/upload"))["status"] == "processing":
                await asyncio.sleep(0.05)
        assert (told["status"], told["problem"]["code"]) == ("failed", "recording-differs")
        again = await sender("PUT", f"/activities/{manual}", content=fit(seed))
        assert (again.status_code, again.json()["code"]) == (409, "recording-differs")
    assert (await anna.get(f"/activities/{other}/upload"))["status"] == "ready"  # whatever others sent
    assert [one["status"] for one in (await anna.get(f"/uploads?ids={mine},{other}"))["items"]] == ["failed", "ready"]


IMPOSSIBLE: list[dict[str, Any]] = [
    {"sport": "chess"},
    {"started_at": "2026-05-01T07:00:00"},
    {"started_at": "1989-12-31T23:59:59Z"},
    {"started_at": (datetime.now(UTC) + timedelta(hours=25)).isoformat()},
    {"started_at": "9999-12-31T23:59:59-12:00"},
    {"started_at": "0001-01-01T00:00:00+12:00"},
    {"started_at": "0000-01-01T00:00:00Z"},
    {"started_at": 1_777_777_777_000},
    {"started_at": "2026-05-01T07:00:00+23:59"},
    {"started_at": "2026-05-01T07:00:00-12:15"},
    {"utc_offset_s": 90_000},
    {"distance_m": -1},
    {"distance_m": 1e8},
    {"distance_m": "5,0"},
    {"distance_m": True},
    {"distance_m": 50_000},
    {"elapsed_s": 0},
    {"elapsed_s": 2_000_000},
    {"moving_s": 1_900},
    {"moving_s": 0},
    {"elevation_gain_m": -5},
    {"elevation_gain_m": 1e6},
    {"title": "  "},
    {"title": "x" * 201},
    {"notes": "nul \x00"},
    {"visibility": "secret"},
    {"activity_id": "first"},
    {"activity_id": "6e7b0a52-2f0c-8a37-9c55-0c3a8f6f1d00"},
    {"user_id": str(uuid4())},
]


async def test_an_entry_that_cannot_be_is_refused(anna: Runner) -> None:
    answers = [await entered(anna, **changes) for changes in IMPOSSIBLE]
    taken = [changes for changes, answer in zip(IMPOSSIBLE, answers, strict=True) if answer.status_code != 422]
    assert taken == []
    assert {answer.json()["code"] for answer in answers} == {
        "invalid-body",
        "activity-id-reserved",
        "entry-impossible",
        "entry-out-of-time",
    }


def batch(*changes: Any) -> dict[str, list[Any]]:
    items = [
        {**ENTRY, "activity_id": str(uuid4()), **change} if isinstance(change, dict) else change for change in changes
    ]
    return {"items": items}


def verdicts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [item["status"] for item in answer.json()["items"]]


async def test_of_several_each_has_its_verdict(anna: Runner) -> None:
    body = batch({}, {"distance_m": -1}, {"notes": "Second."}, "no entry", {"activity_id": None}, {"moving_s": 9_000})
    answer = await anna("POST", "/activities/batch", json=body)
    assert verdicts(answer) == ["created", "refused", "created", "refused", "refused", "refused"]
    found = answer.json()["items"]
    assert [item.get("activity_id") for item in found] == [
        item.get("activity_id") if isinstance(item, dict) else None for item in body["items"]
    ]
    assert {item["problem"]["code"] for item in found if item["status"] == "refused"} == {
        "invalid-body",
        "entry-impossible",
    }
    assert await count(anna, answer.headers["Cairn-Position"]) == 2
    again = await anna("POST", "/activities/batch", json=body)
    assert verdicts(again) == ["exists", "refused", "exists", "refused", "refused", "refused"]
    assert again.headers["Cairn-Position"] == answer.headers["Cairn-Position"]


async def test_in_a_batch_the_first_of_one_id_counts(anna: Runner) -> None:
    one = str(uuid4())
    body = batch({"activity_id": one}, {}, {"activity_id": one, "distance_m": 1_000}, {"activity_id": one})
    answer = await anna("POST", "/activities/batch", json=body)
    assert verdicts(answer) == ["created", "created", "refused", "exists"]
    assert answer.json()["items"][2]["problem"]["code"] == "recording-differs"


async def test_a_batch_of_refusals_has_no_position(anna: Runner) -> None:
    answer = await anna("POST", "/activities/batch", json=batch({"sport": "chess"}))
    assert verdicts(answer) == ["refused"]
    assert "Cairn-Position" not in answer.headers


async def test_a_batch_is_the_same_however_it_is_written(anna: Runner) -> None:
    good, bad = {**ENTRY, "activity_id": str(uuid4())}, {"sport": "jog", "activity_id": str(uuid4())}
    headers = {"Idempotency-Key": "a batch", "Content-Type": "application/json"}
    written = [
        json.dumps({"items": [good, bad]}),
        json.dumps({"items": [dict(reversed(good.items())), dict(reversed(bad.items()))]}, indent=2),
    ]
    first, again = [await anna("POST", "/activities/batch", content=body, headers=headers) for body in written]
    assert [item["status"] for item in first.json()["items"]] == ["created", "refused"]
    assert (again.status_code, again.content) == (200, first.content)
    other = json.dumps({"items": [good, {**bad, "sport": "jogging"}]})
    answer = await anna("POST", "/activities/batch", content=other, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency-key-reused")


async def test_a_batch_has_one_to_a_hundred_entries(anna: Runner) -> None:
    wrong: list[object] = [[], [{}] * 101, {}, "many", None]
    for items in wrong:
        answer = await anna("POST", "/activities/batch", json={"items": items})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body"), items


async def test_a_hundred_with_long_notes_are_one_request(anna: Runner) -> None:
    answer = await anna("POST", "/activities/batch", json=batch(*[{"notes": "n" * 5_000}] * 100))
    assert verdicts(answer) == ["created"] * 100


async def test_a_batch_many_times_at_once_is_entered_once(world: World, anna: Runner) -> None:
    body, headers = batch(*[{}] * 20), {"Idempotency-Key": "one sync"}
    answers = await asyncio.gather(
        *(anna("POST", "/activities/batch", json=body, headers=headers) for _ in range(4)),
        *(anna("POST", "/activities/batch", json=body) for _ in range(4)),
    )
    keyed = {answer.content for answer in answers[:4]}
    assert len(keyed) == 1
    assert await count(anna, answers[0].headers["Cairn-Position"]) == 20
    events = "SELECT count(*) FROM stored_events WHERE owner_id = %s AND topic LIKE 'activity.%%'"
    async with world.parts.read_models.connection() as connection:
        assert await (await connection.execute(events, (anna.user_id,))).fetchone() == (20,)
