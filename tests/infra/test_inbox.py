import os
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from domain.activity import ActivityMissing, RecordingDiffers
from domain.errors import DomainError, StoreUnavailable
from domain.measures import ActivityId, UserId
from domain.streams import OwnerErased
from domain.uploads import BodyDamaged, Cover, Fault, Manifest, UploadDamaged, Verdict
from infra.inbox import ObjectInbox
from infra.keys import KeyUnusable, MasterKeys, UserKeys
from infra.object_store import FolderObjects
from infra.views import ReadModels
from tests.scenarios import ANNA, BEN, MAY_1
from tests.stores import marked
from tests.uploads import accept, waiting

BODY = b"a recording" + os.urandom(700_000)  # of several pieces
READY = Verdict(status="ready", position="p1-5")
GIVEN_UP = Verdict(status="failed", fault=Fault("processing-failed", "It failed repeatedly."))
COVER = Cover(received_at=MAY_1, title="Äpfel")
MASTER = MasterKeys([b"m" * 32])


@pytest.fixture
async def keys(database_url: str) -> AsyncIterator[UserKeys]:
    read_models = ReadModels(database_url, connections=1)
    await read_models.open()
    yield UserKeys(read_models, MASTER)
    await read_models.close()


@pytest.fixture
def inbox(tmp_path: Path, keys: UserKeys) -> ObjectInbox:
    return ObjectInbox(FolderObjects(marked(tmp_path)), MASTER, keys)


async def original(inbox: ObjectInbox, manifest: Manifest) -> bytes:
    return b"".join([piece async for piece in inbox.original(manifest.user_id, manifest.sha256)])


async def test_an_accepted_upload_waits_with_its_bytes(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY, cover=COVER)
    assert await inbox.manifest(accepted.activity_id) == accepted
    received = await inbox.received(accepted)
    assert (received.body, received.cover) == (BODY, COVER)
    assert await waiting(inbox) == [accepted.activity_id]
    assert await inbox.verdict(accepted.activity_id) is None


async def test_what_others_have_put_there_is_left_alone(inbox: ObjectInbox, tmp_path: Path) -> None:
    accepted = await accept(inbox, BODY)
    (tmp_path / "inbox" / "lost+found").mkdir()
    (tmp_path / "inbox" / "notes.txt").touch()
    assert await waiting(inbox) == [accepted.activity_id]


async def test_nothing_private_can_be_read_in_the_store(inbox: ObjectInbox, tmp_path: Path) -> None:
    accepted = await accept(inbox, b"a secret place", cover=Cover(received_at=MAY_1, title="a secret title"))
    for _ in range(2):
        stored = [file for file in tmp_path.rglob("*") if file.is_file()]
        assert stored
        assert not any(b"secret" in file.read_bytes() for file in stored)
        await inbox.close(accepted, READY)


async def test_what_is_not_accepted_leaves_nothing(inbox: ObjectInbox, tmp_path: Path) -> None:
    async with inbox.arrive((await accept(inbox, BODY)).activity_id, ANNA, COVER) as arrival:
        await arrival.write(BODY)
    assert sum(file.is_file() for file in tmp_path.glob("*/**/*")) == 2  # the accepted one's bytes and manifest


async def test_the_same_again_changes_nothing(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, READY)
    assert await accept(inbox, BODY, activity_id=accepted.activity_id, cover=COVER) == accepted
    assert await waiting(inbox) == []


