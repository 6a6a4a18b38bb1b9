"""Which recordings are closed by the server, and what is handed in then."""

import os
from datetime import datetime, timedelta
from pathlib import Path
from uuid import uuid4

from domain.chunks import Upload
from domain.measures import ActivityId, Visibility
from domain.uploads import Cover
from infra.chunks import ObjectChunks
from infra.inbox import ObjectInbox
from infra.keys import MasterKeys, UserKeys
from infra.object_store import FolderObjects
from infra.views import ReadModels
from tests.scenarios import ANNA, MAY_1
from tests.stores import marked
from workers.ingest.abandoned import QUIET, Abandoned

MASTER = MasterKeys([b"m" * 32])


async def test_a_recording_is_closed_a_day_after_its_newest_chunk_and_as_of_its_session(tmp_path: Path) -> None:
    objects = FolderObjects(marked(tmp_path))
    chunks = ObjectChunks(objects, MASTER, b"secret")
    inbox = ObjectInbox(objects, MASTER, UserKeys(ReadModels("", connections=1), MASTER))
    upload, newest = Upload(ANNA, ActivityId(uuid4())), MAY_1 + timedelta(hours=24)
    first, second = uuid4(), uuid4()
    await chunks.begin(upload)
    as_of(tmp_path, MAY_1)
    for seq, (session_id, at) in enumerate([(first, MAY_1), (second, newest), (first, MAY_1)]):
        async with chunks.arrive(upload, seq, session_id) as arrival:
            await arrival.write(b"%d;" % seq)
            await arrival.keep()
        as_of(tmp_path / "slices", at, f"{seq}.*")

    assert await Abandoned(chunks, inbox, clock=lambda: newest + timedelta(hours=1)).sweep() == 0
    assert len(await chunks.held(upload)) == 3
    assert await Abandoned(chunks, inbox, clock=lambda: newest + QUIET).sweep() == 1
    assert await chunks.held(upload) == []
    manifest = await inbox.manifest(upload.activity_id)
    assert manifest is not None
    assert (manifest.visibility, manifest.partial) == (Visibility.PRIVATE, True)
    received = await inbox.received(manifest)
    assert (received.body, received.cover) == (b"0;1;2;", Cover(received_at=newest, session_id=second))


def as_of(folder: Path, at: datetime, names: str = "*") -> None:
    """As if these files had been written then."""
    for found in folder.rglob(names):
        os.utime(found, (at.timestamp(), at.timestamp()))
