"""Goals, follows, feed and sums together, as an app uses them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from tests.api.conftest import Runner, World
from tests.recordings import fit

GOAL = {"metric": "distance", "target": 10_000, "period": "week", "starts_on": "2026-01-01", "sport": "running"}


async def test_a_run_goes_in_and_feed_sums_and_goals_know_it(anna: Runner, ben: Runner) -> None:
    goal_id = uuid4()
    assert (await anna("PUT", f"/me/goals/{goal_id}", json=GOAL)).status_code == 204
    assert (await ben("PUT", f"/me/following/{anna.user_id}")).status_code == 204
    an_hour_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    position = await anna.run(fit(50, kilometres=4, started_at=an_hour_ago), title="Today")
    [item] = (await ben.get("/feed", after=position))["items"]
    assert (item["title"], item["display_name"]) == ("Today", "Anna")
    [week] = (await anna.get("/me/summaries?period=week", after=position))["items"]
    assert (week["count"], week["distance_m"]) == (1, pytest.approx(4_000, rel=0.01))
    [goal] = (await anna.get("/me/goals", after=position))["items"]
    assert goal["goal_id"] == str(goal_id)
    assert goal["progress"] == pytest.approx(4_000, rel=0.01)
    assert goal["fraction"] == pytest.approx(0.4, rel=0.01)


async def test_unfollowing_empties_the_feed(anna: Runner, ben: Runner) -> None:
    await anna.run(fit(51))
    position = (await ben("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    assert len((await ben.get("/feed", after=position))["items"]) == 1
    position = (await ben("DELETE", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    assert (await ben.get("/feed", after=position))["items"] == []
    again = await ben("DELETE", f"/me/following/{anna.user_id}")
    assert again.status_code == 204


async def test_followers_are_listed_in_pages(world: World, anna: Runner) -> None:
    positions = []
    for name in ("Ben", "Cara", "Dan"):
        runner = await world.runner(name)
        positions.append((await runner("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"])
    first = await anna.get(f"/users/{anna.user_id}/followers?limit=2", after=positions[-1])
    rest = await anna.get(f"/users/{anna.user_id}/followers?limit=2&cursor={first['next_cursor']}")
    assert [item["display_name"] for item in [*first["items"], *rest["items"]]] == ["Dan", "Cara", "Ben"]


async def test_nobody_follows_nobody_or_themself(anna: Runner) -> None:
    assert (await anna("PUT", f"/me/following/{uuid4()}")).status_code == 404
    answer = await anna("PUT", f"/me/following/{anna.user_id}")
    assert (answer.status_code, answer.json()["code"]) == (422, "cannot-follow-yourself")


async def test_a_goal_is_changed_and_dropped(anna: Runner) -> None:
    goal_id = uuid4()
    await anna("PUT", f"/me/goals/{goal_id}", json=GOAL)
    position = (await anna("PUT", f"/me/goals/{goal_id}", json={**GOAL, "target": 5})).headers["Cairn-Position"]
    assert [goal["target"] for goal in (await anna.get("/me/goals", after=position))["items"]] == [5]
    position = (await anna("DELETE", f"/me/goals/{goal_id}")).headers["Cairn-Position"]
    assert (await anna.get("/me/goals", after=position))["items"] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"target": 0},
        {"target": -1},
        {"target": "10"},
        {"target": True},
        {"metric": "naps"},
        {"period": "fortnight"},
        {"starts_on": "yesterday"},
        {"ends_on": "2025-12-31"},
        {"period": "custom"},
        {"starts_on": "9999-12-31"},
        {"starts_on": "0001-01-01"},
        {"target": 1e-300},
        {"progress": 1},
    ],
    ids=str,
)
async def test_a_goal_that_makes_no_sense_is_refused(anna: Runner, changes: dict[str, object]) -> None:
    answer = await anna("PUT", f"/me/goals/{uuid4()}", json={**GOAL, **changes})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("period", "bounds"),
    [
        ("day", ("2026-05-01", "2026-05-01")),
        ("week", ("2026-04-27", "2026-05-03")),
        ("month", ("2026-05-01", "2026-05-31")),
        ("year", ("2026-01-01", "2026-12-31")),
        ("all", (None, None)),
    ],
)
async def test_sums_are_for_whole_periods(anna: Runner, period: str, bounds: tuple[str | None, str | None]) -> None:
    position = await anna.run(fit(52))
    query = f"/me/summaries?period={period}&from=2026-05-01&to=2026-05-01"
    [item] = (await anna.get(query, after=position))["items"]
    assert (item["starts_on"], item["ends_on"]) == bounds
    assert item["by_sport"]["running"]["count"] == 1
    assert (await anna.get(f"{query}&sport=cycling"))["items"] == []


@pytest.mark.parametrize("query", ["period=decade", "from=soon", "sport=chess", "to=2026-13-01"])
async def test_sums_are_asked_for_rightly_or_not_at_all(anna: Runner, query: str) -> None:
    assert (await anna("GET", f"/me/summaries?{query}")).status_code == 422


async def test_a_position_of_the_future_gives_what_is_there_and_says_so(anna: Runner) -> None:
    answer = await anna("GET", "/feed", headers={"Cairn-Min-Position": "p1-7fffffff"})
    assert (answer.status_code, answer.headers["Cairn-Stale"]) == (200, "true")


async def test_what_is_missing_may_only_be_late_and_the_answer_says_so(anna: Runner) -> None:
    answer = await anna("GET", f"/activities/{uuid4()}", headers={"Cairn-Min-Position": "p1-7fffffff"})
    assert (answer.status_code, answer.headers["Cairn-Stale"]) == (404, "true")


async def test_a_made_up_position_is_refused(anna: Runner) -> None:
    answer = await anna("GET", "/feed", headers={"Cairn-Min-Position": "latest"})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-position")
