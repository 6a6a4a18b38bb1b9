import asyncio
import os
import resource
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
from obstore.exceptions import BaseError

from domain.errors import StoreUnavailable
from infra.object_store import FolderObjects, Objects, objects_at
from infra.object_store.objects import ObjectStoreFailed
from tests.stores import marked


async def test_what_is_put_is_got(objects: Objects) -> None:
    assert await objects.put_new("bodies/one", b"bytes")
    assert await objects.get("bodies/one") == b"bytes"


async def test_what_is_not_there_is_none(objects: Objects) -> None:
    assert await objects.get("bodies/none") is None


async def test_the_first_writer_stays(objects: Objects) -> None:
    assert await objects.put_new("key", b"first")
    assert not await objects.put_new("key", b"second")
    assert await objects.get("key") == b"first"


async def test_of_many_writers_at_once_just_one_is_first(objects: Objects) -> None:
    firsts = await asyncio.gather(*(objects.put_new("key", b"%d" % n) for n in range(16)))
    assert sum(firsts) == 1
    assert await objects.get("key") == b"%d" % firsts.index(True)


async def test_what_is_replaced_is_another_from_then_on(objects: Objects) -> None:
    await objects.replace("tracks/one", b"there was none")
    await objects.replace("tracks/one", b"another")
    assert await objects.get("tracks/one") == b"another"
    assert not await objects.put_new("tracks/one", b"too late")
    assert [key async for key, _ in objects.keys("tracks")] == ["tracks/one"]


async def test_a_draft_is_seen_once_it_is_committed(objects: Objects) -> None:
    pieces = [b"begin", b"x" * 700_000, b"end"]
    async with objects.draft("drafts") as draft:
        for piece in pieces:
            await draft.write(piece)
        assert [key async for key, _ in objects.keys("drafts")] == []
        assert await draft.commit("whole")
    assert [key async for key, _ in objects.keys("drafts")] == ["drafts/whole"]
    assert b"".join([piece async for piece in objects.pieces("drafts/whole")]) == b"".join(pieces)


async def test_a_draft_that_is_not_committed_leaves_nothing(objects: Objects, tmp_path: Path) -> None:
    async with objects.draft("drafts") as draft:
        await draft.write(b"x" * 700_000)
    assert [key async for key, _ in objects.keys("drafts")] == []
    assert not list(tmp_path.rglob("*.part"))


async def test_of_two_drafts_of_one_name_the_first_stays(objects: Objects) -> None:
    async with objects.draft("drafts") as first, objects.draft("drafts") as second:
        await first.write(b"first")
        await second.write(b"second")
        assert await first.commit("name")
        assert not await second.commit("name")
    assert await objects.get("drafts/name") == b"first"


async def test_an_object_that_is_not_there_has_no_pieces(objects: Objects) -> None:
    assert [piece async for piece in objects.pieces("drafts/none")] == []


async def test_what_is_being_written_is_in_one_folder_of_its_kind(tmp_path: Path) -> None:
    """Those of users are never listed: what killed writers left there stayed for ever. An operator may have mounted a
    kind's folder, also from the same disk: links do not cross that.
    """
    objects = FolderObjects(marked(tmp_path))
    async with objects.draft("originals/anna") as draft:
        await draft.write(b"x" * 700_000)
        assert [path.parent for path in tmp_path.rglob("*.part")] == [tmp_path / "originals" / ".parts"]
        assert not (tmp_path / "originals" / "anna").exists()
        await objects.prune("originals/anna")
        assert await draft.commit("run")
    assert not list(tmp_path.rglob("*.part"))
    assert await objects.get("originals/anna/run") == b"x" * 700_000
    assert [key async for key, _ in objects.keys("originals/anna")] == ["originals/anna/run"]


