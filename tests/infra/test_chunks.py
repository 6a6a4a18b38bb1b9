"""Chunks in the object store: sealed, the first writer stays, and every step may be cut off and repeated."""

from pathlib import Path
from uuid import UUID, uuid4

import pytest

from domain.chunks import ChunkDiffers, ChunksMissing, Upload
from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from infra.chunks import ObjectChunks
from infra.keys import KeyUnusable, MasterKeys
from infra.object_store import FolderObjects, Objects
from tests.scenarios import ANNA, BEN
from tests.stores import marked

MASTER = MasterKeys([b"m" * 32])
UPLOAD = Upload(ANNA, ActivityId(UUID("11111111-1111-4111-8111-111111111111")))
SESSION = uuid4()


class FailingObjects(FolderObjects):
    """The store goes away after some deletes."""

    left = 0

    async def delete(self, key: str) -> None:
        if self.left == 0:
            raise StoreUnavailable
        self.left -= 1
        await super().delete(key)


@pytest.fixture
def chunks(tmp_path: Path) -> ObjectChunks:
    return ObjectChunks(FolderObjects(marked(tmp_path)), MASTER, b"secret")


async def keep(chunks: ObjectChunks, seq: int, body: bytes, upload: Upload = UPLOAD) -> bool:
    await chunks.begin(upload)
    async with chunks.arrive(upload, seq, SESSION) as arrival:
        await arrival.write(body[:1])
        await arrival.write(body[1:])
        return await arrival.keep()


async def together(chunks: ObjectChunks, upload: Upload = UPLOAD) -> bytes:
    return b"".join([piece async for piece in chunks.pieces(upload, await chunks.held(upload))])


def bytes_of(tmp_path: Path, seq: int, upload: Upload = UPLOAD) -> Path:
    return tmp_path / "chunks" / str(upload.user_id) / str(upload.activity_id) / str(seq)


def name_of(tmp_path: Path, seq: int) -> Path:
    (found,) = (tmp_path / "slices" / str(ANNA) / str(UPLOAD.activity_id)).glob(f"{seq}.*")
    return found


async def test_what_was_stored_and_never_counted_is_told_to_who_sends_other_bytes(
    chunks: ObjectChunks, tmp_path: Path
) -> None:
    await keep(chunks, 0, b"as many as the network bore")
    name_of(tmp_path, 0).unlink()  # cut off in between
    assert await chunks.held(UPLOAD) == []
    with pytest.raises(ChunkDiffers):
        await keep(chunks, 0, b"fewer")
    assert await together(chunks) == b"as many as the network bore"  # from where the client goes on


async def test_what_is_kept_is_held_in_order_with_the_session_it_came_in(objects: Objects) -> None:
    chunks = ObjectChunks(objects, MASTER, b"secret")
    for seq in (10, 2, 0):
        assert await keep(chunks, seq, b"chunk %d;" % seq)
    held = await chunks.held(UPLOAD)
    assert [(chunk.seq, chunk.size) for chunk in held] == [(0, 8), (2, 8), (10, 9)]
    assert await together(chunks) == b"chunk 0;chunk 2;chunk 10;"
    assert await chunks.session_of(UPLOAD, held[0]) == SESSION
    assert [upload async for upload, _ in chunks.under_way()] == [UPLOAD]
    assert not await keep(chunks, 2, b"chunk 2;")
    with pytest.raises(ChunkDiffers):
        await keep(chunks, 2, b"chunk 3;")
    await chunks.clear(UPLOAD)
    assert await chunks.held(UPLOAD) == []
    assert await chunks.taken(UPLOAD) == [held[0].digest]
    assert [upload async for upload, _ in chunks.under_way()] == []


async def test_two_runners_under_one_id_do_not_meet(chunks: ObjectChunks) -> None:
    of_ben = Upload(BEN, UPLOAD.activity_id)
    assert await keep(chunks, 0, b"Anna's")
    assert await keep(chunks, 0, b"Ben's", of_ben)
    await chunks.clear(of_ben)
    assert await together(chunks) == b"Anna's"


async def test_what_others_have_put_there_is_left_alone(chunks: ObjectChunks, tmp_path: Path) -> None:
    assert await keep(chunks, 0, b"Anna's")
    (tmp_path / "chunked" / "lost+found").mkdir()
    (tmp_path / "chunked" / f"{UPLOAD.activity_id}.txt").touch()
    assert [upload async for upload, _ in chunks.under_way()] == [UPLOAD]


