import asyncio
import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest

from api.app import create_app
from api.main import services_of
from domain.accounts import SignedIn
from domain.activity import Activity
from domain.errors import StoreUnavailable
from domain.measures import ActivityId, UserId
from infra.bootstrap import Parts, open_parts
from tests.api.conftest import Runner, World
from tests.instance_settings import settings_of
from tests.recordings import STARTED, fit
from tests.uploads import ThreadReader
from tests.workers.ingest.taking_in import ingest
from workers.ingest.ingest import Ingest


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


async def test_the_same_idempotency_key_gets_the_same_bytes(world: World) -> None:
    body = registration()
    first = await world.http.post("/v1/users", json=body, headers={"Idempotency-Key": '"one tap"'})
    again = await world.http.post(
        "/v1/users", json=dict(reversed(body.items())), headers={"Idempotency-Key": "one tap"}
    )
    assert (first.status_code, again.status_code) == (201, 201)
    assert (first.content, "Idempotency-Replayed" in first.headers) == (again.content, False)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert {again.headers[name] for name in ("Location", "Cairn-Position")} == {
        first.headers[name] for name in ("Location", "Cairn-Position")
    }
    other = await world.http.post(
        "/v1/users", json={**body, "password": "another horse"}, headers={"Idempotency-Key": "one tap"}
    )
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    elsewhere = await world.http.post("/v1/users", json=registration(), headers={"Idempotency-Key": "one tap"})
    assert elsewhere.status_code == 201
    assert "Idempotency-Replayed" not in elsewhere.headers


async def test_of_many_at_once_with_one_key_all_get_the_same_bytes(world: World) -> None:
    """Here through one process, and through a second one beside it that knows nothing of the first's requests."""
    body, headers = registration(), {"Idempotency-Key": "one tap"}
    other = httpx.ASGITransport(create_app(services_of(world.parts, world.settings)))
    async with httpx.AsyncClient(transport=other, base_url="http://cairn") as http:

        async def patient(client: httpx.AsyncClient) -> httpx.Response:
            while (answer := await client.post("/v1/users", json=body, headers=headers)).status_code == 409:
                await asyncio.sleep(1)  # the machine is so busy that the first takes longer than its repeats wait
            return answer

        answers = await asyncio.gather(*(patient(client) for client in (world.http, http) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert sum("Idempotency-Replayed" not in answer.headers for answer in answers) == 1
    cara = Runner(world.http, answers[0].json()["user_id"], str(body["email"]), answers[0].json())
    await cara.get("/me")
    async with world.parts.read_models.connection() as connection:
        live = "SELECT count(*) FROM sessions WHERE user_id = %s AND revoked_at IS NULL"
        assert await (await connection.execute(live, (cara.user_id,))).fetchone() == (1,)


async def test_while_the_first_is_under_way_its_repeat_is_told_to_come_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, headers = registration(), {"Idempotency-Key": "one tap"}
    go, sign_in = asyncio.Event(), world.parts.accounts.sign_in

    async def slowly(user_id: UserId) -> SignedIn:
        await go.wait()
        return await sign_in(user_id)

    monkeypatch.setattr(world.parts.accounts, "sign_in", slowly)
    first = asyncio.create_task(world.http.post("/v1/users", json=body, headers=headers))
    await asyncio.sleep(0.05)
    again = await world.http.post("/v1/users", json=body, headers=headers)
    assert (again.status_code, again.json()["code"], again.headers["Retry-After"]) == (409, "request-running", "1")
    go.set()
    assert (await first).status_code == 201
    again = await world.http.post("/v1/users", json=body, headers=headers)
    assert again.content == (await first).content


async def test_what_failed_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    body, headers = registration(), {"Idempotency-Key": "one tap"}

    async def away(_user_id: UserId) -> SignedIn:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.accounts, "sign_in", away)
        assert (await world.http.post("/v1/users", json=body, headers=headers)).status_code == 503
    answer = await world.http.post("/v1/users", json=body, headers=headers)
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers


async def test_a_user_id_has_one_account(world: World, anna: Runner) -> None:
    answer = await world.http.post(
        "/v1/users", json=registration(user_id=str(anna.user_id), email="new-one@example.com")
    )
    assert (answer.status_code, answer.json()["code"]) == (409, "user-id-taken")


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
        {"display_name": "of two\nlines"},
        {"display_name": 7},
        {"user_id": "not a uuid"},
        {"is_admin": True},
    ],
    ids=str,
)
async def test_a_registration_that_does_not_fit_is_refused(world: World, changes: dict[str, object]) -> None:
    answer = await world.http.post("/v1/users", json=registration(**changes))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-body")


