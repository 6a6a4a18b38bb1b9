"""Every kind of command there is, as an app sends it: to lose its replies, and to send it again.

A new route that is no GET needs a recipe here: tests/api/test_idempotency.py fails without it.
"""

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import httpx

from api.front.front import Front
from tests.recordings import fit

_BEGIN: Final = datetime(2005, 1, 1, 6, tzinfo=UTC)


class Stage:
    """A signed-in runner, another one to follow, and a server without a network between."""

    def __init__(self, http: httpx.AsyncClient, signed: Mapping[str, Any], other_id: UUID, dice: random.Random) -> None:
        self.http = http
        self.email = ""
        self.password = "correct horse"
        self.tokens = dict(signed)
        self.other_id = other_id
        self.dice = dice
        self._runs = 0

    def headers(self, *, signed_in: bool = True, key: str | None = None) -> dict[str, str]:
        told = {"Authorization": f"Bearer {self.tokens['access_token']}"} if signed_in else {}
        return told if key is None else {**told, "Idempotency-Key": key}

    async def do(self, method: str, path: str, *statuses: int, **more: Any) -> httpx.Response:
        """A request that must be answered with one of these."""
        headers = {**self.headers(), **more.pop("headers", {})}
        answer = await self.http.request(method, f"/v1{path}", headers=headers, **more)
        assert answer.status_code in statuses, (method, path, answer.status_code, answer.text)
        return answer

    def run(self) -> bytes:
        """A short run like no other, at a time of its own."""
        self._runs += 1
        seed = self.dice.randrange(1 << 30)
        return fit(seed, kilometres=0.2, started_at=_BEGIN + timedelta(hours=self._runs))

    def entry(self, **more: object) -> dict[str, object]:
        started_at = _BEGIN + timedelta(minutes=self.dice.randrange(1 << 22))
        told = {"sport": "running", "started_at": started_at.isoformat(), "distance_m": 5_000, "elapsed_s": 1_800}
        return {**told, **more}

    async def entered(self) -> str:
        answer = await self.do("POST", "/activities", 201, json=self.entry(activity_id=str(uuid4())))
        return str(answer.json()["activity_id"])


async def _nothing() -> None: ...


@dataclass
class Command:
    """One request, however often it is sent, and what it does in all: events, by topic."""

    method: str
    path: str  # below /v1
    effects: Mapping[str, int] = field(default_factory=dict)
    json: object = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    signed_in: bool = True
    key: str | None = None
    statuses: tuple[int, ...] = (204,)
    # the same content again, as by an app that lost its memory: under a new key, and a new id if it chose one
    forgetful: Callable[[], Awaitable[None]] = _nothing
    # what is told again whatever happened in between, beside the status
    told: Callable[[httpx.Response], object] = lambda _answer: None
    upload: UUID | None = None  # whose verdict is to be waited for

    @property
    def keyed(self) -> bool:
        """Whether it is promised the same answer, byte for byte."""
        return self.key is not None


Recipe = Callable[[Stage], Awaitable[Command]]


async def register(stage: Stage) -> Command:
    email, known = f"{uuid4().hex}@example.com", stage.dice.random() < 0.5
    body = {"email": email, "password": stage.password, "display_name": "Anna"}
    if known:
        body["user_id"] = str(uuid4())

    async def forgetful() -> None:
        answer = await stage.do("POST", "/users", 201 if known else 409, json=body, headers=_new_key())
        assert answer.json().get("user_id") == body.get("user_id")

    return _post("/users", {"user.registered@1": 1}, body, forgetful=forgetful, signed_in=False)


async def sign_in(stage: Stage) -> Command:
    body = {"email": stage.email, "password": stage.password}
    return Command("POST", "/sessions", json=body, signed_in=False, statuses=(201,))


async def refresh(stage: Stage) -> Command:
    body = {"refresh_token": stage.tokens["refresh_token"]}

    def told(answer: httpx.Response) -> object:
        stage.tokens = answer.json()
        return answer.json()["refresh_token"]

    return Command("POST", "/sessions/refresh", json=body, signed_in=False, statuses=(201,), told=told)


async def sign_out(stage: Stage) -> Command:
    body = {"email": stage.email, "password": stage.password}
    session = (await stage.do("POST", "/sessions", 201, json=body)).json()
    headers = {"Authorization": f"Bearer {session['access_token']}"}
    return Command("DELETE", "/sessions", headers=headers, signed_in=False, statuses=(204, 401))


async def change_profile(_stage: Stage) -> Command:
    return Command("PATCH", "/me", {"user.profile_changed@1": 1}, {"display_name": uuid4().hex})


GOAL: Final = {"metric": "distance", "target": 10_000, "period": "week", "starts_on": "2026-01-01"}


async def set_goal(_stage: Stage) -> Command:
    return Command("PUT", f"/me/goals/{uuid4()}", {"goal.set@1": 1}, GOAL)


async def drop_goal(stage: Stage) -> Command:
    path = f"/me/goals/{uuid4()}"
    await stage.do("PUT", path, 204, json=GOAL)
    return Command("DELETE", path, {"goal.dropped@1": 1})


async def follow(stage: Stage) -> Command:
    path = f"/me/following/{stage.other_id}"
    await stage.do("DELETE", path, 204)
    return Command("PUT", path, {"follow.started@1": 1})


async def unfollow(stage: Stage) -> Command:
    path = f"/me/following/{stage.other_id}"
    await stage.do("PUT", path, 204)
    return Command("DELETE", path, {"follow.ended@1": 1})


