"""`/changes`: each thing once, as it is now; nothing is missed, whoever writes meanwhile."""

import asyncio
import random
import struct
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.cursors import Cursors
from infra.projecting.refolded import note_refolded
from tests.api.conftest import Runner, World
from tests.api.mirror import Mirror, on_the_server, settled
from tests.recordings import STARTED, fit

GOAL = {"metric": "distance", "target": 10_000, "period": "month", "starts_on": "2026-01-01"}


async def wrote(runner: Runner, method: str, path: str, **more: Any) -> str:
    answer = await runner(method, path, **more)
    assert answer.status_code == 204, answer.text
    return str(answer.headers["Cairn-Position"])


async def test_each_thing_is_told_once_as_its_own_endpoint_has_it(anna: Runner, ben: Runner) -> None:
    activity, goal = uuid4(), uuid4()
    await anna.run(fit(700, kilometres=1), activity, title="One")
    await wrote(anna, "PUT", f"/me/goals/{goal}", json=GOAL)
    await wrote(anna, "PUT", f"/me/following/{ben.user_id}")
    await wrote(anna, "PATCH", "/me", json={"time_zone": "Asia/Tokyo"})
    position = await wrote(anna, "PATCH", f"/activities/{activity}", json={"title": "Two"})
    page = await anna.get("/changes", after=position)
    assert [(item["kind"], item["id"]) for item in page["items"]] == [
        ("goal", str(goal)),
        ("following", str(ben.user_id)),
        ("profile", str(anna.user_id)),
        ("activity", str(activity)),
    ]
    assert [item[item["kind"]] for item in page["items"]] == [
        (await anna.get("/me/goals"))["items"][0],
        await anna.get(f"/users/{ben.user_id}"),
        await anna.get("/me"),
        (await anna.get(f"/users/{anna.user_id}/activities"))["items"][0],
    ]
    assert page["has_more"] is False


async def test_what_is_gone_is_told_to_those_who_may_have_it(anna: Runner, ben: Runner) -> None:
    activity, goal, mirror = uuid4(), uuid4(), Mirror(anna)
    await anna.run(fit(701, kilometres=1), activity)
    await wrote(anna, "PUT", f"/me/goals/{goal}", json=GOAL)
    await mirror.sync(await wrote(anna, "PUT", f"/me/following/{ben.user_id}"), limit=1)
    assert len(mirror.things) == 4
    for path in (f"/activities/{activity}", f"/me/goals/{goal}"):
        await wrote(anna, "DELETE", path)
    mirror.told.clear()
    await mirror.sync(await wrote(anna, "DELETE", f"/me/following/{ben.user_id}"))
    assert mirror.told == [("activity", str(activity)), ("goal", str(goal)), ("following", str(ben.user_id))]
    assert mirror.things.keys() == {("profile", str(anna.user_id))}


async def test_where_nothing_changed_the_answer_is_the_same_whatever_others_do(anna: Runner, ben: Runner) -> None:
    mirror = Mirror(anna)
    await mirror.sync(await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json=GOAL))
    first = await anna("GET", f"/changes?since={mirror.cursor}")
    assert first.json() == {"items": [], "next_cursor": mirror.cursor, "has_more": False}
    position = await wrote(ben, "PUT", f"/me/goals/{uuid4()}", json=GOAL)
    again = await anna.later(
        f"/changes?since={mirror.cursor}", position, headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


async def test_a_cursor_of_nobody_of_another_or_of_another_list_is_refused(anna: Runner, ben: Runner) -> None:
    theirs = Mirror(ben)
    await theirs.sync(await wrote(ben, "PUT", f"/me/goals/{uuid4()}", json=GOAL))
    position = await anna.run(fit(702, kilometres=1))
    feed = (await anna.get("/feed?limit=1", after=position))["next_cursor"]
    for path in ("/changes", "/bootstrap"):
        for cursor in (theirs.cursor, feed, "", "AAAA", f"{theirs.cursor}A", "A" * 500):
            answer = await anna("GET", f"{path}?since={cursor}")
            assert (answer.status_code, answer.json()["code"]) == (400, "malformed-cursor")


async def test_a_cursor_of_another_log_means_to_begin_anew(world: World, anna: Runner) -> None:
    packed = struct.pack(">q8s", 1, b"restored")
    cursor = Cursors(world.settings.cursor_key).sign(packed, anna.user_id, "changes")
    for path in ("/changes", "/bootstrap"):
        answer = await anna("GET", f"{path}?since={cursor}")
        assert (answer.status_code, answer.json()["code"]) == (410, "resync-needed")
        assert "/v1/bootstrap" in answer.json()["detail"]


async def test_whose_rows_were_repaired_begins_anew_once(world: World, anna: Runner) -> None:
    mirror = Mirror(anna)
    await mirror.sync(await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json=GOAL))
    with psycopg.connect(world.settings.database_url) as connection:
        note_refolded(connection, [anna.user_id])
    assert (await mirror.refused()).status_code == 410
    mirror.cursor = None
    await mirror.launch()
    assert (await mirror.refused()).status_code == 200


