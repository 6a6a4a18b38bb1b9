"""What is public is told to everybody alike, and nothing else is."""

import re
from collections import Counter
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from lxml import html
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.main import services_of
from api.publishing import OLDEST_SECONDS
from domain.events.user import UserErased
from domain.measures import UserId
from domain.user import User, user_stream_id
from infra.bootstrap import now
from tests.api.conftest import Runner, World
from tests.recordings import STARTED, fit
from workers.purger import AGAIN_SECONDS

KEPT = "public, max-age=0, s-maxage=60, stale-while-revalidate=30"
KEPT_BRIEFLY = "public, max-age=0, s-maxage=2"
EVIL = "<script>alert(1)</script>\"'&"
ABOUT_AN_ACTIVITY = ["/v1/public/activities/{}", "/v1/public/activities/{}/map.svg", "/activities/{}"]


async def run(runner: Runner, seed: int, **query: str) -> UUID:
    """A run that is there, for its runner at least."""
    activity_id, body = uuid4(), fit(seed, started_at=STARTED + timedelta(days=seed))
    await runner.later(f"/activities/{activity_id}", await runner.run(body, activity_id, **query))
    return activity_id


async def changed(runner: Runner, method: str, path: str, read: str, **more: Any) -> None:
    """A write that the read models have taken."""
    answer = await runner(method, path, **more)
    assert answer.status_code == 204, answer.text
    await runner.later(read, answer.headers["Cairn-Position"])


