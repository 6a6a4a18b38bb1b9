from datetime import timedelta
from uuid import UUID

import jwt
import pytest

from api.tokens import LIFE, Tokens
from domain.measures import UserId
from infra.bootstrap import now
from tests.api.conftest import Runner, World


async def test_signing_in_on_a_second_device(world: World, anna: Runner) -> None:
    answer = await world.http.post("/v1/sessions", json={"email": anna.email, "password": "correct horse"})
    assert answer.status_code == 201
    assert answer.json()["user_id"] == str(anna.user_id)
    assert answer.json()["refresh_token"] != anna.tokens["refresh_token"]


@pytest.mark.parametrize(("email", "password"), [(None, "wrong horse"), ("nobody-here@example.com", "correct horse")])
async def test_whoever_is_not_somebody_is_refused_alike(
    world: World, anna: Runner, email: str | None, password: str
) -> None:
    answer = await world.http.post("/v1/sessions", json={"email": email or anna.email, "password": password})
    assert (answer.status_code, answer.json()["code"]) == (401, "sign-in-refused")


async def test_tokens_are_renewed(world: World, anna: Runner) -> None:
    answer = await world.http.post("/v1/sessions/refresh", json={"refresh_token": anna.tokens["refresh_token"]})
    assert answer.status_code == 201
    anna.tokens = answer.json()
    await anna.get("/me")


async def test_signing_out_needs_no_fresh_token(world: World, anna: Runner) -> None:
    then, tokens = (
        now() - LIFE - timedelta(days=1),
        Tokens([(key.kid, key.secret) for key in world.settings.token_keys]),
    )
    session_id = jwt.decode(anna.tokens["access_token"], options={"verify_signature": False})["sid"]
    anna.tokens["access_token"] = tokens.issue(UserId(anna.user_id), UUID(session_id), then)
    assert (await anna("GET", "/me")).status_code == 401
    assert (await anna("DELETE", "/sessions")).status_code == 204
    refresh = {"refresh_token": anna.tokens["refresh_token"]}
    assert (await world.http.post("/v1/sessions/refresh", json=refresh)).status_code == 401
    assert (await anna("DELETE", "/sessions")).status_code == 401


async def test_after_signing_out_nothing_of_the_session_works(world: World, anna: Runner) -> None:
    assert (await anna("DELETE", "/sessions")).status_code == 204
    assert (await anna("GET", "/me")).status_code == 401
    refresh = {"refresh_token": anna.tokens["refresh_token"]}
    assert (await world.http.post("/v1/sessions/refresh", json=refresh)).status_code == 401


@pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer x.y.z", b"Basic YTpi", b"Bearer \xff"])
async def test_requests_without_a_token_are_told_how_to_get_one(world: World, header: bytes) -> None:
    answer = await world.http.get("/v1/me", headers={b"Authorization": header})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert answer.json()["code"] == "token-refused"
