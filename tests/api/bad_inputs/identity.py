"""56 to 66: who one says to be, what belongs to whom, and the protocol's own values."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import jwt
from msgspec.structs import replace

from api.cursors import Cursors
from tests.api.bad_inputs.place import JSON, Bad, Person, Place, Send, bad, call, goal, recording, sends_json
from tests.api.bad_inputs.shape import INVALID
from tests.api.wire import Answer, exchange, request

REFUSED, NOT_FOUND, CURSOR = "401 token-refused", "404 not-found", "400 malformed-cursor"
KEYS = ("400 malformed-idempotency-key", "422 invalid-parameter")
ANOTHER: Final = b"another key, of thirty-two bytes"


def keyed(key: str) -> Send:
    """An account is opened with this Idempotency-Key."""

    async def send(place: Place) -> Answer:
        return await _open(place, key, f"key-{uuid4().hex}@example.com")

    return send


async def _open(place: Place, key: str, email: str, body: bytes | None = None) -> Answer:
    made = body or json.dumps({"email": email, "password": "correct horse", "display_name": "Key"}).encode()
    return await exchange(place.port, request("POST", "/v1/users", {**JSON, "Idempotency-Key": key}, made))


async def _key_of_another(place: Place) -> Answer:
    """A key is its user's, or its address's: another's is another request."""
    key = str(uuid4())
    first = await _open(place, key, f"a-{key}@example.com")
    other = await _open(place, key, f"b-{key}@example.com")
    assert (first.status, other.status) == (201, 201)
    assert json.loads(first.body)["user_id"] != json.loads(other.body)["user_id"]
    return other


async def _key_again(place: Place) -> Answer:
    """Another body under a key is refused; the same JSON in other spelling is the same request."""
    key = str(uuid4())
    email = f"c-{key}@example.com"
    first = await _open(place, key, email)
    spelt = f' {{ "display_name":"\\u004bey",\n"password":"correct horse", "email":"{email}"}} '.encode()
    again = await _open(place, key, email, spelt)
    assert (again.status, again.body) == (201, first.body)
    other = {"email": email, "password": "correct horse", "display_name": "Another"}
    return await _open(place, key, email, json.dumps(other).encode())


async def _cursor(place: Place, person: Person, path: str) -> str:
    """A real one."""
    answer = await place.ask("GET", f"{path}?limit=1", person=person)
    found = json.loads(answer.body)["next_cursor"]
    assert found is not None
    return str(found)


def cursor_of(whose: str, path: str, into: str, change: str = "") -> Send:
    """A cursor that somebody got in one list, in another one, or changed."""

    async def send(place: Place) -> Answer:
        person = place.anna if whose == "anna" else place.ben
        cursor = await _cursor(place, person, path.replace("{me}", person.user_id))
        made = {
            "cut": cursor[:-2],
            "flipped": ("B" if cursor[0] == "A" else "A") + cursor[1:],
            "longer": cursor + "AAAA",
        }
        return await place.ask("GET", f"{into.replace('{me}', place.anna.user_id)}?cursor={made.get(change, cursor)}")

    return send


async def _forged_cursor(place: Place) -> Answer:
    """Made by the rules, under another key, and of ten years ago."""
    forged = Cursors(ANOTHER).write((datetime.now(UTC) - timedelta(days=3_650), uuid4()), place.anna.user_id, "feed")
    return await place.ask("GET", f"/feed?cursor={forged}")


def token(header: dict[str, object] | None = None, key: bytes | None = None, **claims: object) -> Send:
    """Anna's next token, with other claims, another header or another key."""

    async def send(place: Place) -> Answer:
        made = jwt.encode(
            _claims(place, claims), key or place.token_key[1], "HS256", {"kid": place.token_key[0], **(header or {})}
        )
        return await _with_token(place, made)

    return send


def _claims(place: Place, changes: dict[str, object]) -> dict[str, Any]:
    now = datetime.now(UTC)
    claims = jwt.decode(place.anna.access_token, options={"verify_signature": False})
    return {**claims, "iat": now, "exp": now + timedelta(minutes=15), **changes}


async def _with_token(place: Place, made: str) -> Answer:
    return await place.ask("GET", "/me", person=replace(place.anna, access_token=made))


def unsigned(algorithm: str) -> Send:
    """A token of another algorithm, signed with nothing, or with what an attacker knows."""

    async def send(place: Place) -> Answer:
        now = int(datetime.now(UTC).timestamp())
        parts = [{"alg": algorithm, "kid": place.token_key[0]}, _claims(place, {"iat": now, "exp": now + 900})]
        packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
        return await _with_token(place, ".".join([*packed, "" if algorithm == "none" else "AAAA"]))

    return send