async def test_a_public_run_is_for_everybody_without_heart_and_hour(world: World, anna: Runner) -> None:
    shown = await run(anna, 201, visibility="public", title="Before work")
    answer = await world.http.get(f"/v1/public/activities/{shown}")
    whole = await anna.get(f"/activities/{shown}")
    assert answer.status_code == 200
    told = answer.json()
    assert set(told) == {
        *("activity_id", "user_id", "display_name", "title", "sport", "local_date", "distance_m", "elapsed_s"),
        *("moving_s", "elevation_gain_m", "avg_speed_mps", "polyline"),
    }
    assert told["local_date"] == whole["started_at"][:10]
    assert {name: whole[name] for name in told if name != "local_date"} == {
        name: value for name, value in told.items() if name != "local_date"
    }
    assert answer.headers["Cache-Control"] == KEPT
    assert answer.headers["Surrogate-Key"] == f"activity-{shown} user-{anna.user_id}"
    assert answer.headers["Vary"] == "Accept-Encoding"
    known = await world.http.get(answer.url.path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (known.status_code, known.content, known.headers["Cache-Control"]) == (304, b"", KEPT)


def text(page: Any, path: str) -> str:
    """What an XPath finds in the page, as text."""
    return str(page.xpath(f"string({path})"))


@pytest.mark.parametrize("path", [*ABOUT_AN_ACTIVITY, "/v1/public/users/{}"])
async def test_who_asks_makes_no_difference(world: World, anna: Runner, ben: Runner, path: str) -> None:
    shown = await run(anna, 202, visibility="public")
    await run(anna, 203, visibility="private")
    path = path.format(anna.user_id if "users" in path else shown)
    answers = [
        await world.http.get(path, headers=headers)
        for headers in (
            {},
            {"Authorization": f"Bearer {anna.tokens['access_token']}"},
            {"Authorization": f"Bearer {ben.tokens['access_token']}"},
            {"Authorization": "Bearer nonsense", "Cookie": "a=b"},
        )
    ]
    assert len({(answer.status_code, answer.content, str(answer.headers)) for answer in answers}) == 1
    assert answers[0].status_code == 200
    assert "Set-Cookie" not in answers[0].headers


@pytest.mark.parametrize("path", ABOUT_AN_ACTIVITY)
async def test_what_is_not_public_is_as_if_it_were_not_there(
    world: World, anna: Runner, ben: Runner, path: str
) -> None:
    await changed(ben, "PUT", f"/me/following/{anna.user_id}", f"/users/{anna.user_id}")
    kinds = {kind: await run(anna, seed, visibility=kind) for seed, kind in ((204, "followers"), (205, "private"))}
    deleted, erased, owner = await run(anna, 206, visibility="public"), uuid4(), await world.runner("Carol")
    assert (await world.http.get(path.format(deleted))).status_code == 200
    await changed(anna, "DELETE", f"/activities/{deleted}", f"/users/{anna.user_id}/activities")
    await owner.run(fit(207), erased, visibility="public")
    position = await world.parts.streams.transact(
        User, user_stream_id(UserId(owner.user_id)), UserId(owner.user_id), lambda _: [UserErased(at=now())]
    )
    await anna.later(f"/activities/{uuid4()}", position)
    answers = {
        activity_id: await world.http.get(path.format(activity_id), headers={"Authorization": f"Bearer {token}"})
        for activity_id in (uuid4(), *kinds.values(), deleted, erased)
        for token in (anna.tokens["access_token"], ben.tokens["access_token"])
    }
    told = {
        (answer.status_code, answer.content, str(answer.headers).replace(str(activity_id), "ID"))
        for activity_id, answer in answers.items()
    }
    assert len(told) == 1, told
    answer = answers[deleted]
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == KEPT_BRIEFLY
    assert answer.headers["Surrogate-Key"] == f"activity-{deleted}"


async def test_a_runner_is_shown_as_far_as_something_of_them_is_public(world: World, anna: Runner) -> None:
    path = f"/v1/public/users/{anna.user_id}"
    hidden = await run(anna, 208, visibility="private")
    await run(anna, 220, visibility="followers")
    nobody = await world.http.get(path)
    assert (nobody.status_code, nobody.headers["Cache-Control"]) == (404, KEPT_BRIEFLY)
    assert nobody.content == (await world.http.get(f"/v1/public/users/{uuid4()}")).content
    await changed(anna, "PATCH", f"/activities/{hidden}", f"/activities/{hidden}", json={"visibility": "public"})
    answer = await world.http.get(path)
    assert [item["activity_id"] for item in answer.json()["activities"]] == [str(hidden)]
    assert answer.json()["display_name"] == "Anna"
    assert answer.headers["Surrogate-Key"] == f"list-{anna.user_id} user-{anna.user_id}"


async def test_a_title_that_nobody_wrote_does_not_tell_the_hour(world: World, anna: Runner) -> None:
    shown = await run(anna, 218, visibility="public")
    assert (await anna.get(f"/activities/{shown}"))["title"] == "Morning run"
    public = await world.http.get(f"/v1/public/activities/{shown}")
    page = await world.http.get(f"/activities/{shown}")
    assert public.json()["title"] == "Run"
    assert "Morning" not in page.text


async def test_a_shared_link_is_a_page_in_which_a_title_is_only_a_title(world: World, anna: Runner) -> None:
    await anna("PATCH", "/me", json={"display_name": EVIL})
    shown = await run(anna, 209, visibility="public", title=EVIL)
    answer = await world.http.get(f"/activities/{shown}")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Robots-Tag"] == "noindex"
    page = html.fromstring(answer.text)
    assert page.xpath("//script") == page.xpath("//@onerror") == []
    assert text(page, "//h1") == EVIL
    assert text(page, "//meta[@property='og:title']/@content") == f"{EVIL}: {EVIL}"
    assert re.match(r"Distance.*km.*Pace.*/km", text(page, "//dl"))
    assert page.xpath("//meta[@property='og:image']") == []  # nobody told the site's address
    assert (text(page, "//img/@width"), text(page, "//img/@height")) == ("600", "315")  # its labels are read on a phone
    picture = await world.http.get(text(page, "//img/@src"))
    assert b'width="600" height="315"' in picture.content
    assert (picture.status_code, picture.headers["Content-Type"]) == (200, "image/svg+xml")
    assert picture.headers["X-Content-Type-Options"] == "nosniff"  # it may be opened by itself
    assert picture.headers["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'"


async def test_a_page_holds_no_character_that_html_has_not(world: World, anna: Runner) -> None:
    odd = "\x01a\x1b\ufffe\uffffb"
    renamed = await anna("PATCH", "/me", json={"display_name": "An\ufffena"})
    assert renamed.status_code == 204, renamed.text
    shown = await run(anna, 219, visibility="public")
    await changed(anna, "PATCH", f"/activities/{shown}", f"/activities/{shown}", json={"title": odd})
    page = (await world.http.get(f"/activities/{shown}")).text
    assert "<title>ab: Anna</title>" in page
    assert not set(odd) - set("ab") & set(page)


async def test_a_run_without_times_has_no_moving_time(world: World, anna: Runner) -> None:
    activity_id = uuid4()
    body = b'{"sport":"running","started_at":"2026-05-01T07:00:00Z","points":{"lat":[52.0,52.01],"lon":[13.0,13.0]}}'
    await anna.later(f"/activities/{activity_id}", await anna.run(body, activity_id, visibility="public"))
    page = (await world.http.get(f"/activities/{activity_id}")).text
    assert "Distance" in page
    assert "Moving time" not in page


@pytest.mark.parametrize("rest", ["foo", "018f3c2e-7d1a-7"])
async def test_a_link_that_was_cut_short_says_that_nothing_is_here(world: World, rest: str) -> None:
    answer = await world.http.get(f"/activities/{rest}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert answer.content == (await world.http.get(f"/activities/{uuid4()}")).content
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_preview_names_the_site_as_it_is_set_never_as_a_request_says(world: World, anna: Runner) -> None:
    shown = await run(anna, 210, visibility="public")
    services = services_of(world.parts, world.settings)
    object.__setattr__(services, "public_url", "https://runs.example")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(create_app(services))) as http:
        page = html.fromstring((await http.get(f"http://evil.example/activities/{shown}")).text)
    assert text(page, "//meta[@property='og:url']/@content") == f"https://runs.example/activities/{shown}"
    assert text(page, "//meta[@property='og:image']/@content").startswith("https://runs.example/v1/public/")
    assert b"evil" not in html.tostring(page)


async def test_nothing_but_public_pages_may_be_kept_by_a_shared_cache(world: World, anna: Runner) -> None:
    shown = await run(anna, 211, visibility="public")
    paths = (await world.http.get("/openapi.json")).json()["paths"]
    reads = [path for path, operations in paths.items() if "get" in operations]
    assert len(reads) > 20
    for route in [*reads, "/v1/nothing"]:
        path = re.sub(r"\{\w+\}", str(anna.user_id if "/users/" in route else shown), route)
        for headers in ({"Authorization": f"Bearer {anna.tokens['access_token']}"}, {}):
            answer = await world.http.get(path, headers=headers)
            if route.startswith(("/v1/public/", "/activities/")):
                assert (answer.status_code, answer.headers["Cache-Control"]) == (200, KEPT), path
            else:
                assert answer.headers["Cache-Control"] in {"private, no-cache", "no-store"}, path
                assert "Surrogate-Key" not in answer.headers, path


async def test_an_answer_that_took_long_is_not_kept(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = await run(anna, 212, visibility="public")
    monkeypatch.setattr("api.publishing.OLDEST_SECONDS", -1.0)
    for path in (*ABOUT_AN_ACTIVITY, "/activities/00000000-0000-4000-8000-000000000000"):
        assert (await world.http.get(path.format(shown))).headers["Cache-Control"] == "no-store"
    assert OLDEST_SECONDS < AGAIN_SECONDS  # at the second purge, what was under way at the first has come


async def test_what_shared_caches_had_not_is_counted(world: World, anna: Runner) -> None:
    shown = await run(anna, 213, visibility="public")
    path = f"/v1/public/activities/{shown}"
    through = {"Surrogate-Capability": "cairn=Surrogate/1.0"}
    before = await asked_of_the_origin(world)
    tag = (await world.http.get(path, headers=through)).headers["ETag"]
    await world.http.get(path, headers={**through, "If-None-Match": tag})
    await world.http.get(path)
    after = await asked_of_the_origin(world)
    assert after - before == Counter(miss=1, not_modified=1, bypassed=1)


async def asked_of_the_origin(world: World) -> Counter[str]:
    """How often the JSON of an activity was, by outcome."""
    families = text_string_to_metric_families((await world.http.get("/metrics")).text)
    return Counter(
        {
            sample.labels["outcome"]: int(sample.value)
            for family in families
            for sample in family.samples
            if sample.name == "cairn_cache_reads_total"
            and sample.labels["tier"] == "cdn"
            and sample.labels["route"] == "/v1/public/activities/{activity_id}"
        }
    )
