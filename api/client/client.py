"""Calls of the HTTP contract: every write is repeated safely, every read sees the writes before it."""

import asyncio
import json as json_module
import math
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import UUID, uuid4

import httpx

from api.client.pacing import Pacer, Pacing
from api.client.phone import Phone
from api.client.verdicts import PACED, Json, Refused, Unreachable, code_in, counts, decoded, told_at, told_seconds
from api.client.wire import connect, fetch

PATIENCE_SECONDS: Final = 60.0  # a server that restarts is back within this
_UNAUTHORIZED: Final = 401
_NOT_MODIFIED: Final = 304
_REPLAYED: Final = "Idempotency-Replayed"
_DAY: Final = 86_400.0
_REFRESH: Final = "/sessions/refresh"
# the successor of a refresh token is told again for 30 s; later it ends the session: that is time for three tries
_REFRESH_PAUSE: Final = 5.0
_REFRESH_SECONDS: Final = 8.0
_SIGN_OUT_SECONDS: Final = 5.0  # somebody waits before the screen
_SOON: Final = 0.1  # seconds until it makes sense to ask again while another call of the app is asking
_TOKENS: Final = frozenset({"user_id", "access_token", "refresh_token"})


@dataclass(frozen=True)
class _Silence:
    """No answer, or none that counts."""

    reason: str
    pause: float
    broke: bool = False


