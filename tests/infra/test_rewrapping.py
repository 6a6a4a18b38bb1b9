"""Uploads and chunks that wait are brought under a new master key, and nothing is lost on the way."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from domain.chunks import Upload
from domain.measures import ActivityId
from domain.uploads import Verdict
from infra.chunks import ObjectChunks
from infra.faults import Fault
from infra.inbox import ObjectInbox
from infra.keys import KeyUnusable, MasterKeys, UserKeys
from infra.object_store import FolderObjects
from infra.rewrapping import rewrap_waiting
from infra.views import ReadModels
from tests.scenarios import ANNA, BEN
from tests.stores import marked
from tests.uploads import accept

OLD, NEW = b"o" * 32, b"n" * 32
SECRET = b"c" * 32


class Store:
    """What one process sees of the object store, with the master keys it was given."""

    def __init__(self, folder: Path, read_models: ReadModels, *keys: bytes) -> None:
        self.objects, self.master = FolderObjects(marked(folder)), MasterKeys(keys)
        self.inbox = ObjectInbox(self.objects, self.master, UserKeys(read_models, MasterKeys([NEW])))
        self.chunks = ObjectChunks(self.objects, self.master, SECRET)

    async def rewrap(self) -> int:
        return await rewrap_waiting(self.objects, self.master, self.inbox, self.chunks)


@pytest.fixture
async def read_models(database_url: str) -> AsyncIterator[ReadModels]:
    made = ReadModels(database_url, connections=1)
    await made.open()
    yield made
    await made.close()


async def chunk(store: Store, upload: Upload, seq: int, body: bytes) -> None:
    await store.chunks.begin(upload)
    async with store.chunks.arrive(upload, seq, uuid4()) as arrival:
        await arrival.write(body)
        await arrival.keep()


async def test_afterwards_the_new_key_is_enough(tmp_path: Path, read_models: ReadModels) -> None:
    old, both, new = (Store(tmp_path, read_models, *keys) for keys in ((OLD,), (NEW, OLD), (NEW,)))
    waits = [await accept(old.inbox, b"a run", user_id=user) for user in (ANNA, BEN)]
    done = await accept(both.inbox, b"another run")
    await both.inbox.close(done, Verdict(status="ready"))
    upload = Upload(ANNA, ActivityId(uuid4()))
    await chunk(old, upload, 0, b"begin ")
    await chunk(both, upload, 1, b"end")
    with pytest.raises(KeyUnusable):
        await new.inbox.received(waits[0])

    assert await both.rewrap() == 3
    assert await both.rewrap() == 0
    for manifest in waits:
        assert (await new.inbox.received(manifest)).body == b"a run"
    held = await new.chunks.held(upload)
    assert b"".join([piece async for piece in new.chunks.pieces(upload, held)]) == b"begin end"


async def test_without_the_old_key_it_is_refused(tmp_path: Path, read_models: ReadModels) -> None:
    await accept(Store(tmp_path, read_models, OLD).inbox, b"a run")
    with pytest.raises(Fault, match="add it to CAIRN_MASTER_KEY"):
        await Store(tmp_path, read_models, NEW).rewrap()


async def test_what_goes_meanwhile_is_not_brought_back(tmp_path: Path, read_models: ReadModels) -> None:
    old, both = (Store(tmp_path, read_models, *keys) for keys in ((OLD,), (NEW, OLD)))
    upload = Upload(ANNA, ActivityId(uuid4()))
    await chunk(old, upload, 0, b"not wanted")

    class DiscardedMeanwhile(FolderObjects):
        async def replace(self, key: str, body: bytes) -> None:
            await old.chunks.discard(upload)
            await super().replace(key, body)

    both.objects = DiscardedMeanwhile(tmp_path)
    await both.rewrap()
    assert not [file for file in (tmp_path / "chunks").rglob("*") if file.is_file()]