@pytest.mark.parametrize("folder", ["originals/.parts", "parts", "inbox"])  # the latter two by earlier versions
async def test_parts_of_writers_that_were_killed_go_after_a_day(tmp_path: Path, folder: str) -> None:
    objects = FolderObjects(marked(tmp_path))
    await objects.put_new("inbox/a", b"")
    (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    for name, age in (("old", 90_000), ("new", 10)):
        part = tmp_path / folder / f".{name}.part"
        part.write_bytes(b"ha")
        os.utime(part, (time.time() - age, time.time() - age))
    assert [key async for key, _ in objects.keys("inbox")] == ["inbox/a"]
    assert [path.name for path in tmp_path.rglob("*.part")] == [".new.part"]


async def test_what_is_hidden_and_not_ours_stays_and_is_not_told(tmp_path: Path) -> None:
    objects = FolderObjects(marked(tmp_path))
    await objects.put_new("inbox/a", b"")
    hidden = tmp_path / "inbox" / ".snapshot"
    hidden.mkdir()
    os.utime(hidden, (0, 0))
    assert [key async for key, _ in objects.keys("inbox")] == ["inbox/a"]
    assert hidden.exists()


async def test_deleting_twice_is_fine(objects: Objects) -> None:
    await objects.put_new("key", b"")
    await objects.delete("key")
    await objects.delete("key")
    assert await objects.get("key") is None


async def test_keys_are_those_of_one_folder(objects: Objects) -> None:
    for key in ("pending/a", "pending/b", "verdicts/a"):
        await objects.put_new(key, b"")
    assert {key async for key, _ in objects.keys("pending")} == {"pending/a", "pending/b"}
    assert [key async for key, _ in objects.keys("nothing")] == []


async def test_a_folder_goes_once_it_is_empty(objects: Objects, tmp_path: Path) -> None:
    await objects.put_new("kind/folder/a", b"")
    await objects.prune("kind/folder")
    assert await objects.get("kind/folder/a") == b""
    await objects.delete("kind/folder/a")
    for _ in range(2):
        await objects.prune("kind/folder")
    assert not list(tmp_path.rglob("folder"))


async def each_call(objects: Objects) -> AsyncIterator[Awaitable[object]]:
    yield objects.put_new("inbox/a", b"")
    yield objects.replace("tracks/a", b"")
    yield objects.get("tracks/a")
    yield anext(objects.pieces("tracks/a"))
    yield objects.delete("tracks/a")
    yield anext(aiter(objects.keys("inbox")))
    async with objects.draft("inbox") as draft:
        yield draft.commit("b")


async def test_a_store_without_an_id_takes_and_tells_nothing(url: str) -> None:
    objects = objects_at(url)
    assert objects.identity() is None
    async for call in each_call(objects):
        with pytest.raises(StoreUnavailable):
            await call
    assert (objects.begin("one"), objects.begin("another"), objects_at(url).identity()) == ("one",) * 3
    await objects.put_new("inbox/a", b"")
    assert await objects.get("inbox/none") is None


async def test_the_empty_place_of_a_disk_that_is_not_mounted_is_not_the_store(tmp_path: Path) -> None:
    root, away = marked(tmp_path / "objects"), tmp_path / "away"
    objects = FolderObjects(root)
    await objects.put_new("inbox/a", b"kept")
    root.rename(away)
    for there in (False, True):
        if there:
            (root / "inbox").mkdir(parents=True)  # as earlier versions made them
        async for call in each_call(objects):
            with pytest.raises((StoreUnavailable, StopAsyncIteration)):
                await call
        assert not [path for path in tmp_path.glob("objects/**/*") if path.is_file()]
        assert root.exists() is there
    (root / "inbox").rmdir()
    root.rmdir()
    away.rename(root)
    assert await objects.get("inbox/a") == b"kept"


async def test_half_written_files_are_never_seen(tmp_path: Path) -> None:
    objects = FolderObjects(marked(tmp_path))
    await objects.put_new("pending/a", b"")
    (tmp_path / "pending" / ".0123.part").write_bytes(b"ha")
    assert [key async for key, _ in objects.keys("pending")] == ["pending/a"]


async def test_a_store_that_cannot_write_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way of a folder")
    for write in (FolderObjects(marked(tmp_path)).put_new, FolderObjects(marked(tmp_path)).replace):
        with pytest.raises(StoreUnavailable):
            await write("file/key", b"bytes")


async def test_why_the_store_fails_is_logged_once_a_minute_and_not_whose_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    objects = FolderObjects(marked(tmp_path))
    (tmp_path / "originals").write_bytes(b"in the way of a folder")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await objects.put_new("originals/anna/one", b"bytes")
    assert caplog.messages == ["the object store fails at originals: Not a directory (errno 20)"]


async def test_a_draft_on_a_full_disk_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    objects = FolderObjects(marked(tmp_path))
    (tmp_path / "inbox").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # the nearest to a full disk that needs no disk
    try:
        with pytest.raises(StoreUnavailable):
            async with objects.draft("inbox") as draft:
                await draft.write(b"x" * 700_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caplog.messages == ["the object store fails at inbox: File too large (errno 27)"]


async def test_a_bucket_that_does_not_answer_is_said_to_be_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    objects = objects_at("s3://bucket/of/ours")
    with pytest.raises(StoreUnavailable):
        await objects.get("key")
    (told,) = caplog.messages
    assert told.startswith("the object store fails at cairn-store: ")


def test_of_a_failing_key_only_the_kind_is_told() -> None:
    error = BaseError("Error performing PUT http://host/bucket/tracks/anna/one\nand more")
    assert str(ObjectStoreFailed("tracks/anna/one", error)) == (
        "the object store fails at tracks: Error performing PUT http://host/bucket/tracks"
    )
