import hashlib
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from domain.activity import ActivityMissing, RecordingDiffers
from domain.measures import ActivityId
from domain.uploads import BodyDamaged, Fault, Manifest, Verdict
from infra.inbox import ObjectInbox
from infra.objects import FolderObjects
from tests.scenarios import ANNA, BEN, MAY_1

BODY = b"a recording"
READY = Verdict(status="ready", position="p1-5")


def manifest(body: bytes = BODY) -> Manifest:
    return Manifest(
        activity_id=ActivityId(uuid4()),
        user_id=ANNA,
        sha256=hashlib.sha256(body).hexdigest(),
        size=len(body),
        received_at=MAY_1,
        title="Äpfel",
    )


@pytest.fixture
def inbox(tmp_path: Path) -> ObjectInbox:
    return ObjectInbox(FolderObjects(tmp_path))


async def waiting(inbox: ObjectInbox) -> list[ActivityId]:
    return [activity_id async for activity_id, _ in inbox.pending()]


async def test_an_accepted_upload_waits_with_its_bytes(inbox: ObjectInbox) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    assert await inbox.manifest(accepted.activity_id) == accepted
    assert await inbox.body(accepted) == BODY
    assert await waiting(inbox) == [accepted.activity_id]
    assert await inbox.verdict(accepted.activity_id) is None


async def test_the_same_again_changes_nothing(inbox: ObjectInbox) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    await inbox.close(accepted.activity_id, READY)
    await inbox.accept(replace(accepted, title="another title"), BODY)
    assert await inbox.manifest(accepted.activity_id) == accepted
    assert await waiting(inbox) == []


async def test_other_bytes_under_the_same_id_are_refused(inbox: ObjectInbox) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    with pytest.raises(RecordingDiffers):
        await inbox.accept(replace(manifest(b"other"), activity_id=accepted.activity_id), b"other")
    assert await inbox.body(accepted) == BODY


async def test_anothers_id_looks_missing(inbox: ObjectInbox) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    with pytest.raises(ActivityMissing):
        await inbox.accept(replace(accepted, user_id=BEN), BODY)


async def test_the_first_verdict_stays_and_ends_the_wait(inbox: ObjectInbox) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    await inbox.close(accepted.activity_id, READY)
    await inbox.close(accepted.activity_id, Verdict(status="failed", fault=Fault("late", "too late")))
    assert await inbox.verdict(accepted.activity_id) == READY
    assert await waiting(inbox) == []


async def test_bytes_that_changed_on_the_disk_are_found_out(inbox: ObjectInbox, tmp_path: Path) -> None:
    accepted = manifest()
    await inbox.accept(accepted, BODY)
    (tmp_path / "bodies" / str(ANNA) / accepted.sha256).write_bytes(b"flipped")
    with pytest.raises(BodyDamaged):
        await inbox.body(accepted)