async def test_neither_content_nor_names_tell_where_a_runner_was(chunks: ObjectChunks, tmp_path: Path) -> None:
    await keep(chunks, 0, b"a secret place")
    other = ObjectChunks(FolderObjects(marked(tmp_path / "other")), MASTER, b"another secret")
    await keep(other, 0, b"a secret place")
    assert not any(b"secret" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    ours, theirs = [(await one.held(UPLOAD))[0] for one in (chunks, other)]
    assert ours.digest != theirs.digest
    with pytest.raises(KeyUnusable):
        await together(ObjectChunks(FolderObjects(marked(tmp_path)), MasterKeys([b"x" * 32]), b"secret"))


async def test_under_a_new_secret_the_same_bytes_are_still_the_same(chunks: ObjectChunks, tmp_path: Path) -> None:
    await keep(chunks, 0, b"bytes")
    later = ObjectChunks(FolderObjects(marked(tmp_path)), MASTER, b"a new secret")
    assert not await keep(later, 0, b"bytes")
    assert len(await later.held(UPLOAD)) == 1
    with pytest.raises(ChunkDiffers):
        await keep(later, 0, b"other")


async def test_cut_off_before_it_counts_the_repeat_makes_it_count(chunks: ObjectChunks, tmp_path: Path) -> None:
    await keep(chunks, 0, b"bytes")
    name_of(tmp_path, 0).unlink()
    assert await chunks.held(UPLOAD) == []
    with pytest.raises(ChunkDiffers):
        await keep(chunks, 0, b"other")
    assert not await keep(chunks, 0, b"bytes")
    assert await together(chunks) == b"bytes"


async def test_a_damaged_chunk_is_dropped_and_can_be_sent_again(chunks: ObjectChunks, tmp_path: Path) -> None:
    for seq in range(3):
        await keep(chunks, seq, b"chunk %d" % seq)
    path = bytes_of(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ChunksMissing, match="1-1"):
        await together(chunks)
    assert [chunk.seq for chunk in await chunks.held(UPLOAD)] == [0, 2]
    assert await keep(chunks, 1, b"chunk 1")
    assert await together(chunks) == b"chunk 0chunk 1chunk 2"


async def test_a_damaged_chunk_that_never_counted_gives_way(chunks: ObjectChunks, tmp_path: Path) -> None:
    await keep(chunks, 0, b"bytes")
    bytes_of(tmp_path, 0).write_bytes(b"flipped")
    name_of(tmp_path, 0).unlink()
    with pytest.raises(StoreUnavailable):
        await keep(chunks, 0, b"bytes")
    assert await keep(chunks, 0, b"bytes")


@pytest.mark.parametrize(
    ("upload", "seq"),
    [
        pytest.param(UPLOAD, 0, id="another number"),
        pytest.param(Upload(ANNA, ActivityId(uuid4())), 1, id="another recording"),
    ],
)
async def test_a_chunk_in_anothers_place_does_not_open(
    chunks: ObjectChunks, tmp_path: Path, upload: Upload, seq: int
) -> None:
    await keep(chunks, 0, b"first")
    await keep(chunks, 1, b"other")
    await keep(chunks, seq, b"first", upload)
    bytes_of(tmp_path, 1).write_bytes(bytes_of(tmp_path, seq, upload).read_bytes())
    with pytest.raises(ChunksMissing):
        await chunks.session_of(UPLOAD, (await chunks.held(UPLOAD))[1])
    assert [chunk.seq for chunk in await chunks.held(UPLOAD)] == [0]


@pytest.mark.parametrize("place", range(4))  # of two chunks with a name each: which deletion another chunk meets
async def test_a_chunk_that_comes_while_others_are_discarded_goes_or_finds_it_out(tmp_path: Path, place: int) -> None:
    chunks = ObjectChunks(FolderObjects(marked(tmp_path)), MASTER, b"secret")
    for seq in range(2):
        await keep(chunks, seq, b"bytes")

    class Meanwhile(FolderObjects):
        deleted = 0

        async def delete(self, key: str) -> None:
            if self.deleted == place:
                async with chunks.arrive(UPLOAD, 2, SESSION) as arrival:
                    await arrival.write(b"late")
                    await arrival.keep()
            self.deleted += 1
            await super().delete(key)

    await ObjectChunks(Meanwhile(tmp_path), MASTER, b"secret").discard(UPLOAD)
    assert not await chunks.has_begun(UPLOAD)
    assert not [path for kind in ("chunks", "slices") for path in (tmp_path / kind).rglob("*") if path.is_file()]


async def test_what_is_dropped_does_not_count_before_it_is_gone(tmp_path: Path) -> None:
    objects = FailingObjects(marked(tmp_path))
    chunks = ObjectChunks(objects, MASTER, b"secret")
    await keep(chunks, 0, b"bytes")
    objects.left = 1
    with pytest.raises(StoreUnavailable):
        await chunks.drop(UPLOAD, 0)
    assert await chunks.held(UPLOAD) == []


@pytest.mark.parametrize("deletes", range(8))
async def test_clearing_is_cut_off_anywhere_and_repeated(tmp_path: Path, deletes: int) -> None:
    objects = FailingObjects(marked(tmp_path))
    chunks = ObjectChunks(objects, MASTER, b"secret")
    digests = []
    for seq in range(3):
        await keep(chunks, seq, b"chunk %d" % seq)
        digests = [chunk.digest for chunk in await chunks.held(UPLOAD)]
    objects.left = deletes
    if deletes < 7:  # three chunks with a name each, and the mark
        with pytest.raises(StoreUnavailable):
            await chunks.clear(UPLOAD)
        assert await chunks.taken(UPLOAD) == digests
        assert [upload async for upload, _ in chunks.under_way()] == [UPLOAD]  # for a sweep to find
        assert all(bytes_of(tmp_path, chunk.seq).exists() for chunk in await chunks.held(UPLOAD))
        objects.left = 7
    await chunks.clear(UPLOAD)
    assert await chunks.taken(UPLOAD) == digests
    assert [path.parent.name for path in tmp_path.glob("*/**/*") if path.is_file()] == [str(ANNA)]
    assert [list((tmp_path / kind / str(ANNA)).iterdir()) for kind in ("chunks", "slices")] == [[], []]
