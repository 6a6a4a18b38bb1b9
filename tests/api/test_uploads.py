import asyncio
import gzip
import os
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import zstandard

from api.main import services_of
from api.uploads import _preferred_wait, _wait
from domain.measures import ActivityId, UserId, derived_id
from domain.uploads import Fault, Verdict
from infra.bootstrap import now
from tests.api.conftest import Runner, World
from tests.recordings import TCX, fit, gpx
from tests.uploads import accept

GPX = gpx(9)
NO_POINTS = b'<gpx version="1.1" xmlns="http://www.topografix.com/GPX/1/1"><trk><trkseg/></trk></gpx>'


async def verdict(runner: Runner, body: bytes) -> dict[str, object]:
    """What becomes of a body, as the answer to a PUT that waits."""
    answer = await runner("PUT", f"/activities/{uuid4()}", content=body, headers={"Prefer": "wait=20"})
    return {"status": answer.status_code, **answer.json()}


@pytest.mark.parametrize(("body", "format_"), [(fit(), "fit"), (gpx(), "gpx"), (TCX, "tcx")])
async def test_a_recording_becomes_an_activity(anna: Runner, body: bytes, format_: str) -> None:
    activity_id = uuid4()
    accepted = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": "wait=20"})
    assert accepted.status_code == 201
    seen = await anna.get(f"/activities/{activity_id}")
    assert seen == accepted.json()
    assert seen["source"]["format"] == format_
    assert seen["sport"] == "running"
    assert seen["distance_m"] == pytest.approx(200 if format_ == "tcx" else 3_000, rel=0.01)


async def test_an_upload_is_acked_at_once_and_its_state_can_be_asked(anna: Runner) -> None:
    activity_id = uuid4()
    accepted = await anna("PUT", f"/activities/{activity_id}", content=fit(2), params={"title": "Before work"})
    assert accepted.status_code == 202
    assert accepted.json()["status_url"] == f"/v1/activities/{activity_id}/upload" == accepted.headers["Location"]
    again = await anna("PUT", f"/activities/{activity_id}", content=fit(2), headers={"Prefer": "wait=20"})
    state = await anna("GET", f"/activities/{activity_id}/upload")
    assert state.json()["status"] == "ready"
    assert state.json()["activities"] == [str(activity_id)]
    assert again.json()["title"] == "Before work"
    assert (await anna.get("/feed", after=state.headers["Cairn-Position"]))["items"][0]["title"] == "Before work"


async def test_who_waits_for_longer_looks_less_often(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look, nothing_came = 0, world.parts.inbox.verdict, ActivityId(uuid4())

    async def counted(activity_id: ActivityId) -> Verdict | None:
        nonlocal looks
        looks += activity_id == nothing_came  # ingest looks too
        return await look(activity_id)

    monkeypatch.setattr(world.parts.inbox, "verdict", counted)
    assert await _wait(services_of(world.parts, world.settings), nothing_came, 1.0) is None
    assert 1 <= looks <= 7  # with pauses of 50 ms it would be 20; a busy machine looks less often still


async def test_the_same_again_adds_nothing(anna: Runner) -> None:
    activity_id = uuid4()
    positions = [await anna.run(fit(3), activity_id) for _ in range(3)]
    assert len(set(positions)) == 1
    summaries = await anna.get("/me/summaries", after=positions[0])
    assert [week["count"] for week in summaries["items"]] == [1]


async def test_an_edit_that_comes_before_the_recording_is_read_is_not_lost(
    world: World, anna: Runner, ben: Runner
) -> None:
    manifest = await accept(world.parts.inbox, fit(6), user_id=UserId(anna.user_id))
    inbox = Path(world.settings.object_store_url.removeprefix("file://")) / "inbox"
    (waiting,) = inbox.glob(f"{manifest.activity_id}*")
    os.utime(waiting, (now().timestamp() + 60,) * 2)  # no hint, and too young for sweeps: it waits for its repeat
    path = f"/activities/{manifest.activity_id}"
    for method, body in (("PATCH", {"title": "Not for all", "visibility": "private"}), ("DELETE", None)):
        early = await anna(method, path, json=body)
        assert (early.status_code, early.json()["code"]) == (409, "recording-processing")
        assert 2 <= int(early.headers["Retry-After"]) <= 4
        assert (await ben(method, path, json=body)).status_code == 404
    await anna("PUT", path, content=fit(6), headers={"Prefer": "wait=20"})
    assert (await anna("PATCH", path, json={"title": "Not for all", "visibility": "private"})).status_code == 204
    repeated = await anna("PUT", path, content=fit(6), headers={"Prefer": "wait=20"})
    assert (repeated.status_code, repeated.json()["title"]) == (201, "Not for all")  # as it is now
    assert (await anna("DELETE", path)).status_code == 204
    repeated = await anna("PUT", path, content=fit(6), headers={"Prefer": "wait=20"})
    assert (repeated.status_code, repeated.json()["status"]) == (202, "ready")
    assert repeated.headers["Location"] == repeated.json()["status_url"]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=10", 10),
        ('respond-async; x="a, b", WAIT = "7"', 7),
        ("wait=99", 30),
        ("await=10", 0),
        ('foo="a,wait=10"', 0),
        (r'foo="a\",wait=10"', 0),
        ('foo="a,wait=10", wait=5', 5),
        ('foo="a,wait=10', 0),
        ("", 0),
    ],
)
def test_what_is_preferred_stands_outside_of_other_texts_in_quotes(prefer: str, seconds: int) -> None:
    assert _preferred_wait(prefer) == seconds


