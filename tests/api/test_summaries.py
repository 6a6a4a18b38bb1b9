from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Runner, World
from tests.recordings import fit

TODAY = datetime.now(UTC).date()
THIS_WEEK = TODAY - timedelta(days=TODAY.weekday())


def weeks_ago(weeks: int) -> datetime:
    return datetime.combine(THIS_WEEK - timedelta(weeks=weeks), time(7), UTC)


async def test_weeks_come_without_gaps_from_this_one_back_to_the_first(anna: Runner) -> None:
    await anna.run(fit(60, kilometres=1, started_at=weeks_ago(4)), sport="walking")
    await anna.run(fit(61, kilometres=2, started_at=weeks_ago(4) + timedelta(days=6)))
    position = await anna.run(fit(62, kilometres=1, started_at=weeks_ago(1)))
    first = await later(anna, "period=week&limit=3", position)
    assert [item["starts_on"] for item in first["items"]] == [
        str(THIS_WEEK - timedelta(weeks=weeks)) for weeks in range(3)
    ]
    assert [item["total"]["count"] for item in first["items"]] == [0, 1, 0]
    rest = await later(anna, f"period=week&limit=3&cursor={first['next_cursor']}", position)
    assert [item["total"]["count"] for item in rest["items"]] == [0, 2]
    assert rest["next_cursor"] is None
    last = rest["items"][-1]
    assert [one["sport"] for one in last["by_sport"]] == ["running", "walking"]  # the longest first
    assert last["total"]["distance_m"] == pytest.approx(sum(one["distance_m"] for one in last["by_sport"]), abs=0.002)
    assert (last["starts_on"], last["ends_on"]) == (
        str(THIS_WEEK - timedelta(weeks=4)),
        str(THIS_WEEK - timedelta(days=22)),
    )


@pytest.mark.parametrize("period", ["day", "week", "month", "year", "all"])
async def test_who_never_ran_has_a_period_with_nothing_in_it(anna: Runner, period: str) -> None:
    page = await later(anna, f"period={period}")
    [item] = page["items"]
    assert (item["total"]["count"], item["by_sport"], page["next_cursor"]) == (0, [], None)
    assert date.fromisoformat(item["starts_on"]) <= TODAY <= date.fromisoformat(item["ends_on"])


async def test_all_time_is_from_the_first_run_to_today(anna: Runner) -> None:
    position = await anna.run(fit(63, kilometres=1, started_at=weeks_ago(9)))
    [item] = (await later(anna, "period=all", position))["items"]
    assert item["starts_on"] == str(weeks_ago(9).date())
    assert date.fromisoformat(item["ends_on"]) >= TODAY


async def test_a_cursor_of_months_is_none_of_weeks(anna: Runner) -> None:
    position = await anna.run(fit(64, kilometres=1, started_at=weeks_ago(20)))
    cursor = (await later(anna, "period=month&limit=1", position))["next_cursor"]
    answer = await anna.http.get(
        f"/v2/me/summaries?period=week&cursor={cursor}",
        headers={"Authorization": f"Bearer {anna.tokens['access_token']}"},
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-cursor")


async def test_the_old_way_says_that_it_is_old_and_is_counted(world: World, anna: Runner) -> None:
    answer = await anna("GET", "/me/summaries", headers={"Cairn-Client": "ios/0.9"})
    assert answer.status_code == 200
    assert answer.headers["Deprecation"] == "@1795651200"
    assert answer.headers["Sunset"] == "Fri, 26 Nov 2027 00:00:00 GMT"
    assert '</v2/me/summaries>; rel="successor-version"' in answer.headers["Link"]
    again = await anna(
        "GET", "/me/summaries", headers={"Cairn-Client": "ios/0.9", "If-None-Match": answer.headers["ETag"]}
    )
    assert (again.status_code, again.headers["Deprecation"]) == (304, "@1795651200")
    families = text_string_to_metric_families((await world.http.get("/metrics")).text)
    counted = {
        (sample.labels["route"], sample.labels["client"]): sample.value
        for family in families
        for sample in family.samples
        if sample.name == "cairn_deprecated_requests_total"
    }
    assert counted["/v1/me/summaries", "ios/0.9"] == 2


async def test_the_old_way_says_that_it_is_old_also_where_it_refuses(world: World, anna: Runner) -> None:
    refused = await anna("GET", "/me/summaries?period=x")
    nobody = await world.http.get("/v1/me/summaries")
    no_text = await anna("GET", "/me/summaries?sport=%FF")
    assert [one.status_code for one in (refused, nobody, no_text)] == [422, 401, 400]
    for one in (refused, nobody, no_text):
        assert one.headers["Deprecation"] == "@1795651200"
        assert '</v2/me/summaries>; rel="successor-version"' in one.headers["Link"]
    assert "Deprecation" not in (await anna("GET", "/me/goals?period=x")).headers


async def later(runner: Runner, query: str, after: str = "") -> Any:
    headers = {"Authorization": f"Bearer {runner.tokens['access_token']}"}
    for _ in range(15):
        more = {"Cairn-Min-Position": after} if after else {}
        answer = await runner.http.get(f"/v2/me/summaries?{query}", headers={**headers, **more})
        assert answer.status_code == 200, answer.text
        if "Cairn-Stale" not in answer.headers:
            return answer.json()
    raise AssertionError(f"{query} is still behind {after}")
