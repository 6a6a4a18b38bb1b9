from uuid import uuid4

import pytest

from tests.api.conftest import Runner, World
from tests.recordings import fit


def registration(**changes: object) -> dict[str, object]:
    return {
        "email": f"{uuid4().hex}@example.com",
        "password": "correct horse",
        "display_name": "Cara",
        **changes,
    }


async def test_registering_signs_in(world: World) -> None:
    body = registration()
    answer = await world.http.post("/v1/users", json=body)
    assert answer.status_code == 201
    assert set(answer.json()) == {"user_id", "access_token", "expires_in", "refresh_token"}
    cara = Runner(world.http, answer.json()["user_id"], str(body["email"]), answer.json())
    assert await cara.get("/me") == {
        "user_id": answer.json()["user_id"],
        "email": body["email"],
        "display_name": "Cara",
        "time_zone": None,
        "units": "metric",
        "default_visibility": "public",
    }


async def test_a_registration_sent_again_is_the_same_account(world: World) -> None:
    by_id = registration(user_id=str(uuid4()))
    answers = [await world.http.post("/v1/users", json=by_id) for _ in range(2)]
    assert [answer.json()["user_id"] for answer in answers] == [by_id["user_id"]] * 2
    by_key = registration()
    headers = {"Idempotency-Key": '"one tap"'}
    answers = [await world.http.post("/v1/users", json=by_key, headers=headers) for _ in range(2)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["user_id"] for answer in answers}) == 1


async def test_an_address_has_one_account(world: World, anna: Runner) -> None:
    answer = await world.http.post("/v1/users", json=registration(email=anna.email.upper()))
    assert (answer.status_code, answer.json()["code"]) == (409, "email-taken")


@pytest.mark.parametrize(
    "changes",
    [
        {"email": "nobody"},
        {"email": "a@b@c.de"},
        {"email": "a\x00@b.de"},
        {"password": "short"},
        {"password": "x" * 300},
        {"display_name": ""},
        {"display_name": "   "},
        {"display_name": "nul \x00"},
        {"display_name": "x" * 81},
        {"display_name": 7},
        {"user_id": "not a uuid"},
        {"is_admin": True},
    ],
    ids=str,
)
async def test_a_registration_that_does_not_fit_is_refused(world: World, changes: dict[str, object]) -> None:
    answer = await world.http.post("/v1/users", json=registration(**changes))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")


@pytest.mark.parametrize("key", ["", '""', "x" * 300, "a\tb"])
async def test_an_idempotency_key_has_a_form(world: World, key: str) -> None:
    answer = await world.http.post("/v1/users", json=registration(), headers={"Idempotency-Key": key})
    assert answer.status_code in (400, 422)


async def test_a_profile_is_changed_in_part(anna: Runner) -> None:
    answer = await anna("PATCH", "/me", json={"time_zone": "Asia/Tokyo", "units": "imperial"})
    assert answer.status_code == 204
    me = await anna.get("/me", after=answer.headers["Cairn-Position"])
    assert (me["time_zone"], me["units"], me["display_name"]) == ("Asia/Tokyo", "imperial", "Anna")


@pytest.mark.parametrize("patch", [{"time_zone": "Mars/Base"}, {"units": "parsecs"}, {"time_zone": 5}, {"email": "x"}])
async def test_a_profile_takes_only_what_it_knows(anna: Runner, patch: dict[str, object]) -> None:
    assert (await anna("PATCH", "/me", json=patch)).status_code == 422


async def test_the_runners_own_zone_decides_the_day(anna: Runner) -> None:
    await anna("PATCH", "/me", json={"time_zone": "Pacific/Auckland"})
    position = await anna.run(fit(20))  # 07:00 UTC on 1 May is 19:00 there
    [day] = (await anna.get("/me/summaries?period=day&from=2026-04-30", after=position))["items"]
    assert day["starts_on"] == "2026-05-01"
    [shown] = (await anna.get("/feed"))["items"]
    assert (shown["utc_offset_s"], shown["title"]) == (12 * 3600, "Evening run")


async def test_a_runner_is_seen_by_others(anna: Runner, ben: Runner) -> None:
    position = (await ben("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    seen = await ben.get(f"/users/{anna.user_id}", after=position)
    assert seen == {
        "user_id": str(anna.user_id),
        "display_name": "Anna",
        "followers": 1,
        "following": 0,
        "followed_by_me": True,
    }