async def _signed_out(place: Place) -> Answer:
    """Anna's other phone signs out: its token is of no use any more, and neither is its refresh token."""
    phone = await _sign_in(place)
    assert (await place.ask("DELETE", "/sessions", person=phone)).status == 204
    assert (await _refresh(place, phone.refresh_token)).status == 401
    return await place.ask("GET", "/me", person=phone)


async def _sign_in(place: Place) -> Person:
    body = json.dumps({"email": place.anna.email, "password": "correct horse"}).encode()
    answer = await place.ask("POST", "/sessions", body, JSON)
    assert answer.status == 201, answer
    tokens = json.loads(answer.body)
    return replace(place.anna, access_token=tokens["access_token"], refresh_token=tokens["refresh_token"])


async def _refresh(place: Place, refresh_token: str) -> Answer:
    return await place.ask("POST", "/sessions/refresh", json.dumps({"refresh_token": refresh_token}).encode(), JSON)


async def _refreshed_twice(place: Place) -> Answer:
    """A repeat gets the same successor; once that one was used, the first ends the session, and all of its tokens."""
    phone = await _sign_in(place)
    twice = [json.loads((await _refresh(place, phone.refresh_token)).body) for _ in range(2)]
    assert twice[0]["refresh_token"] == twice[1]["refresh_token"]
    last = json.loads((await _refresh(place, twice[0]["refresh_token"])).body)
    stolen = await _refresh(place, phone.refresh_token)
    assert (await _refresh(place, last["refresh_token"])).status == 401
    assert (await place.ask("GET", "/me", person=phone)).status == 401
    return stolen


def _seen(answer: Answer, activity_id: str) -> tuple[int, bytes, dict[str, str]]:
    """What may tell two answers apart: but for when it was given, how much may still be asked, and the id."""
    counted = ("date", "ratelimit", "ratelimit-policy")
    told = {name: value.replace(activity_id, "") for name, value in answer.headers.items() if name not in counted}
    return answer.status, answer.body, told


async def _hidden(place: Place) -> Answer:
    """Ben's private run is the same 404 as one that was never there, for every method of every path below it.

    Where bytes are handed in, an id that was never there is free: those have entries of their own.
    """
    document = json.loads((await exchange(place.port, request("GET", "/openapi.json", {}))).body)
    asked = [
        (method.upper(), path.removeprefix("/v1"))
        for path, operations in document["paths"].items()
        if "/activities/{activity_id}" in path
        for method in operations
        if method in ("get", "patch", "delete") and not path.endswith("/chunks")
    ]
    assert len(asked) >= 11, asked
    for method, path in asked:
        body = b'{"title": "mine"}' if method == "PATCH" else b""
        ids = (place.secret, str(uuid4()))
        asking = (place.ask(method, path.replace("{activity_id}", one), body, JSON) for one in ids)
        hidden, missing = (_seen(answer, one) for answer, one in zip(await asyncio.gather(*asking), ids, strict=True))
        assert (hidden[0], hidden) == (404, missing), (method, path)
    return await place.ask("GET", "/activities/{secret}")


WRITES = [
    ("POST", "/users", {"email": "a@b.example", "password": "correct horse", "display_name": "A"}),
    ("POST", "/sessions", {"email": "a@b.example", "password": "correct horse"}),
    ("POST", "/sessions/refresh", {"refresh_token": "a"}),
    ("PATCH", "/me", {}),
    ("PATCH", "/activities/{run}", {}),
]
MASS = ("user_id", "is_admin", "distance_m", "created_at", "__proto__", "")

