"""Recordings in chunks: over lossy lines, cut anywhere, in any order."""

import asyncio
import gzip
import hashlib
import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import httpx
import msgspec
import pytest

from api.app import create_app
from api.chunks import MAX_CHUNK_BYTES
from api.client import WATCHED, Client
from api.main import services_of
from api.tokens import Tokens
from domain.chunks import Upload
from domain.measures import ActivityId, UserId, derived_id
from domain.uploads import Fault, Verdict
from infra.bootstrap import now, open_parts
from tests.api.conftest import Runner, World
from tests.instance_settings import settings_of
from tests.network import lossy
from tests.recordings import fit, gpx

WHOSE = ("activity_id", "user_id", "display_name")


def cut(body: bytes, seed: int, count: int) -> list[bytes]:
    """The bytes in so many slices, cut anywhere."""
    places = sorted(random.Random(seed).sample(range(1, len(body)), count - 1))
    return [body[begin:end] for begin, end in zip([0, *places], [*places, len(body)], strict=True)]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


async def put(runner: Runner, activity_id: UUID, seq: int, data: bytes, **headers: str) -> httpx.Response:
    return await runner("PUT", f"/activities/{activity_id}/chunks/{seq}", content=data, headers=headers)


async def finish(runner: Runner, activity_id: UUID, chunks: int, body: bytes, **more: Any) -> httpx.Response:
    wish = {"chunks": chunks, "sha256": sha256(body), "content_type": "application/vnd.ant.fit", **more}
    return await runner("POST", f"/activities/{activity_id}/finish", json=wish, headers={"Prefer": "wait=20"})