@pytest.mark.parametrize("seed", range(2))
async def test_an_app_that_keeps_a_copy_ends_equal_to_the_server(world: World, anna: Runner, seed: int) -> None:
    """Whatever its runner does, from this device or another, and however often it asks meanwhile."""
    dice, mirror = random.Random(seed), Mirror(anna)
    others = [(await world.runner(name)).user_id for name in ("Ben", "Cara")]
    runs, goals = [uuid4() for _ in range(3)], [uuid4() for _ in range(2)]
    position = ""
    for number, run in enumerate(runs):
        started_at = STARTED + timedelta(days=number, minutes=seed)
        position = await anna.run(fit(710 + number, kilometres=1, started_at=started_at), run)
    for _ in range(30):
        match dice.choice(["edit", "delete", "goal", "drop", "follow", "unfollow", "profile", "changes", "launch"]):
            case "edit":
                position = await _tried(anna, position, "PATCH", f"/activities/{dice.choice(runs)}", _title(dice))
            case "delete" if dice.random() < 0.2:
                position = await _tried(anna, position, "DELETE", f"/activities/{dice.choice(runs)}")
            case "goal":
                wish = {**GOAL, "target": dice.randrange(1, 9)}
                position = await wrote(anna, "PUT", f"/me/goals/{dice.choice(goals)}", json=wish)
            case "drop":
                position = await wrote(anna, "DELETE", f"/me/goals/{dice.choice(goals)}") or position
            case "follow":
                position = await wrote(anna, "PUT", f"/me/following/{dice.choice(others)}")
            case "unfollow":
                position = await wrote(anna, "DELETE", f"/me/following/{dice.choice(others)}")
            case "profile":
                position = await wrote(anna, "PATCH", "/me", json={"display_name": _title(dice)["title"]})
            case "changes":
                await mirror.sync(limit=dice.choice([1, 2, 100]))
            case "launch" if mirror.cursor:
                await mirror.launch()
    position = await wrote(anna, "PATCH", "/me", json={"display_name": "Anna at last"})
    await mirror.sync(position, limit=2)
    theirs = settled(await on_the_server(anna, position))
    assert _unnamed(settled(mirror.things)) == _unnamed(theirs)


def _title(dice: random.Random) -> dict[str, str]:
    return {"title": f"No. {dice.randrange(1_000)}"}


def _unnamed(things: dict[Any, Any]) -> dict[Any, Any]:
    """A new name of the runner's is a change of the profile, not of each activity."""
    return {
        place: {**thing, "display_name": ""} if place[0] == "activity" else thing for place, thing in things.items()
    }


async def _tried(runner: Runner, before: str, method: str, path: str, json: Any = None) -> str:
    """Of a run that may be deleted already."""
    answer = await runner(method, path, json=json) if json else await runner(method, path)
    return str(answer.headers.get("Cairn-Position", before))


async def test_nothing_is_missed_while_many_write(anna: Runner, ben: Runner) -> None:
    """Writers on several streams at once, others' events in between, and an app that asks all the while, in pages."""
    goals, mirror, rounds = [uuid4() for _ in range(6)], Mirror(anna), 5

    async def write(goal: UUID, target: int) -> str:
        await wrote(ben, "PUT", f"/me/goals/{goal}", json={**GOAL, "target": target})
        return await wrote(anna, "PUT", f"/me/goals/{goal}", json={**GOAL, "target": target})

    for target in range(1, rounds + 1):
        *positions, _, _ = await asyncio.gather(
            *(write(goal, target) for goal in goals), mirror.sync(limit=1), Mirror(anna).sync(limit=2)
        )
        await mirror.sync(positions[target % len(positions)], limit=2)  # of the others some may still be on their way
    await mirror.sync(await wrote(anna, "PATCH", "/me", json={"display_name": "Anna B."}), limit=2)
    kept = {place[1]: thing["target"] for place, thing in mirror.things.items() if place[0] == "goal"}
    assert kept == dict.fromkeys(map(str, goals), rounds)
    assert len(mirror.told) > 2 * len(goals), "it was told of some again and again"
