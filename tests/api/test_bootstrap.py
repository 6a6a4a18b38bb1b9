"""`/bootstrap`: one call at launch."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import AsyncCursor

from tests.api.conftest import Runner
from tests.api.mirror import Mirror
from tests.api.test_changes import GOAL, wrote
from tests.recordings import fit

PHONE = UUID(int=7)


async def test_all_that_the_first_screen_shows_comes_in_one_call(anna: Runner, ben: Runner) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json=GOAL)
    await wrote(anna, "PUT", f"/me/following/{ben.user_id}")
    await wrote(ben, "PUT", f"/me/following/{anna.user_id}")
    await ben.run(fit(730, kilometres=1), title="Ben's")
    position = await anna.run(fit(731, kilometres=2, started_at=now - timedelta(hours=1)), title="Mine")
    whole = await anna.get("/bootstrap", after=position)
    assert whole["me"] == await anna.get("/me")
    assert whole["config"] == await anna.get("/client-config")
    assert whole["notifications"] == await anna.get("/me/notifications?limit=20")
    assert whole["goals"] == (await anna.get("/me/goals"))["items"]
    assert whole["feed"] == await anna.get("/feed")
    assert whole["activities"] == await anna.get(f"/users/{anna.user_id}/activities")
    assert [whole["week"]] == (await anna.get("/me/summaries"))["items"]
    assert [item["title"] for item in whole["feed"]["items"]] == ["Mine", "Ben's"]
    assert (whole["changes"], whole["has_more"]) == ([], False)
    assert now < datetime.fromisoformat(whole["next_poll_at"]) <= now + timedelta(seconds=910)


async def test_with_a_cursor_it_tells_what_changed_since(anna: Runner, ben: Runner) -> None:
    mirror = Mirror(anna)
    assert (await mirror.launch(await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json=GOAL)))["activities"][
        "items"
    ] == []
    run = uuid4()
    await anna.run(fit(732, kilometres=1), run)
    page = await mirror.launch(await wrote(anna, "PUT", f"/me/following/{ben.user_id}"))
    assert [item["kind"] for item in page["changes"]] == ["activity", "following"]
    assert page["activities"] is None
    assert (await mirror.launch())["changes"] == []


async def test_a_week_without_a_run_is_a_week(anna: Runner) -> None:
    await wrote(anna, "PATCH", "/me", json={"time_zone": "Pacific/Kiritimati"})
    week = (await anna.get("/bootstrap"))["week"]
    assert (week["count"], week["distance_m"], week["by_sport"]) == (0, 0, {})
    monday = datetime.fromisoformat(week["starts_on"]).date()
    assert (monday.weekday(), datetime.fromisoformat(week["ends_on"]).date() - monday) == (0, timedelta(days=6))


async def test_a_device_that_asks_again_has_it_already(anna: Runner) -> None:
    position = await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json=GOAL)
    headers = {"Cairn-Client": f"ios/9.4.1; device={PHONE}"}
    first = await anna.later("/bootstrap", position, headers=headers)
    again = await anna("GET", "/bootstrap", headers={**headers, "If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304 or again.json()["next_poll_at"] != first.json()["next_poll_at"]
    assert "Cairn-Client" in first.headers["Vary"]


async def test_it_says_so_when_it_is_behind(anna: Runner) -> None:
    answer = await anna("GET", "/bootstrap", headers={"Cairn-Min-Position": "p1-7fffffff"})
    assert (answer.status_code, answer.headers["Cairn-Stale"]) == (200, "true")


_OWN = ("projection_pointers", "pg_control", "sessions", "client_settings", "shadow_counts")  # asked now and then


async def test_it_takes_few_queries_whatever_is_in_it(
    anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside them, the account's own stream is loaded for the profile."""
    for target in range(3):
        await wrote(anna, "PUT", f"/me/goals/{uuid4()}", json={**GOAL, "target": target + 1})
    await wrote(anna, "PUT", f"/me/following/{ben.user_id}")
    await ben.run(fit(733, kilometres=1))
    position = await anna.run(fit(734, kilometres=1))
    cursor = (await anna.get("/bootstrap", after=position))["cursor"]
    asked: list[str] = []
    whole = AsyncCursor.execute

    async def execute(self: Any, query: Any, *more: Any, **named: Any) -> Any:
        if not any(own in str(query) for own in _OWN):
            asked.append(str(query))
        return await whole(self, query, *more, **named)

    monkeypatch.setattr(AsyncCursor, "execute", execute)
    counts, another = {}, {"Cairn-Client": "android/1.0"}  # for whom nothing is kept yet
    for path in (f"/bootstrap?since={cursor}", "/bootstrap", f"/changes?since={cursor}", "/changes"):
        asked.clear()
        await anna.get(path, headers=another)
        counts[path.replace(cursor, "CURSOR")] = len(asked)
    assert counts == {"/bootstrap?since=CURSOR": 8, "/bootstrap": 9, "/changes?since=CURSOR": 1, "/changes": 6}