def refusal(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


async def seen(runner: Runner, activity_id: UUID) -> dict[str, Any]:
    """All there is to see of an activity, but who and which it is."""
    activity = await runner.get(f"/activities/{activity_id}")
    track = await runner.get(f"/activities/{activity_id}/track")
    return {name: value for name, value in {**activity, **track}.items() if name not in WHOSE}


async def client_of(runner: Runner, url: str) -> Client:
    client = Client(url, pacing=WATCHED)
    client._tokens = runner.tokens
    client._http.headers["Connection"] = "close"  # each request meets its own fate
    return client


@pytest.mark.parametrize(("body", "seed"), [(fit(71), 1), (gpx(72), 4)], ids=["fit", "gpx"])
async def test_random_order_repeats_and_a_lossy_line_give_the_same_activity_as_the_whole_file(
    served: str, anna: Runner, ben: Runner, body: bytes, seed: int
) -> None:
    run, slices, dice = uuid4(), cut(body, seed, 40), random.Random(seed)
    order = [*range(40), *dice.sample(range(40), 10)]
    dice.shuffle(order)
    async with lossy(served, seed) as line, await client_of(anna, line.url) as client:

        async def hand_in(seqs: Sequence[int]) -> None:
            for seq in seqs:
                await cut_off(served, anna, run, seq, slices[seq], dice)
                await client.send_chunk(run, seq, slices[seq])

        await asyncio.gather(*(hand_in(order[begin::4]) for begin in range(4)))
        state = await client.finish(run, 40, sha256(body), title="Lossy")
        assert line.cut_requests >= 3
        assert line.cut_answers >= 3
    assert state["status"] in {"processing", "ready"}
    assert (await finish(anna, run, 40, body)).status_code == 201
    whole = uuid4()
    await ben.run(body, whole, title="Lossy")
    assert await seen(anna, run) == await seen(ben, whole)


async def cut_off(served: str, runner: Runner, run: UUID, seq: int, data: bytes, dice: random.Random) -> None:
    """Begin to send a chunk, and break off anywhere."""
    request = put_request(runner, run, seq, data)
    await send_raw(served, request[: dice.randrange(len(request))])


def put_request(runner: Runner, run: UUID, seq: int, data: bytes) -> bytes:
    head = [
        f"PUT /v1/activities/{run}/chunks/{seq} HTTP/1.1",
        "Host: cairn",
        f"Authorization: Bearer {runner.tokens['access_token']}",
        f"Content-Length: {len(data)}",
    ]
    return "\r\n".join([*head, "", ""]).encode() + data


async def send_raw(served: str, data: bytes) -> None:
    address = urlsplit(served)
    _, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(data)
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_chunk_cut_off_at_any_byte_leaves_nothing(served: str, anna: Runner, world: World) -> None:
    run, data = uuid4(), fit(73)[:200]
    request = put_request(anna, run, 0, data)
    for end in range(len(request)):
        await send_raw(served, request[:end])
        if end % 50 == 0:
            assert (await anna("GET", f"/activities/{run}/chunks")).status_code == 404
    assert await until_settled(world, anna, run) == set()
    await put(anna, run, 1, data)
    assert await until_settled(world, anna, run) == {"1"}
    for end in range(0, len(request), 40):
        await send_raw(served, request[:end])
    state = await anna.get(f"/activities/{run}/chunks")
    assert (state["received"], state["missing"], state["offset"]) == ([[1, 1]], [[0, 0]], 0)
    await send_raw(served, request)  # whole, though nobody waits for the answer
    for _ in range(100):
        if (await anna.get(f"/activities/{run}/chunks"))["offset"]:
            break
        await asyncio.sleep(0.02)
    state = await anna.get(f"/activities/{run}/chunks")
    assert (state["received"], state["missing"], state["offset"]) == ([[0, 1]], [], 400)


async def until_settled(world: World, runner: Runner, run: UUID) -> set[str]:
    """Chunks in the store once nothing is being written there."""
    folder = world.settings.data / "objects" / "chunks" / str(runner.user_id) / str(run)
    names: set[str] = set()
    for _ in range(100):
        await asyncio.sleep(0.02)
        names = {path.name.partition(".")[0] for path in folder.glob("*")}
        if "" not in names:  # files on their way have a dot first
            break
    return names


async def test_what_is_missing_is_told_until_the_recording_is_whole(anna: Runner) -> None:
    run, body = uuid4(), fit(74)
    slices = cut(body, 74, 8)
    assert refusal(await anna("GET", f"/activities/{run}/chunks")) == (404, "not-found")
    for seq in (6, 0, 1):
        assert (await put(anna, run, seq, slices[seq])).status_code == 201
    answer = await put(anna, run, 3, slices[3])
    told = {
        "activity_id": str(run),
        "received": [[0, 1], [3, 3], [6, 6]],
        "missing": [[2, 2], [4, 5]],
        "offset": len(slices[0] + slices[1]),
        "finished": False,
    }
    assert answer.json() == told == await anna.get(f"/activities/{run}/chunks")
    early = await finish(anna, run, 8, body)
    assert refusal(early) == (409, "chunks-missing")
    assert early.json()["errors"] == ["2-2", "4-5", "7-7"]
    assert (await anna("GET", f"/activities/{run}/upload")).status_code == 404
    for seq in (2, 4, 5, 7):
        await put(anna, run, seq, slices[seq])
    done = await finish(anna, run, 8, body)
    assert done.status_code == 201
    assert done.json() == await anna.get(f"/activities/{run}")


async def test_the_same_again_changes_nothing_and_other_bytes_are_refused(anna: Runner, world: World) -> None:
    run, body = uuid4(), fit(75)
    slices = cut(body, 75, 3)
    for seq, data in enumerate(slices):
        assert [(await put(anna, run, seq, data)).status_code for _ in range(2)] == [201, 200]
        assert refusal(await put(anna, run, seq, data + b"!")) == (409, "chunk-differs")
        assert refusal(await put(anna, run, seq, bytes(len(data)))) == (409, "chunk-differs")
    repeating = asyncio.create_task(repeat_until_it_is_finished(anna, run, slices))
    many = await asyncio.gather(*(finish(anna, run, 3, body, title="Once") for _ in range(5)))
    assert await repeating <= {200, 204, 503}  # 503: taken away while it was compared; to be sent again
    again = await finish(anna, run, 3, body, title="Another title is no other recording")
    assert {(one.status_code, one.content) for one in [*many, again]} == {(201, again.content)}
    assert again.json()["title"] == "Once"
    assert (await put(anna, run, 1, slices[1])).status_code == 204
    assert refusal(await put(anna, run, 1, slices[2])) == (409, "chunk-differs")
    assert refusal(await put(anna, run, 3, b"more")) == (409, "chunk-differs")
    assert refusal(await finish(anna, run, 3, b"another run")) == (409, "recording-differs")
    assert refusal(await finish(anna, run, 9, body)) == (409, "recording-differs")
    state = await anna.get(f"/activities/{run}/chunks")
    assert (state["received"], state["offset"], state["finished"]) == ([[0, 2]], len(body), True)
    assert (await anna("PUT", f"/activities/{run}", content=body)).status_code == 202
    upload = Upload(UserId(anna.user_id), ActivityId(run))
    assert await world.parts.chunks.held(upload) == []
    assert upload not in [one async for one, _ in world.parts.chunks.under_way()]


async def repeat_until_it_is_finished(runner: Runner, run: UUID, slices: Sequence[bytes]) -> set[int]:
    """Statuses of chunks that come again and again."""
    found: set[int] = set()
    while 204 not in found and not found - {200, 204, 503}:
        answers = await asyncio.gather(*(put(runner, run, seq, data) for seq, data in enumerate(slices)))
        found |= {one.status_code for one in answers}
    return found


async def test_other_bytes_are_counted_as_another_content_under_the_same_id(anna: Runner, world: World) -> None:
    chunk, whole = "/v1/activities/{activity_id}/chunks/{seq}", "/v1/activities/{activity_id}"

    def counted(route: str) -> float:
        labels = {"route": route, "client": "unnamed", "outcome": "reused"}
        registry = world.app._services.telemetry.registry
        return registry.get_sample_value("cairn_idempotent_requests_total", labels) or 0

    run, before = uuid4(), (counted(chunk), counted(whole))
    await put(anna, run, 0, b"a")
    assert refusal(await put(anna, run, 0, b"b")) == (409, "chunk-differs")
    assert (counted(chunk), counted(whole)) == (before[0] + 1, before[1])
    await anna.run(fit(176), run)
    assert refusal(await anna("PUT", f"/activities/{run}", content=fit(177))) == (409, "recording-differs")
    assert (counted(chunk), counted(whole)) == (before[0] + 1, before[1] + 1)


async def test_two_chunks_at_once_under_one_number_are_never_both_kept(anna: Runner) -> None:
    run = uuid4()
    answers = await asyncio.gather(*(put(anna, run, 0, b"one" if n % 2 else b"the other") for n in range(8)))
    kept = {n % 2 for n, answer in enumerate(answers) if answer.is_success}
    assert len(kept) == 1
    assert (await anna.get(f"/activities/{run}/chunks"))["offset"] == (3 if kept == {1} else 9)


async def test_chunks_that_are_not_the_recording_are_told_and_kept(anna: Runner) -> None:
    run, body = uuid4(), fit(76)
    await put(anna, run, 0, body)
    assert refusal(await finish(anna, run, 1, body + b"!")) == (409, "checksum-differs")
    assert (await anna.get(f"/activities/{run}/chunks"))["received"] == [[0, 0]]
    assert (await finish(anna, run, 1, body)).status_code == 201


@pytest.mark.parametrize(
    ("seq", "body", "headers", "expected"),
    [
        ("10000", b"x", {}, (422, "chunk-out-of-range")),
        ("-1", b"x", {}, (422, "chunk-out-of-range")),
        ("9" * 30, b"x", {}, (422, "chunk-out-of-range")),
        ("one", b"x", {}, (404, "not-found")),
        ("0", b"", {}, (422, "chunk-empty")),
        ("0", bytes(MAX_CHUNK_BYTES + 1), {}, (413, "body-too-large")),
        ("0", gzip.compress(bytes(MAX_CHUNK_BYTES + 1)), {"Content-Encoding": "gzip"}, (413, "body-too-large")),
        ("0", gzip.compress(b"a chunk")[:-2], {"Content-Encoding": "gzip"}, (400, "malformed-body")),
        ("0", b"x", {"Content-Encoding": "br"}, (415, "unsupported-encoding")),
    ],
    ids=range(9),
)
async def test_what_is_no_chunk_is_refused(
    anna: Runner, seq: str, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    run = uuid4()
    answer = await anna("PUT", f"/activities/{run}/chunks/{seq}", content=body, headers=headers)
    assert refusal(answer) == expected
    assert (await anna("GET", f"/activities/{run}/chunks")).status_code == 404


async def test_a_recording_has_48_megabytes_at_most(anna: Runner) -> None:
    run = uuid4()
    packed = gzip.compress(bytes(MAX_CHUNK_BYTES), 1)
    for seq in range(6):
        assert (await put(anna, run, seq, packed, **{"Content-Encoding": "gzip"})).status_code == 201
    assert (await put(anna, run, 5, packed, **{"Content-Encoding": "gzip"})).status_code == 200
    assert refusal(await put(anna, run, 6, b"one byte more")) == (413, "body-too-large")


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        ({"chunks": 0, "sha256": "0" * 64}, (422, "invalid-body")),
        ({"chunks": 10_001, "sha256": "0" * 64}, (422, "invalid-body")),
        ({"chunks": 1, "sha256": "no hash"}, (422, "invalid-body")),
        ({"chunks": 1, "sha256": "0" * 64, "title": " "}, (422, "invalid-body")),
        ({"chunks": 1, "sha256": "0" * 64, "user_id": "x"}, (422, "invalid-body")),
        ({"chunks": 1, "sha256": "0" * 64}, (409, "chunks-missing")),
    ],
    ids=range(6),
)
async def test_a_finish_that_cannot_be_is_refused(
    anna: Runner, wish: dict[str, object], expected: tuple[int, str]
) -> None:
    assert refusal(await anna("POST", f"/activities/{uuid4()}/finish", json=wish)) == expected