async def test_other_bytes_under_the_same_id_are_refused(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    with pytest.raises(RecordingDiffers):
        await accept(inbox, b"other", activity_id=accepted.activity_id)
    assert (await inbox.received(accepted)).body == BODY


@pytest.mark.parametrize(
    ("user_id", "body", "refusal"), [(ANNA, BODY, None), (ANNA, b"x", RecordingDiffers), (BEN, BODY, ActivityMissing)]
)
async def test_of_two_that_come_under_one_id_at_once_the_first_is_accepted(
    inbox: ObjectInbox,
    monkeypatch: pytest.MonkeyPatch,
    user_id: UserId,
    body: bytes,
    refusal: type[DomainError] | None,
) -> None:
    put_new, activity_id = inbox._objects.put_new, ActivityId(uuid4())

    async def overtaken(key: str, data: bytes) -> bool:
        monkeypatch.undo()
        await accept(inbox, BODY, activity_id=activity_id)
        return await put_new(key, data)

    monkeypatch.setattr(inbox._objects, "put_new", overtaken)
    with pytest.raises(refusal) if refusal else nullcontext():
        await accept(inbox, body, activity_id=activity_id, user_id=user_id)
    manifest = await inbox.manifest(activity_id)
    assert manifest is not None
    assert manifest.user_id == ANNA
    assert (await inbox.received(manifest)).body == BODY


async def test_nothing_is_accepted_before_its_bytes_are_there(
    inbox: ObjectInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_new, there = inbox._objects.put_new, list[list[ActivityId]]()

    async def looked_at(key: str, data: bytes) -> bool:
        there.append(await waiting(inbox))
        return await put_new(key, data)

    monkeypatch.setattr(inbox._objects, "put_new", looked_at)
    accepted = await accept(inbox, BODY)
    assert there == [[accepted.activity_id]]


async def test_bytes_that_another_left_unaccepted_under_an_id_are_not_in_the_way(
    inbox: ObjectInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity_id = uuid4()

    async def away(_key: str, _data: bytes) -> bool:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(inbox._objects, "put_new", away)
        with pytest.raises(StoreUnavailable):
            await accept(inbox, BODY, activity_id=activity_id, user_id=BEN)
    accepted = await accept(inbox, BODY, activity_id=activity_id)
    assert (await inbox.received(accepted)).body == BODY


async def test_anothers_id_looks_missing(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    with pytest.raises(ActivityMissing):
        await accept(inbox, BODY, activity_id=accepted.activity_id, user_id=BEN)
    assert (await inbox.received(accepted)).body == BODY


async def test_the_first_verdict_stays_and_ends_the_wait(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, READY)
    await inbox.close(accepted, Verdict(status="failed", fault=Fault("late", "too late")))
    assert await inbox.verdict(accepted.activity_id) == READY
    assert await waiting(inbox) == []


async def test_then_the_bytes_are_their_owners(inbox: ObjectInbox, keys: UserKeys) -> None:
    accepted = await accept(inbox, BODY)
    with pytest.raises(KeyUnusable):  # there is none yet
        await original(inbox, accepted)
    await inbox.close(accepted, READY)
    assert await original(inbox, accepted) == BODY
    await keys.destroy(ANNA)
    assert await original(inbox, accepted) == b""


async def test_cut_off_before_the_bytes_went_over_the_next_try_tidies_up(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, READY)
    again = await accept(inbox, b"x", activity_id=(await accept(inbox, b"x")).activity_id)
    await inbox._objects.put_new(f"verdicts/{again.activity_id.hex[:2]}/{again.activity_id}", b'{"status":"ready"}')
    await inbox.tidy(again)
    assert await original(inbox, again) == b"x"
    assert await waiting(inbox) == []


async def test_of_an_erased_runner_nothing_is_kept(inbox: ObjectInbox, keys: UserKeys, tmp_path: Path) -> None:
    await keys.to_seal(ANNA)
    await keys.destroy(ANNA)
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, GIVEN_UP)
    assert not list(tmp_path.glob("originals/*/*"))
    assert await waiting(inbox) == []
    with pytest.raises(OwnerErased):
        await inbox.reopen(accepted)


async def test_an_upload_that_was_given_up_is_tried_anew(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY, cover=COVER)
    await inbox.close(accepted, GIVEN_UP)
    assert await waiting(inbox) == []
    for _ in range(2):
        await inbox.reopen(accepted)
        assert await waiting(inbox) == [accepted.activity_id]
        assert await inbox.verdict(accepted.activity_id) is None
        received = await inbox.received(accepted)
        assert (received.body, received.cover) == (BODY, COVER)


async def test_what_is_tried_anew_is_not_swept_away_meanwhile(
    inbox: ObjectInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted, delete = await accept(inbox, BODY), inbox._objects.delete
    await inbox.close(accepted, GIVEN_UP)

    async def after_a_sweep(key: str) -> None:
        monkeypatch.undo()
        await inbox.tidy(accepted)
        await delete(key)

    monkeypatch.setattr(inbox._objects, "delete", after_a_sweep)
    await inbox.reopen(accepted)
    assert await waiting(inbox) == [accepted.activity_id]


async def test_sent_once_more_it_is_tried_anew_too(inbox: ObjectInbox) -> None:
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, GIVEN_UP)
    await accept(inbox, BODY, activity_id=accepted.activity_id)
    assert await inbox.verdict(accepted.activity_id) is None
    assert await waiting(inbox) == [accepted.activity_id]


async def test_sent_once_more_while_it_is_put_away_it_is_not_lost(
    inbox: ObjectInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted, delete = await accept(inbox, BODY), inbox._objects.delete

    async def late(key: str) -> None:
        if key.startswith("inbox/"):
            monkeypatch.undo()
            await accept(inbox, BODY, activity_id=accepted.activity_id)  # which finds the bytes still there
        await delete(key)

    monkeypatch.setattr(inbox._objects, "delete", late)
    await inbox.close(accepted, GIVEN_UP)
    assert await inbox.verdict(accepted.activity_id) is None
    assert await waiting(inbox) == [accepted.activity_id]
    assert (await inbox.received(accepted)).body == BODY


@pytest.mark.parametrize("damage", [b"flipped", None])
async def test_bytes_that_changed_on_the_disk_or_are_gone_are_found_out(
    inbox: ObjectInbox, tmp_path: Path, damage: bytes | None
) -> None:
    accepted = await accept(inbox, BODY)
    (stored,) = (tmp_path / "inbox").glob("[!.]*")
    if damage is None:
        stored.unlink()
    else:
        stored.write_bytes(stored.read_bytes()[:-7] + damage)
    with pytest.raises(BodyDamaged):
        await inbox.received(accepted)


async def test_what_was_kept_of_damaged_bytes_gives_way_to_whole_ones(inbox: ObjectInbox, tmp_path: Path) -> None:
    accepted = await accept(inbox, BODY)
    (stored,) = (tmp_path / "inbox").glob("[!.]*")
    stored.write_bytes(stored.read_bytes()[:-7] + b"flipped")
    await inbox.close(accepted, Verdict(status="failed", fault=Fault("body-damaged", "Send it again.")))
    with pytest.raises(BodyDamaged):
        await original(inbox, accepted)
    again = await accept(inbox, BODY, activity_id=accepted.activity_id)
    assert (await inbox.received(again)).body == BODY
    await inbox.close(again, READY)
    assert await original(inbox, again) == BODY


@pytest.mark.parametrize("content", [b"", b"\xfb\xff", b"[]", b'{"status":"lost"}'])
@pytest.mark.parametrize("kind", ["manifests", "verdicts", "originals"])
async def test_what_is_damaged_is_told_of_one_upload(
    inbox: ObjectInbox, tmp_path: Path, kind: str, content: bytes
) -> None:
    accepted = await accept(inbox, BODY)
    await inbox.close(accepted, READY)
    (stored,) = (path for path in (tmp_path / kind).rglob("*") if path.is_file())
    stored.write_bytes(content)
    reads = {"manifests": inbox.manifest, "verdicts": inbox.verdict}
    with pytest.raises(BodyDamaged if kind == "originals" else UploadDamaged):
        await (original(inbox, accepted) if kind == "originals" else reads[kind](accepted.activity_id))


async def test_whole_bytes_are_not_taken_while_damaged_ones_have_their_name(inbox: ObjectInbox, tmp_path: Path) -> None:
    accepted = await accept(inbox, BODY)
    (stored,) = (tmp_path / "inbox").glob("[!.]*")
    stored.write_bytes(stored.read_bytes()[:-7] + b"flipped")
    verdict = Verdict(status="failed", fault=Fault("body-damaged", "Send it again."))
    await inbox._objects.put_new(
        f"verdicts/{accepted.activity_id.hex[:2]}/{accepted.activity_id}", msgspec.json.encode(verdict)
    )  # and the worker is killed
    with pytest.raises(StoreUnavailable):
        await accept(inbox, BODY, activity_id=accepted.activity_id)
    assert await inbox.verdict(accepted.activity_id) == verdict
    await inbox.tidy(accepted)  # by a sweep
    await accept(inbox, BODY, activity_id=accepted.activity_id)
    assert (await inbox.received(accepted)).body == BODY


async def test_without_the_master_key_nothing_is_taken_for_damaged(inbox: ObjectInbox, keys: UserKeys) -> None:
    accepted = await accept(inbox, BODY)
    other = ObjectInbox(inbox._objects, MasterKeys([b"o" * 32]), keys)
    with pytest.raises(KeyUnusable, match="add it to CAIRN_MASTER_KEY"):
        await other.received(accepted)
