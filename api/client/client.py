"""Calls of the HTTP contract: every write is repeated safely, every read sees the writes before it."""

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Any, Final, Self
from uuid import UUID, uuid4

import httpx

PATIENCE_SECONDS: Final = 60.0  # a server that restarts is back within this
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 5.0
_PASSING: Final = frozenset({408, 425, 429})  # of the 4xx, those that another try may mend
_UNAUTHORIZED: Final = 401
_NO_CONTENT: Final = 204
# no proxy of the environment stands between this machine and itself
_DIRECT: Final = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}

Json = dict[str, Any]


class Refused(Exception):
    """The server says no, and would say it again. `problem` is what it says, `code` its code (docs/problems.md);
    an empty `code` means that it was not the server, but something on the way to it.
    """

    def __init__(self, status: int, problem: Json) -> None:
        super().__init__(problem.get("detail") or problem.get("title") or f"HTTP {status}")
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = problem


class Unreachable(Exception):
    """No answer within the client's patience, however often it tried."""


class Client:
    """One signed-in user at one server. Use as `async with Client(url) as client`.

    Calls raise `Refused` or `Unreachable`. A read sees the write that was answered last before it.
    """

    def __init__(
        self, base_url: str, *, name: str = "cairn-client/0.1", patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        headers = {"Cairn-Client": f"{name}; device={uuid4()}"}
        address = f"{base_url.rstrip('/')}/v1"
        self._http = httpx.AsyncClient(base_url=address, headers=headers, timeout=30.0, mounts=_DIRECT)
        self.patience_seconds = patience_seconds
        self._tokens: Json = {}
        self._position: str | None = None
        self._refreshing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.aclose()

    @property
    def user_id(self) -> UUID:
        """Who is signed in."""
        return UUID(self._tokens["user_id"])

    async def register(self, email: str, password: str, display_name: str, user_id: UUID | None = None) -> None:
        """Open an account and sign in. A chosen `user_id` makes this call safe to repeat; each try of a call is."""
        body = {"email": email, "password": password, "display_name": display_name, "user_id": str(user_id or uuid4())}
        self._tokens = await self._json("POST", "/users", body, signed_in=False)

    async def sign_in(self, email: str, password: str) -> None:
        """Begin a session."""
        self._tokens = await self._json("POST", "/sessions", {"email": email, "password": password}, signed_in=False)

    async def me(self) -> Json:
        """The own profile."""
        return await self.get("/me")

    async def change_profile(self, **changes: object) -> None:
        """Set display_name, time_zone, units or default_visibility."""
        await self._send("PATCH", "/me", json=changes)

    async def upload(
        self,
        activity_id: UUID,
        body: bytes,
        *,
        title: str | None = None,
        sport: str | None = None,
        visibility: str | None = None,
    ) -> Json:
        """Hand in a recorded file; its state. Once this returns, the server has the bytes for good."""
        given = {"title": title, "sport": sport, "visibility": visibility}
        parameters = {name: value for name, value in given.items() if value is not None}
        headers = {"Content-Type": "application/octet-stream"}
        path = f"/activities/{activity_id}"
        return _decoded(await self._send("PUT", path, content=body, headers=headers, params=parameters))

    async def send_chunk(self, activity_id: UUID, seq: int, data: bytes) -> None:
        """Hand in a slice of a recorded file. Once this returns, the server has it for good."""
        headers = {"Content-Type": "application/octet-stream"}
        await self._send("PUT", f"/activities/{activity_id}/chunks/{seq}", content=data, headers=headers)

    async def finish(self, activity_id: UUID, chunks: int, sha256: str, *, title: str | None = None) -> Json:
        """Say that a recording is whole; its state, as `upload` tells it."""
        body = {"chunks": chunks, "sha256": sha256, **({} if title is None else {"title": title})}
        return await self._json("POST", f"/activities/{activity_id}/finish", body)

    async def upload_state(self, activity_id: UUID) -> Json:
        """What has become of an upload. Once it is ready, later reads see the activity."""
        return await self.get(f"/activities/{activity_id}/upload")

    async def edit(self, activity_id: UUID, **changes: object) -> None:
        """Set title, notes, visibility or sport of an own activity."""
        await self._send("PATCH", f"/activities/{activity_id}", json=changes)

    async def follow(self, user_id: UUID) -> None:
        """Follow a runner."""
        await self._send("PUT", f"/me/following/{user_id}")

    async def set_goal(self, goal_id: UUID, goal: Mapping[str, object]) -> None:
        """Set or change a goal."""
        await self._send("PUT", f"/me/goals/{goal_id}", json=dict(goal))

    async def get(self, path: str) -> Json:
        """Any read of the contract, by its path below `/v1`; it sees this client's writes."""
        return await self._json("GET", path)

    async def activity(self, activity_id: UUID | str) -> Json:
        """One activity."""
        return await self.get(f"/activities/{activity_id}")

    async def activities(self, user_id: UUID) -> list[Json]:
        """The first page of a runner's activities, the latest start first."""
        return list((await self.get(f"/users/{user_id}/activities"))["items"])

    async def feed(self, limit: int = 20) -> list[Json]:
        """The first page of the feed."""
        return list((await self.get(f"/feed?limit={limit}"))["items"])

    async def summaries(self, period: str = "week") -> list[Json]:
        """Sums by period, the latest first."""
        return list((await self.get(f"/me/summaries?period={period}"))["items"])

    async def goals(self) -> list[Json]:
        """Goals with their progress."""
        return list((await self.get("/me/goals"))["items"])

    async def _json(self, method: str, path: str, body: object = None, *, signed_in: bool = True) -> Json:
        return _decoded(await self._send(method, path, json=body, signed_in=signed_in))

    async def _send(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        signed_in: bool = True,
    ) -> httpx.Response:
        """Send until there is an answer that counts: with full jitter between tries, or when the server says."""
        deadline, tries, renewed = time.monotonic() + self.patience_seconds, 0, False
        while True:
            token = self._tokens.get("access_token")
            own = {**(headers or {}), **self._own_headers(method, signed_in=signed_in)}
            try:
                answer = await self._http.request(method, path, json=json, content=content, headers=own, params=params)
            except httpx.TransportError as error:
                pause, reason = _jittered(tries), f"{type(error).__name__} {error}".strip()
            else:
                if answer.status_code == _UNAUTHORIZED and signed_in and not renewed:
                    renewed = await self._refresh(token)  # only once: a new token that is refused stays refused
                    if renewed:
                        continue
                if _counts(answer):
                    return self._checked(answer)
                pause, reason = _told_pause(answer) or _jittered(tries), f"HTTP {answer.status_code}"
            tries += 1
            if time.monotonic() + pause > deadline:
                raise Unreachable(f"{method} {path}: no answer that counts after {tries} tries; the last: {reason}")
            await asyncio.sleep(pause)

    def _own_headers(self, method: str, *, signed_in: bool) -> dict[str, str]:
        headers = {}
        if signed_in and self._tokens:
            headers["Authorization"] = f"Bearer {self._tokens['access_token']}"
        if method == "GET" and self._position is not None:
            headers["Cairn-Min-Position"] = self._position
        return headers

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_error:
            raise Refused(answer.status_code, _decoded(answer))
        self._position = answer.headers.get("Cairn-Position", self._position)
        return answer

    async def _refresh(self, used: str | None) -> bool:
        """Get new tokens, once for all calls that found theirs expired; whether there are newer ones."""
        async with self._refreshing:
            if self._tokens.get("access_token") != used:
                return True
            if not self._tokens:
                return False
            body = {"refresh_token": self._tokens["refresh_token"]}
            try:
                self._tokens = await self._json("POST", "/sessions/refresh", body, signed_in=False)
            except Refused:
                return False
            return True


def _counts(answer: httpx.Response) -> bool:
    """Whether this decides the request. A page is no success: captive portals answer 200 or 302 for the server."""
    if answer.is_success:
        kind = answer.headers.get("Content-Type", "")
        return answer.status_code == _NO_CONTENT or kind.startswith("application/json")
    return answer.is_client_error and answer.status_code not in _PASSING


def _decoded(answer: httpx.Response) -> Json:
    """The JSON object of an answer; empty when it is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _jittered(tries: int) -> float:
    """Full jitter (Brooker, "Exponential Backoff And Jitter", 2015)."""
    return random.uniform(0.0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**tries))  # noqa: S311 - jitter, not a secret


def _told_pause(answer: httpx.Response) -> float | None:
    told = answer.headers.get("Retry-After", "")
    return min(float(told), PATIENCE_SECONDS) * random.uniform(1.0, 1.2) if told.isdigit() else None  # noqa: S311