async def test_chunks_that_are_no_recording_are_refused_when_they_are_whole(anna: Runner) -> None:
    run, body = uuid4(), b"no recording at all"
    await put(anna, run, 0, body)
    assert refusal(await finish(anna, run, 1, body)) == (415, "recording-format-unknown")
    reserved = derived_id("something of the server's")
    assert refusal(await put(anna, reserved, 0, body)) == (422, "activity-id-reserved")
    assert refusal(await finish(anna, reserved, 1, body)) == (422, "activity-id-reserved")


async def test_a_recording_that_is_not_wanted_is_thrown_away(world: World, anna: Runner, ben: Runner) -> None:
    run, body = uuid4(), fit(95)
    for seq, part in enumerate(cut(body, 1, 3)):
        await put(anna, run, seq, part)
    assert refusal(await ben("DELETE", f"/activities/{run}")) == (404, "not-found")
    assert (await anna("DELETE", f"/activities/{run}")).status_code == 204
    assert refusal(await anna("GET", f"/activities/{run}/chunks")) == (404, "not-found")
    assert refusal(await anna("DELETE", f"/activities/{run}")) == (404, "not-found")
    under_way = [upload.activity_id async for upload, _ in world.parts.chunks.under_way()]
    assert run not in under_way  # no activity is made of it, neither now nor tomorrow