async def enter(stage: Stage) -> Command:
    entry, effects = stage.entry(), {"activity.recorded@2": 1}
    if stage.dice.random() < 0.3:
        entry, effects = {**entry, "notes": "Rain."}, {**effects, "activity.edited@2": 1}
    if stage.dice.random() < 0.5:
        return _post("/activities", effects, entry)
    entry["activity_id"] = str(uuid4())

    async def forgetful() -> None:
        await stage.do("POST", "/activities", 201, json=entry, headers=_new_key())

    return _post("/activities", effects, entry, forgetful=forgetful)


async def enter_several(stage: Stage) -> Command:
    items = [stage.entry(activity_id=str(uuid4())) for _ in range(stage.dice.randint(1, 8))]
    body = {"items": [*items, {"sport": "chess"}]}

    async def forgetful() -> None:
        answer = await stage.do("POST", "/activities/batch", 200, json=body, headers=_new_key())
        assert {item["status"] for item in answer.json()["items"][:-1]} == {"exists"}

    return _post("/activities/batch", {"activity.recorded@2": len(items)}, body, forgetful=forgetful, status=200)


async def edit(stage: Stage) -> Command:
    path = f"/activities/{await stage.entered()}"
    return Command("PATCH", path, {"activity.edited@2": 1}, {"title": uuid4().hex})


async def delete(stage: Stage) -> Command:
    return Command("DELETE", f"/activities/{await stage.entered()}", {"activity.deleted@1": 1})


async def upload(stage: Stage) -> Command:
    own, body = uuid4(), stage.run()
    return Command(
        "PUT",
        f"/activities/{own}",
        {"activity.recorded@2": 1},
        content=body,
        statuses=(202,),
        told=lambda answer: (answer.json()["activity_id"], answer.json()["status_url"]),
        upload=own,
        forgetful=lambda: _as_new_file(stage, own, body),
    )


async def put_chunk(stage: Stage) -> Command:
    own, body = uuid4(), stage.run()

    async def finished() -> None:
        await stage.do("POST", f"/activities/{own}/finish", 202, json=_whole(body, 1))
        await _verdict(stage, own)
        await stage.do("PUT", f"/activities/{own}/chunks/0", 204, content=body)

    path, effects = f"/activities/{own}/chunks/0", {"activity.recorded@2": 1}
    return Command("PUT", path, effects, content=body, statuses=(200, 201), forgetful=finished)


async def finish(stage: Stage) -> Command:
    own, body = uuid4(), stage.run()
    await _in_two(stage, own, body)

    async def forgetful() -> None:
        await _verdict(stage, own)
        other = uuid4()
        await _in_two(stage, other, body)
        headers = {**_new_key(), "Prefer": "wait=30"}
        answer = await stage.do("POST", f"/activities/{other}/finish", 202, json=_whole(body, 2), headers=headers)
        assert (answer.json()["status"], answer.json()["duplicate_of"]) == ("duplicate", str(own))

    path = f"/activities/{own}/finish"
    return _post(path, {"activity.recorded@2": 1}, _whole(body, 2), forgetful=forgetful, status=202, upload=own)


def _post(path: str, effects: Mapping[str, int], body: object, *, status: int = 201, **more: Any) -> Command:
    return Command("POST", path, effects, body, key=uuid4().hex, statuses=(status,), **more)


def _new_key() -> dict[str, str]:
    return {"Idempotency-Key": uuid4().hex}


def _whole(body: bytes, chunks: int) -> dict[str, object]:
    return {"chunks": chunks, "sha256": hashlib.sha256(body).hexdigest()}


async def _in_two(stage: Stage, own: UUID, body: bytes) -> None:
    for seq, part in enumerate((body[:999], body[999:])):
        await stage.do("PUT", f"/activities/{own}/chunks/{seq}", 201, content=part)


async def _as_new_file(stage: Stage, own: UUID, body: bytes) -> None:
    await _verdict(stage, own)
    answer = await stage.do("PUT", f"/activities/{uuid4()}", 202, content=body, headers={"Prefer": "wait=30"})
    assert (answer.json()["status"], answer.json()["duplicate_of"]) == ("duplicate", str(own))


async def _verdict(stage: Stage, own: UUID) -> None:
    """Until there is one: of two uploads of the same bytes at the same time, either may be the first."""
    for _ in range(3_000):
        if (await stage.do("GET", f"/activities/{own}/upload", 200)).json()["status"] != "processing":
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{own} is still processing")


RECIPES: Final[Mapping[str, Recipe]] = {
    "POST /v1/users": register,
    "POST /v1/sessions": sign_in,
    "POST /v1/sessions/refresh": refresh,
    "DELETE /v1/sessions": sign_out,
    "PATCH /v1/me": change_profile,
    "PUT /v1/me/goals/{goal_id}": set_goal,
    "DELETE /v1/me/goals/{goal_id}": drop_goal,
    "PUT /v1/me/following/{runner_id}": follow,
    "DELETE /v1/me/following/{runner_id}": unfollow,
    "POST /v1/activities": enter,
    "POST /v1/activities/batch": enter_several,
    "PATCH /v1/activities/{activity_id}": edit,
    "DELETE /v1/activities/{activity_id}": delete,
    "PUT /v1/activities/{activity_id}": upload,
    "PUT /v1/activities/{activity_id}/chunks/{seq}": put_chunk,
    "POST /v1/activities/{activity_id}/finish": finish,
}
# POSTs without an Idempotency-Key, and why
UNKEYED: Final[Mapping[str, str]] = {
    "POST /v1/sessions": "signing in again begins another session, and its answer is a secret that is not kept",
    "POST /v1/sessions/refresh": "the refresh token is its key: the same one again gets the same successor for 30 s",
}


def commands_of(app: Front) -> Iterator[str]:
    """All routes that are no mere reads, such as `POST /v1/users`."""
    return (f"{method} {path}" for method, path in app.routes() if method not in ("GET", "HEAD"))