async def test_who_waits_for_a_second_is_not_kept_longer_by_read_models_that_are_behind(
    world: World, anna: Runner
) -> None:
    activity_id, wait = uuid4(), {"Prefer": "wait=1"}
    path = f"/activities/{activity_id}"
    await anna.run(fit(74), activity_id)
    with psycopg.connect(world.settings.database_url) as operator:
        operator.execute("LOCK TABLE projection_shards IN EXCLUSIVE MODE")  # projectors stand still, all can be read
        await anna("PATCH", path, json={"title": "Before work"})
        again = await anna("PUT", path, content=fit(74), headers=wait)
        new = await anna("PUT", f"/activities/{uuid4()}", content=fit(75), headers=wait)
    assert (again.status_code, again.json()["status"]) == (202, "ready")
    assert (await anna.get(path, after=again.headers["Cairn-Position"]))["title"] == "Before work"
    assert new.status_code == 202


async def test_a_run_that_is_safe_is_acked_to_who_waits_also_while_the_log_cannot_be_read(
    world: World, anna: Runner
) -> None:
    activity_id, body = uuid4(), fit(78)
    await anna.run(body, activity_id)
    with psycopg.connect(world.settings.database_url) as operator:
        operator.execute("LOCK TABLE stored_events IN ACCESS EXCLUSIVE MODE")
        for prefer in ("wait=0", "wait=1", "wait=20"):  # 20 s: longer than the log lets anybody wait
            again = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": prefer})
            assert (again.status_code, again.json()["status"]) == (202, "ready"), prefer