@pytest.mark.parametrize("key", ["", '""', "x" * 300, "a\tb", "\x7f"])
async def test_an_idempotency_key_has_a_form(world: World, key: str) -> None:
    answer = await world.http.post("/v1/users", json=registration(), headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed-idempotency-key")


async def test_a_profile_is_changed_in_part(anna: Runner) -> None:
    answer = await anna("PATCH", "/me", json={"time_zone": "Asia/Tokyo", "units": "imperial"})
    assert answer.status_code == 204
    me = await anna.get("/me", after=answer.headers["Cairn-Position"])
    assert (me["time_zone"], me["units"], me["display_name"]) == ("Asia/Tokyo", "imperial", "Anna")


async def test_a_name_is_kept_as_it_was_sent(world: World) -> None:
    answer = await world.http.post("/v1/users", json=registration(display_name="  Åsa \u200f "))
    anna = Runner(world.http, answer.json()["user_id"], "", answer.json())
    assert (await anna.get("/me"))["display_name"] == "  Åsa \u200f "


@pytest.mark.parametrize(
    "patch",
    [
        {"time_zone": "Mars/Base"},
        {"time_zone": "localtime"},  # the server's own
        {"time_zone": "Factory"},
        {"time_zone": 5},
        {"units": "parsecs"},
        {"email": "x"},
    ],
)
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


async def test_a_profile_that_changes_while_runs_wait_counts_for_later_ones(
    fresh_database: Callable[[], str], redis_url: str, tmp_path: Path
) -> None:
    """Whole or in chunks: no matter how long ingest, which is held back here, takes to come to them."""
    settings, whole, sliced, body = settings_of(tmp_path, fresh_database(), redis_url), uuid4(), uuid4(), fit(61)
    async with open_parts(settings) as parts:
        transport = httpx.ASGITransport(create_app(services_of(parts, settings)))
        async with httpx.AsyncClient(transport=transport, base_url="http://cairn") as http:
            answer = await http.post("/v1/users", json=registration())
            cara = Runner(http, answer.json()["user_id"], "", answer.json())
            await cara("PATCH", "/me", json={"time_zone": "Pacific/Pago_Pago", "default_visibility": "private"})
            assert (await cara("PUT", f"/activities/{whole}", content=fit(60))).status_code == 202
            assert (await cara("PUT", f"/activities/{sliced}/chunks/0", content=body)).status_code == 201
            wish = {"chunks": 1, "sha256": hashlib.sha256(body).hexdigest()}
            assert (await cara("POST", f"/activities/{sliced}/finish", json=wish)).status_code == 202
            changed = await cara("PATCH", "/me", json={"time_zone": "Asia/Tokyo", "default_visibility": "public"})
            assert changed.status_code == 204
        taking_in = ingest(parts, ThreadReader())
        assert [await became(parts, taking_in, ActivityId(run)) for run in (whole, sliced)] == [
            ("private", STARTED.astimezone(ZoneInfo("Pacific/Pago_Pago")).date())
        ] * 2


async def became(parts: Parts, taking_in: Ingest, activity_id: ActivityId) -> tuple[str, date]:
    """Who may see the run, and its day."""
    await taking_in.process(activity_id)
    activity = await parts.streams.load(Activity, activity_id)
    assert activity.tally is not None
    return activity.visibility, activity.tally.local_date