class Client:
    """One signed-in user at one server. Use as `async with Client(url) as client`.

    Calls raise `Refused` or `Unreachable`. A read sees the write that was answered last before it. What an app keeps
    (its device id, session, answers) is on `phone`; without one it goes with the client.
    """

    def __init__(
        self,
        base_url: str,
        *,
        name: str = "cairn-client/0.1",
        patience_seconds: float = PATIENCE_SECONDS,
        phone: Phone | None = None,
        pacing: Pacing | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.phone = phone or Phone()
        self._phone_is_own = phone is None
        self._http = connect(base_url, f"{name}; device={self.phone.device_id}", transport)
        self.patience_seconds = patience_seconds
        self.last_seconds = 0.0  # that the last answer took: what sort of network this is
        self._tokens: Json = self.phone.session()
        self._kept = self._tokens  # what is on the phone as far as this client knows
        self._adopted = False  # whether the tokens are another process's, and may have expired since
        self._session = 0  # counts those that this client has had: a call belongs to the one that it began with
        self._position: str | None = None
        self._clock_behind = timedelta()  # of this machine's, by the last answer's Date
        self._refreshing = asyncio.Lock()
        self._pacer = Pacer(random.Random(), pacing)  # noqa: S311 - jitter, not a secret
        self._one_at_a_time = asyncio.Lock()  # while the server fails

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._http.aclose()
        if self._phone_is_own:
            self.phone.close()

    @property
    def user_id(self) -> UUID:
        """Who is signed in."""
        return UUID(self._tokens["user_id"])

    @property
    def session(self) -> Json:
        """The tokens, for another client to `begin` with."""
        return dict(self._tokens)

    @property
    def is_signed_in(self) -> bool:
        """Whether there is a session, also one from before the app was ended."""
        return bool(self._tokens)

    async def register(self, email: str, password: str, display_name: str, user_id: UUID | None = None) -> None:
        """Open an account and sign in. A chosen `user_id` makes this call safe to repeat; each try of a call is."""
        body = {"email": email, "password": password, "display_name": display_name, "user_id": str(user_id or uuid4())}
        self.begin(await self._tokens_from("/users", body))

    async def sign_in(self, email: str, password: str) -> None:
        """Begin a session."""
        self.begin(await self._tokens_from("/sessions", {"email": email, "password": password}))

    def begin(self, tokens: Json) -> None:
        """Go on with a session as it was answered, in the place of any other: calls that are on their way for that one
        raise `Unreachable`.
        """
        self._session += 1
        self._renew(tokens)

    async def sign_out(self) -> None:
        """End the session: on the phone in any case, at the server if it answers soon. What was not sent yet stays in
        the outbox, until they sign in again.
        """
        if not self._tokens:
            return
        session = self._session
        try:
            # a session that has ended is refused; one left behind ends by itself
            with suppress(Refused, Unreachable, TimeoutError):
                async with asyncio.timeout(_SIGN_OUT_SECONDS):
                    await self._send("DELETE", "/sessions", patience=_SIGN_OUT_SECONDS)
        finally:
            if self._session == session:
                user_id, self._tokens = self.user_id, {}
                self._session += 1
                self.phone.forget(user_id)

    async def rest(self, seconds: float) -> None:
        """Sleep between two calls that belong to one session; `Unreachable` when it is another one by then."""
        session = self._session
        await asyncio.sleep(seconds)
        self._belongs(session)

    async def me(self) -> Json:
        """The own profile."""
        return await self.get("/me")

    async def change_profile(self, **changes: object) -> None:
        """Set display_name, time_zone, units or default_visibility."""
        await self._send("PATCH", "/me", json=changes)

    async def upload(
        self, activity_id: UUID, body: bytes, *, patience_seconds: float | None = None, **about: str | None
    ) -> Json:
        """Hand in a recorded file, with its title, sport or visibility; its state. Once this returns, the server has
        the bytes for good.
        """
        path, headers = f"/activities/{activity_id}", {"Content-Type": "application/octet-stream"}
        params, patience = _given(about), patience_seconds
        return decoded(
            await self._send("PUT", path, content=body, headers=headers, params=params, patience=patience, wants=())
        )

    async def send_chunk(
        self, activity_id: UUID, seq: int, data: bytes, *, patience_seconds: float | None = None
    ) -> None:
        """Hand in a slice of a recorded file. Once this returns, the server has it for good."""
        path, headers = f"/activities/{activity_id}/chunks/{seq}", {"Content-Type": "application/octet-stream"}
        await self._send("PUT", path, content=data, headers=headers, patience=patience_seconds)

    async def chunks(self, activity_id: UUID) -> Json:
        """What the server has of a recording in chunks: `offset` bytes from the first on without a gap."""
        try:
            return await self.get(f"/activities/{activity_id}/chunks", "received", "offset")
        except Refused as refusal:
            if not refusal.is_missing:
                raise
            return {"received": [], "offset": 0}

    async def finish(self, activity_id: UUID, chunks: int, sha256: str, **about: str | None) -> Json:
        """Say that a recording is whole, with its title, sport or visibility; its state, as `upload` tells it."""
        body = {"chunks": chunks, "sha256": sha256, **_given(about)}
        return decoded(await self._send("POST", f"/activities/{activity_id}/finish", json=body, wants=()))

    async def upload_state(self, activity_id: UUID) -> Json:
        """What has become of an upload. Once it is ready, later reads see the activity."""
        return await self.get(f"/activities/{activity_id}/upload", "status")

    async def edit(self, activity_id: UUID, **changes: object) -> None:
        """Set title, notes, visibility or sport of an own activity."""
        await self._send("PATCH", f"/activities/{activity_id}", json=changes)

    async def follow(self, user_id: UUID) -> None:
        """Follow a runner."""
        await self._send("PUT", f"/me/following/{user_id}")

    async def set_goal(self, goal_id: UUID, goal: Mapping[str, object]) -> None:
        """Set or change a goal."""
        await self._send("PUT", f"/me/goals/{goal_id}", json=dict(goal))

    async def get(self, path: str, *wants: str) -> Json:
        """Any read of the contract, by its path below `/v1`; it sees this client's writes. JSON without what is wanted
        is somebody else's.

        What the phone has of it goes along as an ETag: 304 says that it is still so.
        """
        if not self._tokens:
            return decoded(await self._send("GET", path, wants=wants))
        kept = self.phone.answers.find(self.user_id, path)
        answer = await self._send("GET", path, headers={"If-None-Match": kept[0]} if kept else None, wants=wants)
        if kept and answer.status_code == _NOT_MODIFIED:
            return dict(json_module.loads(kept[1]))
        if "ETag" in answer.headers:
            self.phone.answers.keep(self.user_id, path, answer.headers["ETag"], answer.content)
        return decoded(answer)

    async def command(self, method: str, path: str, body: bytes, key: str) -> None:
        """A write as it was written down before: with its JSON, and the key that it has for ever."""
        headers = {"Content-Type": "application/json"} if body else {}
        if method == "POST":
            headers["Idempotency-Key"] = key
        await self._send(method, path, content=body, headers=headers)

    def seconds_until(self, moment: str) -> float:
        """From now until a moment that the server named, by the server's clock: a phone's may be years off."""
        left = (datetime.fromisoformat(moment) - datetime.now(UTC) - self._clock_behind).total_seconds()
        return min(_DAY, max(0.0, left))

    async def activity(self, activity_id: UUID | str) -> Json:
        """One activity."""
        return await self.get(f"/activities/{activity_id}")

    async def activities(self, user_id: UUID) -> list[Json]:
        """The first page of a runner's activities, the latest start first."""
        return list((await self.get(f"/users/{user_id}/activities", "items"))["items"])

    async def feed(self, limit: int = 20) -> list[Json]:
        """The first page of the feed."""
        return list((await self.get(f"/feed?limit={limit}", "items"))["items"])

    async def summaries(self, period: str = "week") -> list[Json]:
        """Sums by period, the latest first."""
        return list((await self.get(f"/me/summaries?period={period}", "items"))["items"])

    async def goals(self) -> list[Json]:
        """Goals with their progress."""
        return list((await self.get("/me/goals", "items"))["items"])

    async def _tokens_from(self, path: str, body: Json) -> Json:
        return decoded(await self._send("POST", path, json=body, signed_in=False, wants=_TOKENS))

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
        patience: float | None = None,
        wants: Collection[str] | None = None,
    ) -> httpx.Response:
        """Send until there is an answer that counts, as often as the pacer and the patience allow. `wants`: what a
        success tells, or none is needed.

        After each pause and answer, the session is still the one that this began with: what a runner did goes into no
        other's account, and nobody sees another's answers.
        """
        session = self._session if signed_in or path == _REFRESH else None
        position = self._position
        deadline = time.monotonic() + (self.patience_seconds if patience is None else patience)
        timeout = _REFRESH_SECONDS if path == _REFRESH else httpx.USE_CLIENT_DEFAULT
        tries, renewed, last = 0, False, _Silence("none, nor did other calls get one", 0.0)
        while True:
            token = self._tokens.get("access_token")
            own = {**(headers or {}), **self._own_headers(method, signed_in=signed_in)}
            request = self._http.build_request(
                method, path, json=json, content=content, headers=own, params=params, timeout=timeout
            )
            async with self._turn(deadline, at_once=path == _REFRESH and tries > 0) as in_time:
                self._belongs(session)
                outcome = in_time and await self._ask(request, wants)
            self._belongs(session)
            if isinstance(outcome, httpx.Response):
                if outcome.status_code == _UNAUTHORIZED and signed_in and not renewed:
                    renewed = await self._refresh(token)  # only once: a new token that is refused stays refused
                    self._belongs(session)
                    if self._tokens.get("access_token") != token:
                        continue
                return self._checked(outcome, is_latest=tries > 0 and position == self._position)
            if isinstance(outcome, _Silence):
                tries, last = tries + 1, outcome
            pause = last.pause if in_time else max(self._wait(), _SOON)
            if not in_time or time.monotonic() + pause > deadline:
                told = f"{method} {path}: no answer that counts after {tries} tries; the last: {last.reason}"
                raise Unreachable(told, pause, broke=last.broke)
            await asyncio.sleep(pause)

    def _belongs(self, session: int | None) -> None:
        if session not in (None, self._session):
            raise Unreachable("the session that this call belongs to is over", math.inf)

    @asynccontextmanager
    async def _turn(self, deadline: float, *, at_once: bool) -> AsyncIterator[bool]:
        """When this app may ask: at once while all is well; else one call at a time, after the pause of them all.
        Whether that is in time.
        """
        if at_once or self._pacer.is_well:
            yield True
            return
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._one_at_a_time.acquire()
        except TimeoutError:
            yield False
            return
        try:
            wait = self._wait()
            in_time = wait <= max(0.0, deadline - time.monotonic())  # who has no patience asks once, when it may
            await asyncio.sleep(wait if in_time else 0)
            yield in_time
        finally:
            self._one_at_a_time.release()

    def _wait(self) -> float:
        return self._pacer.wait(time.monotonic())

    async def _ask(self, request: httpx.Request, wants: Collection[str] | None) -> httpx.Response | _Silence:
        asked_at = time.monotonic()
        is_renewal = request.url.path.endswith(_REFRESH)
        at_most = _REFRESH_PAUSE if is_renewal else math.inf
        try:
            answer = await fetch(self._http, request)
        except httpx.LocalProtocolError:  # it cannot be sent as it is: no other try would be, and no other call suffers
            raise
        except httpx.RequestError as error:
            broke = isinstance(error, httpx.TransportError)  # else somebody's page
            stood = broke and not isinstance(error, httpx.ConnectError | httpx.TimeoutException)
            pause = self._pacer.failed(time.monotonic(), asked_at=asked_at, broke=stood, at_most=at_most)
            return _Silence(f"{type(error).__name__} {error}".strip(), pause, broke=broke)
        if counts(answer, wants) and (answer.is_success or not is_renewal or code_in(decoded(answer))):
            self._pacer.succeeded()
            self.last_seconds = time.monotonic() - asked_at
            return answer
        reason, told = f"HTTP {answer.status_code}", told_seconds(answer)
        if told is not None and answer.status_code in PACED:
            return _Silence(reason, self._pacer.told(told))
        return _Silence(reason, self._pacer.failed(time.monotonic(), asked_at=asked_at, told=told, at_most=at_most))

    def _own_headers(self, method: str, *, signed_in: bool) -> dict[str, str]:
        headers = {}
        if signed_in and self._tokens:
            headers["Authorization"] = f"Bearer {self._tokens['access_token']}"
        if method == "GET" and self._position is not None:
            headers["Cairn-Min-Position"] = self._position
        return headers

    def _checked(self, answer: httpx.Response, *, is_latest: bool) -> httpx.Response:
        """`is_latest`: it was tried before in this call, and no other write was answered since."""
        if answer.is_error:
            raise Refused(answer.status_code, decoded(answer))
        if is_latest or self._position is None or _REPLAYED not in answer.headers:  # else it tells one of back then
            self._position = answer.headers.get("Cairn-Position", self._position)
        if (at := told_at(answer)) is not None:
            self._clock_behind = at - datetime.now(UTC)
        return answer

    async def _refresh(self, used: str | None) -> bool:
        """Get new tokens, once for all calls that found theirs expired; whether there are some of the server's."""
        async with self._refreshing:
            if self._tokens.get("access_token") != used:
                return not self._adopted
            if not self._tokens:
                return False
            kept = self.phone.session()
            if kept != self._kept and kept.get("user_id") == self._tokens["user_id"]:
                self._tokens = self._kept = kept  # by another process of the app
                self._adopted = True
                return False
            body = {"refresh_token": self._tokens["refresh_token"]}
            try:
                self._renew(await self._tokens_from(_REFRESH, body))
            except Refused:
                return False
            except sqlite3.OperationalError:  # a phone that is full: they are good until the app is ended
                return True
            return True

    def _renew(self, tokens: Json) -> None:
        """Keep tokens at once: the ones before are used up."""
        self._tokens, self._adopted = tokens, False
        self.phone.keep_session(tokens)
        self._kept = tokens


def _given(about: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in about.items() if value is not None}
