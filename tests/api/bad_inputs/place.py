"""Where bad inputs go: an instance on a port with two runners in it, and ways to send them something."""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode
from uuid import uuid4

from msgspec import Struct

from tests.api.wire import Answer, exchange, request

JSON: Final[Mapping[str, str]] = {"Content-Type": "application/json"}
_WAIT: Final[Mapping[str, str]] = {"Prefer": "wait=25"}
_FIRST_DAY: Final = datetime(2025, 1, 1, 7, tzinfo=UTC)


class Person(Struct, frozen=True):
    """Somebody signed in."""

    user_id: str
    email: str
    access_token: str
    refresh_token: str

    @property
    def signed(self) -> dict[str, str]:
        """The header that says who asks."""
        return {"Authorization": f"Bearer {self.access_token}"}


class Place(Struct, frozen=True):
    """An instance, Anna, who sends the bad inputs and has a run, and Ben, who has a private one."""

    port: int
    token_key: tuple[str, bytes]
    anna: Person
    ben: Person
    run: str
    secret: str

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        person: Person | None = None,
    ) -> Answer:
        """Under `/v1`; `{run}`, `{secret}`, `{ben}` and `{new}` (an id that nothing has) stand for ids in the path."""
        target = (
            path.replace("{run}", self.run)
            .replace("{secret}", self.secret)
            .replace("{ben}", self.ben.user_id)
            .replace("{new}", str(uuid4()))
        )
        signed = (person or self.anna).signed
        return await exchange(self.port, request(method, f"/v1{target}", {**signed, **(headers or {})}, body))


Send = Callable[[Place], Awaitable[Answer]]


class Bad(Struct, frozen=True):
    """An input of the list, by its number and words, and what may be answered: a status and a code."""

    number: int
    text: str
    send: Send
    expected: tuple[str, ...]


def bad(number: int, text: str, send: Send, *expected: str) -> Bad:
    """One of the list."""
    return Bad(number, text, send, expected)


def told(answer: Answer) -> str:
    """`422 invalid-body`; of a new activity `201 CODE CODE`, its warnings."""
    if answer.status != 201 or b'"warnings"' not in answer.body:
        return answer.told
    codes = sorted({warning.partition(":")[0] for warning in json.loads(answer.body)["warnings"]})
    return " ".join(["201", *codes])


def call(method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Send:
    """Anna asks."""

    async def send(place: Place) -> Answer:
        return await place.ask(method, path, body, headers)

    return send


def sends_json(body: bytes, path: str = "/me", method: str = "PATCH", headers: Mapping[str, str] | None = None) -> Send:
    """Anna sends JSON; to her profile, if nothing else is said."""
    return call(method, path, body, {**JSON, **(headers or {})})


def goal(**changes: object) -> Send:
    """Anna sets a goal that would be fine but for the changes."""
    wish = {"metric": "distance", "target": 1000, "period": "month", "starts_on": "2026-05-01", **changes}
    return sends_json(json.dumps(wish).encode(), "/me/goals/{new}", "PUT")


def hand_in(body: bytes, headers: Mapping[str, str] | None = None, **query: str) -> Send:
    """Anna hands in a recording, and waits for what becomes of it."""
    return call("PUT", f"/activities/{{new}}?{urlencode(query)}", body, {**_WAIT, **(headers or {})})


def raw(head: str, body: bytes = b"", *, signed: bool = True, ends: bool = True) -> Send:
    """Bytes as they are, with Anna's token; the lines of the head without the last, empty one."""

    async def send(place: Place) -> Answer:
        lines = [head, "Host: cairn", "Connection: close"]
        if signed:
            lines.append(f"Authorization: Bearer {place.anna.access_token}")
        return await exchange(
            place.port, "\n".join([*lines, "", ""]).replace("\n", "\r\n").encode("latin-1") + body, ends=ends
        )

    return send


def day(number: int) -> datetime:
    """A morning of this input's own: a run at the same time at the same place would be a duplicate."""
    return _FIRST_DAY + timedelta(days=number)


def recording(number: int, count: int = 60, **changes: Any) -> bytes:
    """A recording as JSON, north at 3 m/s from somewhere in Berlin, with other columns or members."""
    columns: dict[str, Any] = {
        "t": list(range(count)),
        "lat": [round(52.5 + 2.7e-5 * second, 7) for second in range(count)],
        "lon": [13.4] * count,
    }
    whole = {"started_at": f"{day(number):%Y-%m-%dT%H:%M:%SZ}", "sport": "running"}
    for name, value in changes.items():
        (whole if name in ("started_at", "sport", "title", "points") else columns)[name] = value
    return json.dumps({"points": columns, **whole}).encode()


async def settle(port: int, token_key: tuple[str, bytes]) -> Place:
    """Two new runners, each with a run."""
    anna, ben = [await _person(port, name) for name in ("Anna", "Ben")]
    place = Place(port, token_key, anna, ben, str(uuid4()), str(uuid4()))
    for person, activity_id, visibility in ((anna, place.run, "public"), (ben, place.secret, "private")):
        path = f"/activities/{activity_id}?visibility={visibility}"
        answer = await place.ask("PUT", path, recording(0), _WAIT, person)
        assert answer.status == 201, answer
    return place


async def _person(port: int, name: str) -> Person:
    email = f"{name.lower()}-{uuid4().hex}@example.com"
    body = json.dumps({"email": email, "password": "correct horse", "display_name": name}).encode()
    answer = await exchange(port, request("POST", "/v1/users", JSON, body))
    assert answer.status == 201, answer
    tokens = json.loads(answer.body)
    return Person(tokens["user_id"], email, tokens["access_token"], tokens["refresh_token"])