async def test_who_waits_for_a_second_is_not_kept_longer_by_a_log_that_is_slow(
    world: World, anna: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity_id, body, answered, last = uuid4(), fit(79), asyncio.Event(), world.parts.streams._log.last
    await anna.run(body, activity_id)

    async def slow() -> int:
        await answered.wait()
        return await last()

    monkeypatch.setattr(world.parts.streams._log, "last", slow)
    async with asyncio.timeout(30):  # else for ever
        again = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": "wait=1"})
    answered.set()
    assert (again.status_code, again.json()["status"]) == (202, "ready")


@pytest.mark.parametrize("prefer", ["wait=0", "wait=20"])
async def test_what_is_told_of_a_run_again_covers_what_was_written_since(
    world: World, anna: Runner, prefer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.uploads._NOW_SECONDS", 20.0)  # for a busy machine
    first, second = uuid4(), uuid4()
    await anna.run(fit(76), first)
    await anna.run(fit(77), second)
    edited = await anna("PATCH", f"/activities/{second}", json={"title": "Before work"})
    answers = [
        await anna("PUT", f"/activities/{first}", content=fit(76), headers={"Prefer": prefer}),
        await anna("GET", f"/activities/{first}/upload"),
        await anna("GET", f"/uploads?ids={first},{second}"),
    ]
    place = world.parts.read_models.position
    for answer in answers:
        assert place(answer.headers["Cairn-Position"]) >= place(edited.headers["Cairn-Position"]), answer.request.url


async def test_the_position_of_now_is_told_also_to_a_runner_whose_key_does_not_unwrap(
    world: World, anna: Runner, ben: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.uploads._NOW_SECONDS", 20.0)  # for a busy machine
    activity_id = uuid4()
    await anna.run(fit(80), activity_id)
    async with world.parts.read_models.connection() as connection:
        await connection.execute("UPDATE user_keys SET master_id = 'another' WHERE owner_id = %s", (anna.user_id,))
    world.parts.keys._cache.drop(anna.user_id)
    world.parts.streams._cache.clear()
    later = await ben("PATCH", "/me", json={"display_name": "Bea"})
    state = await anna("GET", f"/activities/{activity_id}/upload")
    place = world.parts.read_models.position
    assert place(state.headers["Cairn-Position"]) >= place(later.headers["Cairn-Position"])


async def test_other_bytes_under_the_same_id_are_refused(anna: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(4), activity_id)
    answer = await anna("PUT", f"/activities/{activity_id}", content=fit(5))
    assert (answer.status_code, answer.json()["code"]) == (409, "recording-differs")


async def test_the_same_bytes_under_another_id_are_a_duplicate_that_names_the_first(anna: Runner) -> None:
    first, second = uuid4(), uuid4()
    position = await anna.run(fit(6), first)
    answer = await anna("PUT", f"/activities/{second}", content=fit(6), headers={"Prefer": "wait=20"})
    assert (answer.json()["status"], answer.json()["duplicate_of"]) == ("duplicate", str(first))
    assert (await anna("GET", f"/activities/{second}")).status_code == 404
    assert [week["count"] for week in (await anna.get("/me/summaries", after=position))["items"]] == [1]


async def test_a_deleted_run_can_be_handed_in_anew(anna: Runner) -> None:
    first = uuid4()
    await anna.run(fit(7), first)
    await anna("DELETE", f"/activities/{first}")
    position = await anna.run(fit(7))
    assert [week["count"] for week in (await anna.get("/me/summaries", after=position))["items"]] == [1]


async def test_a_deleted_run_stays_deleted_when_it_comes_again_under_its_id(anna: Runner) -> None:
    activity_id = uuid4()
    await anna.run(fit(60), activity_id)
    position = (await anna("DELETE", f"/activities/{activity_id}")).headers["Cairn-Position"]
    await anna.get("/feed", after=position)
    again = await anna("PUT", f"/activities/{activity_id}", content=fit(60), headers={"Prefer": "wait=5"})
    assert (again.status_code, again.json()["status"]) == (202, "ready")
    assert (await anna("GET", f"/activities/{activity_id}")).status_code == 404


async def test_two_runners_may_hand_in_the_same_bytes(anna: Runner, ben: Runner) -> None:
    await anna.run(fit(8))
    await ben.run(fit(8))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(GPX)),
        ("gzip", gzip.compress(GPX[:999]) + gzip.compress(GPX[999:])),
        ("zstd", zstandard.compress(GPX)),
        ("zstd", b"".join(zstandard.compress(GPX[at : at + 9_999]) for at in range(0, len(GPX), 9_999))),
        ("zstd", b"\x50\x2a\x4d\x18\x02\0\0\0ab" + zstandard.compress(GPX)),  # a frame to be skipped
        ("GZIP", gzip.compress(GPX)),
    ],
)
async def test_packed_bodies_are_the_bytes_within(anna: Runner, encoding: str, packed: bytes) -> None:
    activity_id = uuid4()
    answer = await anna(
        "PUT",
        f"/activities/{activity_id}",
        content=packed,
        headers={"Content-Encoding": encoding, "Prefer": "wait=20"},
    )
    assert answer.status_code == 201
    assert (await anna("PUT", f"/activities/{activity_id}", content=GPX)).status_code == 202


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", {}, 422, "recording-empty"),
        (b"no recording at all", {}, 415, "recording-format-unknown"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), {"Content-Type": "image/png"}, 415, "recording-format-unknown"),
        (bytes(48 * 1024 * 1024 + 1), {}, 413, "body-too-large"),
        (gzip.compress(bytes(60 * 1024 * 1024)), {"Content-Encoding": "gzip"}, 413, "body-too-large"),
        (zstandard.compress(bytes(60 * 1024 * 1024)), {"Content-Encoding": "zstd"}, 413, "body-too-large"),
        (gzip.compress(fit())[:-9], {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (zstandard.compress(fit())[:9], {"Content-Encoding": "zstd"}, 400, "malformed-body"),
        (b"not packed", {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (gzip.compress(fit()) + b"more", {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (gzip.compress(fit()) + gzip.compress(b"") * 3_000, {"Content-Encoding": "gzip"}, 400, "malformed-body"),
        (fit(), {"Content-Encoding": "br"}, 415, "unsupported-encoding"),
        (fit(), {"Content-Encoding": "gzip, gzip"}, 415, "unsupported-encoding"),
    ],
    ids=range(13),
)
async def test_what_is_no_recording_is_refused_at_once(
    anna: Runner, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    activity_id = uuid4()
    answer = await anna("PUT", f"/activities/{activity_id}", content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 20
    assert (await anna("GET", f"/activities/{activity_id}/upload")).status_code == 404


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (NO_POINTS, "recording-empty"),
        (b'<?xml version="1.0"?><!DOCTYPE gpx [<!ENTITY a "b">]><gpx/>', "recording-unreadable"),
        (b'<gpx version="1.1"><trk><trkseg><trkpt lat="1"', "recording-empty"),
        (fit()[:30], "recording-empty"),
        (b"{}", "recording-unreadable"),
        (b'{"started_at": "2026-05-01T00:00:00Z", "points": {}}', "recording-empty"),
        (b"<TrainingCenterDatabase/>", "recording-empty"),
    ],
    ids=range(7),
)
async def test_what_turns_out_to_hold_no_run_fails_with_a_reason(anna: Runner, body: bytes, code: str) -> None:
    activity_id = uuid4()
    answer = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    state = await anna.get(f"/activities/{activity_id}/upload")
    assert state["status"] == "failed"
    assert state["problem"] == answer.json()
    assert (await anna("GET", f"/activities/{activity_id}")).status_code == 404


async def test_a_truncated_file_gives_what_it_holds_and_says_so(anna: Runner) -> None:
    whole = fit(10, kilometres=5)
    seen = await verdict(anna, whole[: len(whole) // 2])
    assert seen["status"] == 201
    assert 2_000 < float(str(seen["distance_m"])) < 3_000
    assert "truncated" in str(seen["warnings"])


async def test_an_id_that_the_server_may_derive_is_refused(anna: Runner) -> None:
    answer = await anna("PUT", f"/activities/{derived_id('follow', anna.user_id)}", content=fit())
    assert (answer.status_code, answer.json()["code"]) == (422, "activity-id-reserved")


@pytest.mark.parametrize("query", ["visibility=everyone", "sport=chess", "title=", "title=%00", "title=%20"])
async def test_wrong_parameters_are_named(anna: Runner, query: str) -> None:
    answer = await anna("PUT", f"/activities/{uuid4()}?{query}", content=fit())
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid-parameter")
    assert query.partition("=")[0] in answer.json()["errors"][0]


async def test_a_file_of_several_sessions_gives_an_activity_for_each(anna: Runner) -> None:
    second = TCX.replace(b"2026-05-02T06", b"2026-05-02T09").split(b"<Activities>")[1].split(b"</Activities>")[0]
    body = TCX.replace(b"</Activities>", second + b"</Activities>")
    activity_id = uuid4()
    answer = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": "wait=20"})
    state = await anna("GET", f"/activities/{activity_id}/upload")
    assert answer.status_code == 202
    assert state.json()["status"] == "ready"
    assert len(state.json()["activities"]) == 2
    summaries = await anna.get("/me/summaries?period=day&from=2026-05-01", after=state.headers["Cairn-Position"])
    assert [day["count"] for day in summaries["items"]] == [2]


@pytest.mark.parametrize("code", ["processing-failed", "body-damaged", "recording-differs"])
async def test_every_reason_that_ingest_gives_can_be_asked_for(world: World, anna: Runner, code: str) -> None:
    body = fit(70)
    manifest = await accept(world.parts.inbox, body, user_id=UserId(anna.user_id))
    activity_id = manifest.activity_id
    await world.parts.inbox.close(manifest, Verdict(status="failed", fault=Fault(code, "What to do.")))
    state = await anna.get(f"/activities/{activity_id}/upload")
    assert (state["status"], state["problem"]["code"]) == ("failed", code)
    waited = await anna("PUT", f"/activities/{activity_id}", content=body, headers={"Prefer": "wait=20"})
    if code == "recording-differs":
        assert (waited.status_code, waited.json()) == (state["problem"]["status"], state["problem"])
    else:  # it was not the recording's fault: the same bytes are tried anew
        assert waited.status_code == 201


async def test_the_same_run_from_another_device_counts_once(anna: Runner) -> None:
    watch, phone = uuid4(), uuid4()
    position = await anna.run(fit(71), watch)
    answer = await anna("PUT", f"/activities/{phone}", content=gpx(71), headers={"Prefer": "wait=20"})
    told = answer.json()
    assert (told["status"], told["duplicate_of"], told["matched"]) == ("duplicate", str(watch), "track")
    assert (await anna("GET", f"/activities/{phone}")).status_code == 404
    assert [week["count"] for week in (await anna.get("/me/summaries", after=position))["items"]] == [1]


async def test_once_the_first_is_deleted_the_other_counts(anna: Runner) -> None:
    watch = uuid4()
    await anna.run(fit(72), watch)
    await anna("DELETE", f"/activities/{watch}")
    position = await anna.run(gpx(72))
    assert [week["count"] for week in (await anna.get("/me/summaries", after=position))["items"]] == [1]


async def test_two_devices_at_the_same_moment_give_one_activity(anna: Runner) -> None:
    async def send(body: bytes) -> str:
        answer = await anna("PUT", f"/activities/{uuid4()}", content=body, headers={"Prefer": "wait=20"})
        return "ready" if answer.status_code == 201 else str(answer.json()["status"])

    assert sorted(await asyncio.gather(send(fit(73)), send(gpx(73)))) == ["duplicate", "ready"]
