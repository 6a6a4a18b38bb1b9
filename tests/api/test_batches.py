"""Many things by their ids in one call, and lists from which a screen can be drawn as they are."""

from datetime import timedelta
from uuid import uuid4

import pytest

from tests.api.conftest import Runner, World
from tests.recordings import STARTED, fit


async def test_activities_come_in_the_order_of_their_ids_as_lists_show_them(anna: Runner, ben: Runner) -> None:
    ids = [uuid4() for _ in range(4)]
    for number, (one, seen) in enumerate(zip(ids, ("public", "followers", "private", "public"), strict=True)):
        started_at = STARTED + timedelta(days=number)
        await anna.run(fit(750, kilometres=1, started_at=started_at), one, visibility=seen, title=str(number))
    deleted = await anna("DELETE", f"/activities/{ids[3]}")
    listed = ",".join(map(str, [ids[2], uuid4(), *ids]))
    own = await anna.get(f"/activities?ids={listed}", after=deleted.headers["Cairn-Position"])
    assert [item["title"] for item in own["items"]] == ["2", "0", "1"]
    (card,) = [item for item in (await anna.get(f"/users/{anna.user_id}/activities"))["items"] if item["title"] == "1"]
    assert card in own["items"]
    assert [item["title"] for item in (await ben.get(f"/activities?ids={listed}"))["items"]] == ["0"]
    position = (await ben("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    followed = await ben.get(f"/activities?ids={listed}", after=position)
    assert [item["title"] for item in followed["items"]] == ["0", "1"]


async def test_many_uploads_are_asked_for_at_once(world: World, anna: Runner, ben: Runner) -> None:
    ready, failed, theirs = uuid4(), uuid4(), uuid4()
    position = await anna.run(fit(755, kilometres=1), ready)
    await anna("PUT", f"/activities/{failed}", content=fit(756)[:40], headers={"Prefer": "wait=20"})
    await ben.run(fit(757, kilometres=1), theirs)
    answer = await anna("GET", f"/uploads?ids={failed},{theirs},{uuid4()},{ready}")
    assert [item["activity_id"] for item in answer.json()["items"]] == [str(failed), str(ready)]
    assert answer.json()["items"] == [await anna.get(f"/activities/{one}/upload") for one in (failed, ready)]
    assert [item["status"] for item in answer.json()["items"]] == ["failed", "ready"]
    place = world.parts.read_models.position
    assert place(answer.headers["Cairn-Position"]) >= place(position)


async def test_runners_come_in_the_order_of_their_ids(anna: Runner, ben: Runner) -> None:
    position = (await anna("PUT", f"/me/following/{ben.user_id}")).headers["Cairn-Position"]
    path = f"/users?ids={ben.user_id},{uuid4()},{anna.user_id},{ben.user_id}"
    found = (await anna.get(path, after=position))["items"]
    assert found == [await anna.get(f"/users/{one.user_id}") for one in (ben, anna)]
    assert [item["followed_by_me"] for item in found] == [True, False]


@pytest.mark.parametrize("path", ["/activities", "/users", "/uploads"])
async def test_a_list_of_ids_is_one_of_at_most_a_hundred(anna: Runner, path: str) -> None:
    many = ",".join(str(uuid4()) for _ in range(101))
    for query in ("", "?ids=", "?ids=a,b", f"?ids={many}", f"?ids={many * 4}", f"?ids={uuid4()},"):
        answer = await anna("GET", f"{path}{query}")
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter")
    assert (await anna("GET", f"{path}?ids={many[:-37]}")).json() == {"items": []}


async def test_lists_of_runners_say_whom_the_reader_follows(world: World, anna: Runner, ben: Runner) -> None:
    cara, position = await world.runner("Cara"), ""
    for runner, followee in ((cara, anna), (ben, anna), (anna, ben), (anna, cara), (ben, cara)):
        position = (await runner("PUT", f"/me/following/{followee.user_id}")).headers["Cairn-Position"]
    first = await ben.get(f"/users/{anna.user_id}/following?limit=1", after=position)
    rest = await ben.get(f"/users/{anna.user_id}/following?cursor={first['next_cursor']}")
    seen = [(item["display_name"], item["followed_by_me"]) for item in (*first["items"], *rest["items"])]
    assert seen == [("Cara", True), ("Ben", False)]
    followers = (await anna.get(f"/users/{anna.user_id}/followers"))["items"]
    assert [(item["display_name"], item["followed_by_me"]) for item in followers] == [("Ben", True), ("Cara", True)]
    assert (await ben("GET", f"/users/{anna.user_id}/followers?cursor={first['next_cursor']}")).status_code == 400
    assert (await ben("GET", f"/users/{uuid4()}/following")).status_code == 404
