"""What S3 alone does: it conflicts, hangs, has no such bucket, and makes drafts wait on this machine's disk."""

import asyncio
import random
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import httpx
import pytest
from obstore.exceptions import BaseError

from domain.errors import StoreUnavailable
from infra.object_store import MARK, BucketObjects, bucket
from infra.object_store.objects import PIECE_BYTES
from tests.network import Answer, Request, Script, network

CONFLICT = Answer(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>", content_type="application/xml")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "key")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr(bucket, "_CONFLICT_SECONDS", (0.01, 0.01, 0.01))


@pytest.fixture
def bucket_url(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AWS_ENDPOINT", s3)
    name = f"bucket-{uuid4().hex}"
    httpx.put(f"{s3}/{name}").raise_for_status()
    return f"s3://{name}/of/ours"


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name.startswith("infra")]


def passed_on(s3: str, request: Request) -> Answer:
    method, path = request.line.split(" ")
    found = httpx.request(method, f"{s3}{path}", headers=request.headers, content=request.body)
    kept = {name: found.headers[name] for name in ("ETag", "Last-Modified") if name in found.headers}
    if method == "HEAD" and found.is_success:
        kept["Content-Length"] = found.headers["Content-Length"]
    return Answer(found.status_code, found.content, kept)


@asynccontextmanager
async def conflicting(s3: str, url: str, times: int) -> AsyncIterator[tuple[BucketObjects, list[Request]]]:
    """The store over a line on which so many puts of other objects than its mark meet another write."""
    BucketObjects(url).begin("of this test")
    met = 0

    def script(request: Request) -> Answer:
        nonlocal met
        if request.line.startswith("PUT") and met < times:
            met += 1
            return CONFLICT
        return passed_on(s3, request)

    async with beside(script) as (objects, asked):
        yield objects(url), asked


@asynccontextmanager
async def beside(script: Script) -> AsyncIterator[tuple[type[BucketObjects], list[Request]]]:
    with pytest.MonkeyPatch.context() as patch:
        async with network(script) as (line, asked):
            patch.setenv("AWS_ENDPOINT", line)
            yield BucketObjects, asked


async def put(objects: BucketObjects, name: str, body: bytes, *, in_pieces: bool) -> bool:
    if not in_pieces:
        return await objects.put_new(f"inbox/{name}", body)
    async with objects.draft("inbox") as draft:
        await draft.write(body)
        return await draft.commit(name)


@pytest.mark.parametrize(("in_pieces", "size"), [(False, 10), (True, 10), (True, 3 * PIECE_BYTES + 1)])
async def test_a_put_that_conflicts_is_tried_again(s3: str, bucket_url: str, *, in_pieces: bool, size: int) -> None:
    async with conflicting(s3, bucket_url, 2) as (objects, _):
        assert await put(objects, "a", b"x" * size, in_pieces=in_pieces)
        assert await objects.get("inbox/a") == b"x" * size
        assert not await put(objects, "a", b"another", in_pieces=in_pieces)
        assert await objects.get("inbox/a") == b"x" * size


async def test_a_put_that_conflicts_on_and_on_is_never_taken_for_done(s3: str, bucket_url: str) -> None:
    async with conflicting(s3, bucket_url, 100) as (objects, _):
        for in_pieces in (False, True):
            with pytest.raises(StoreUnavailable):
                await put(objects, "a", b"x", in_pieces=in_pieces)
        assert await objects.get("inbox/a") is None


async def test_a_new_store_whose_mark_conflicts_has_it_nevertheless(
    s3: str, bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    puts = 0

    def script(request: Request) -> Answer:
        nonlocal puts
        puts += request.line.startswith("PUT")
        return CONFLICT if request.line.startswith("PUT") and puts == 1 else passed_on(s3, request)

    async with beside(script) as (objects, _):
        assert await asyncio.to_thread(objects(bucket_url).begin, "of this test") == "of this test"
        monkeypatch.setenv("AWS_ENDPOINT", s3)
    assert BucketObjects(bucket_url).identity() == "of this test"


async def test_a_bucket_that_is_not_there_is_told_with_the_settings(
    s3: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", s3)
    with pytest.raises(StoreUnavailable):
        BucketObjects("s3://mistyped/of/ours").begin("one")
    with pytest.raises(StoreUnavailable):
        BucketObjects("s3://mistyped/of/ours").identity()
    with pytest.raises(StoreUnavailable):
        await BucketObjects("s3://mistyped/of/ours").put_new("inbox/a", b"")
    told = "there is no bucket mistyped: see OBJECT_STORE_URL, AWS_REGION and AWS_ENDPOINT"
    assert ours(caplog) == [f"the object store fails at {MARK}: {told}"] * 3


async def test_nothing_is_said_to_be_missing_in_a_bucket_that_is_gone(s3: str, bucket_url: str) -> None:
    BucketObjects(bucket_url).begin("of this test")
    gone = Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")

    async with beside(lambda asked: passed_on(s3, asked) if MARK in asked.line else gone) as (opened, _):
        objects = opened(bucket_url)
        for call in (objects.get("a"), objects.put_new("a", b""), objects.replace("a", b""), objects.delete("a")):
            with pytest.raises(StoreUnavailable):
                await call
        for listing in (objects.pieces("a"), objects.keys("a")):
            with pytest.raises(StoreUnavailable):
                await anext(listing)


def test_missing_credentials_are_told_by_their_names(caplog: pytest.LogCaptureFixture) -> None:
    error = BaseError("Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1 s")
    BucketObjects("s3://ours/prefix")._failed("inbox/a", error)
    assert "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set" in caplog.text


async def test_of_a_listing_that_fails_only_the_kind_is_told(
    s3: str, bucket_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    BucketObjects(bucket_url).begin("of this test")

    def script(request: Request) -> Answer:
        return Answer(403, b"<Error/>") if "list-type" in request.line else passed_on(s3, request)

    async with beside(script) as (objects, _):
        with pytest.raises(StoreUnavailable):
            await anext(objects(bucket_url).keys("slices/anna/her-run"))
    (told,) = ours(caplog)
    assert "slices" in told
    assert "anna" not in told


async def test_all_who_come_before_the_id_is_known_wait_for_one_look_and_not_for_long(
    bucket_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "_LOOK_SECONDS", 0.2)
    asked = 0

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        monkeypatch.setenv("AWS_ENDPOINT", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        objects = BucketObjects(bucket_url)
        calls = [objects.put_new(f"inbox/{number}", b"") for number in range(20)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}
    assert asked == 1


async def test_only_what_is_large_waits_on_the_disk_and_a_full_one_is_a_store_that_is_away(
    bucket_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    objects = BucketObjects(bucket_url)
    objects.begin("of this test")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # the nearest to a full disk that needs no disk
    try:
        assert await put(objects, "small", b"x" * 200_000, in_pieces=True)
        with pytest.raises(StoreUnavailable):
            await put(objects, "large", b"x" * PIECE_BYTES, in_pieces=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ours(caplog) == ["the object store fails at temporary files: File too large (errno 27)"]
    assert await objects.get("inbox/large") is None


async def test_a_reader_may_be_slower_than_a_request_may_take(bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket, "_SECONDS", "500ms")
    objects = BucketObjects(bucket_url)
    objects.begin("of this test")
    whole = random.Random(1).randbytes(64 * PIECE_BYTES)  # more than what is on the way meanwhile
    await objects.put_new("originals/a", whole)
    got = b""
    async for piece in objects.pieces("originals/a"):
        got += piece
        await asyncio.sleep(0.05)
    assert got == whole