async def test_a_chunk_on_its_way_while_its_recording_is_thrown_away_is_the_first_of_a_new_beginning(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, settle = uuid4(), world.parts.chunks.settle
    await put(anna, run, 0, b"begin")

    async def meanwhile(*arguments: Any) -> bool:
        monkeypatch.undo()
        assert (await anna("DELETE", f"/activities/{run}")).status_code == 204
        return await settle(*arguments)

    monkeypatch.setattr(world.parts.chunks, "settle", meanwhile)
    assert (await put(anna, run, 1, b"late")).status_code == 503
    again = await put(anna, run, 1, b"late")
    assert (again.status_code, again.json()["received"], again.json()["missing"]) == (200, [[1, 1]], [[0, 0]])
    assert run in [upload.activity_id async for upload, _ in world.parts.chunks.under_way()]
    assert (await anna("DELETE", f"/activities/{run}")).status_code == 204


async def test_a_key_is_checked_and_a_repeat_needs_none(anna: Runner) -> None:
    run, body = uuid4(), fit(77)
    await put(anna, run, 0, body)
    wish = {"chunks": 1, "sha256": sha256(body).upper()}
    path = f"/activities/{run}/finish"
    malformed = await anna("POST", path, json=wish, headers={"Idempotency-Key": '""'})
    assert refusal(malformed) == (400, "malformed-idempotency-key")
    keyed = [await anna("POST", path, json=wish, headers={"Idempotency-Key": key}) for key in ('"a"', "a", "b")]
    assert [one.status_code for one in keyed] == [202] * 3
    assert ["Idempotency-Replayed" in one.headers for one in keyed] == [False, True, False]
    assert keyed[0].content == keyed[1].content
    small = await anna("POST", path, json={**wish, "sha256": sha256(body)}, headers={"Idempotency-Key": "a"})
    assert refusal(small) == (422, "idempotency-key-reused")  # a key is of what came: answers are kept by that
    other = await anna("POST", path, json={**wish, "title": "Other"}, headers={"Idempotency-Key": "a"})
    assert refusal(other) == (422, "idempotency-key-reused")
    elsewhere = await anna("POST", f"/activities/{uuid4()}/finish", json=wish, headers={"Idempotency-Key": "a"})
    assert refusal(elsewhere) == (422, "idempotency-key-reused")


async def test_a_finish_whose_answer_cannot_be_kept_is_answered(world: World, anna: Runner) -> None:
    """The runner's key does not unwrap for now: the recording is safe all the same."""
    run, body = uuid4(), fit(94)
    await put(anna, run, 0, body)
    async with world.parts.read_models.connection() as connection:
        await connection.execute("UPDATE user_keys SET master_id = 'another' WHERE owner_id = %s", (anna.user_id,))
    world.parts.keys._cache.drop(anna.user_id)
    wish = {"chunks": 1, "sha256": sha256(body)}
    done = await anna("POST", f"/activities/{run}/finish", json=wish, headers={"Idempotency-Key": "kept nowhere"})
    assert done.status_code == 202
    assert refusal(await anna("PATCH", "/me", json={"display_name": "Anna B."})) == (503, "stream-unreadable")


async def test_a_finish_whose_recording_failed_in_passing_is_done_anew_under_its_key(
    world: World, anna: Runner
) -> None:
    """A kept answer that is no longer true does not stand in the way of the chunks that were sent again."""
    run, body, headers = uuid4(), fit(92), {"Idempotency-Key": "over"}
    wish = {"chunks": 1, "sha256": sha256(body)}
    await put(anna, run, 0, body)
    first = await anna("POST", f"/activities/{run}/finish", json=wish, headers=headers)
    await anna("POST", f"/activities/{run}/finish", json=wish, headers={"Prefer": "wait=20"})
    failed = msgspec.json.encode(Verdict(status="failed", fault=Fault("session-ended", "Sign in.")))
    await world.parts.objects.replace(f"verdicts/{run.hex[:2]}/{run}", failed)
    await put(anna, run, 0, body)
    again = await anna("POST", f"/activities/{run}/finish", json=wish, headers=headers)
    assert (again.status_code, again.content) == (202, first.content)
    assert (await anna.get(f"/activities/{run}/chunks"))["finished"]
    assert (
        await anna("POST", f"/activities/{run}/finish", json=wish, headers={"Prefer": "wait=20"})
    ).status_code == 201


async def test_anothers_recording_looks_missing_and_is_never_met(anna: Runner, ben: Runner) -> None:
    run, body, of_ben = uuid4(), fit(78), fit(79)
    await put(anna, run, 0, body)
    paths = (f"/activities/{run}/chunks", f"/activities/{uuid4()}/chunks")
    hidden, missing = [await ben("GET", path) for path in paths]
    assert (hidden.status_code, hidden.content) == (missing.status_code, missing.content)
    for answer in (hidden, missing):
        assert answer.headers.pop("RateLimit").startswith('"recording";r=9999')  # of which each takes one
    assert hidden.headers.items() == missing.headers.items()
    assert (await put(ben, run, 0, of_ben)).status_code == 201
    assert (await finish(anna, run, 1, body)).status_code == 201
    for answer in (
        await ben("GET", paths[0]),
        await put(ben, run, 0, of_ben),
        await finish(ben, run, 1, of_ben),
        await finish(ben, run, 1, body),
    ):
        assert (answer.status_code, answer.content) == (missing.status_code, missing.content)


async def test_an_access_token_that_expired_hands_in_chunks_too(anna: Runner, world: World) -> None:
    run, body = uuid4(), fit(80)
    tokens = Tokens([(key.kid, key.secret) for key in world.settings.token_keys])
    session = tokens.read(anna.tokens["access_token"], now()).session_id
    anna.tokens["access_token"] = tokens.issue(UserId(anna.user_id), session, now() - timedelta(days=29))
    assert (await anna("GET", f"/activities/{run}")).status_code == 401
    assert (await put(anna, run, 0, body)).status_code == 201
    assert (await anna.get(f"/activities/{run}/chunks"))["received"] == [[0, 0]]
    assert (await finish(anna, run, 1, body)).status_code in {201, 202}


async def test_chunks_are_taken_in_while_postgres_and_valkey_are_away(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "postgresql://127.0.0.1:1/nowhere", "redis://127.0.0.1:1")
    user_id, run, body = UserId(uuid4()), uuid4(), fit(85)
    async with open_parts(settings) as parts:
        services = services_of(parts, settings)
        transport = httpx.ASGITransport(create_app(services))
        token = services.tokens.issue(user_id, uuid4(), now())
        async with httpx.AsyncClient(transport=transport, base_url="http://cairn") as http:
            runner = Runner(http, user_id, "", {"access_token": token})
            for seq, data in enumerate(cut(body, 85, 3)):
                assert (await put(runner, run, seq, data)).status_code == 201
            wish = {"chunks": 3, "sha256": sha256(body)}
            answers = [await runner("POST", f"/activities/{run}/finish", json=wish) for _ in range(2)]
        assert [one.status_code for one in answers] == [202, 202]
        assert answers[0].json()["status"] == "processing"
        manifest = await parts.inbox.manifest(ActivityId(run))
        assert manifest is not None
        assert (await parts.inbox.received(manifest)).body == body