ENTRIES: list[Bad] = [
    *(
        bad(56, f"Idempotency-Key {text!a}", keyed(text), *KEYS)
        for text in ("", '""', '"a"b"', "x" * 256, "x" * 5_000, "cl\xe9", "a\tb")
    ),
    bad(56, "another's Idempotency-Key", _key_of_another, "201"),
    bad(57, "another body under the same key", _key_again, "422 idempotency-key-reused"),
    *(
        bad(58, f"cursor {text!r}", call("GET", f"/feed?cursor={text}"), CURSOR)
        for text in ("", "A", "x" * 54, "A" * 200)
    ),
    bad(58, "cursor that is no text", call("GET", "/feed?cursor=%ff"), "400 malformed-request"),
    bad(58, "cursor of 201 letters", call("GET", "/feed?cursor=" + "A" * 201), "400 malformed-cursor"),
    bad(58, "cursor forged, ten years old", _forged_cursor, CURSOR),
    bad(58, "cursor of another user", cursor_of("ben", "/users/{me}/activities", "/users/{me}/activities"), CURSOR),
    bad(58, "cursor of another list", cursor_of("anna", "/users/{me}/activities", "/feed"), CURSOR),
    *(
        bad(
            58,
            f"cursor {change}",
            cursor_of("anna", "/users/{me}/activities", "/users/{me}/activities", change),
            CURSOR,
        )
        for change in ("cut", "flipped", "longer")
    ),
    *(
        bad(
            58,
            f"position {text[:8]!r}",
            call("GET", "/feed", b"", {"Cairn-Min-Position": text}),
            "400 malformed-position",
        )
        for text in ("x", "-1", "9" * 5_000, "\xff", "")
    ),
    *(
        bad(59, f"If-Match {text}", sends_json(b"{}", headers={"If-Match": text}), "412 condition-not-taken")
        for text in ('"stale"', "malformed", "*", "")
    ),
    bad(59, "If-None-Match with a write", sends_json(b"{}", headers={"If-None-Match": "*"}), "412 condition-not-taken"),
    bad(
        60,
        "If-None-Match of 10,000 tags",
        call("GET", "/me", b"", {"If-None-Match": ", ".join(f'W/"{n}"' for n in range(10_000))}),
        "431 headers-too-large",
        "closed",
    ),
    bad(60, "If-None-Match of commas", call("GET", "/me", b"", {"If-None-Match": "," * 10_000}), "200"),
    bad(60, "If-None-Match unfinished", call("GET", "/me", b"", {"If-None-Match": '"'}), "200"),
    bad(61, "no token", call("GET", "/me", b"", {"Authorization": ""}), REFUSED),
    bad(61, "Basic", call("GET", "/me", b"", {"Authorization": "Basic YTpi"}), REFUSED),
    *(
        bad(61, f"algorithm {algorithm}", unsigned(algorithm), REFUSED)
        for algorithm in ("none", "None", "RS256", "ES256", "HS512", "")
    ),
    bad(61, "another key", token(key=ANOTHER), REFUSED),
    bad(61, "a key id nobody has", token({"kid": "../../dev/null"}), REFUSED),
    bad(61, "unknown crit", token({"crit": ["b64", "exp"], "b64": True}), REFUSED),
    bad(
        61,
        "its own key in the header",
        token({"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(ANOTHER).decode()}}, ANOTHER),
        REFUSED,
    ),
    bad(
        61,
        "its key at an address",
        token({"jku": "http://127.0.0.1:9/", "x5u": "http://127.0.0.1:9/"}, ANOTHER),
        REFUSED,
    ),
    bad(
        61,
        "a token of 60 kB",
        call("GET", "/me", b"", {"Authorization": "Bearer " + "x" * 60_000}),
        "431 headers-too-large",
        "closed",
    ),
    bad(
        61,
        "a token of 1 MB",
        call("GET", "/me", b"", {"Authorization": "Bearer " + "x" * 1_000_000}),
        "431 headers-too-large",
        "closed",
    ),
    bad(61, "expired", token(exp=1_700_000_000), REFUSED),
    bad(61, "not valid yet", token(iat=4_000_000_000, exp=4_000_000_900), REFUSED),
    bad(61, "not before", token(nbf=4_000_000_000), REFUSED),
    bad(61, "for another audience", token(aud="another"), REFUSED),
    *(bad(61, f"a subject {sub!r}", token(sub=sub), REFUSED) for sub in ("", "x", "../..", "0" * 10_000)),
    bad(61, "after signing out", _signed_out, REFUSED),
    *(
        bad(61, f"token {text!a}", call("GET", "/me", b"", {"Authorization": f"Bearer {text}"}), REFUSED)
        for text in ("", "a.b.c", "....", "\xff.\xff.\xff", "e30.e30.")
    ),
    bad(62, "a refresh token twice", _refreshed_twice, REFUSED),
    bad(
        62,
        "a refresh token that never was",
        sends_json(b'{"refresh_token": "x"}', "/sessions/refresh", "POST"),
        REFUSED,
    ),
    bad(63, "another's activity, wherever it is asked for", _hidden, NOT_FOUND),
    bad(63, "another's activity as one's own", call("PUT", "/activities/{secret}", recording(63)), NOT_FOUND),
    bad(63, "another's activity in chunks", call("PUT", "/activities/{secret}/chunks/0", b"x"), NOT_FOUND),
    bad(
        63,
        "another's activity finished",
        sends_json(b'{"chunks": 1, "sha256": "' + b"0" * 64 + b'"}', "/activities/{secret}/finish", "POST"),
        NOT_FOUND,
    ),
    *(
        bad(63, f"{path} of nobody", call(method, path), NOT_FOUND)
        for method, path in (
            ("GET", "/users/{new}"),
            ("GET", "/users/{new}/activities"),
            ("GET", "/users/{new}/followers"),
            ("PUT", "/me/following/{new}"),
        )
    ),
    *(
        bad(
            64,
            f"{name!r} in {method} {path}",
            sends_json(json.dumps({**body, name: 1}).encode(), path, method),
            INVALID,
        )
        for method, path, body in WRITES
        for name in MASS
        if not (path == "/users" and name == "user_id")
    ),
    *(bad(64, f"{name!r} in a goal", goal(**{name: 1}), INVALID) for name in MASS),
]
