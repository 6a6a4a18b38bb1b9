from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from psycopg import Connection

from domain.activity import Activity
from domain.errors import StoreUnavailable
from domain.measures import ActivityId
from domain.recordings.reading import SessionRead, TrackDamaged
from domain.recordings.recording import Column
from domain.streams import OwnerErased
from infra.bootstrap import now
from infra.formats.track import decode, is_cold, is_sealed
from infra.object_store import FolderObjects
from infra.reader import read
from infra.recompaction import COOLING, Recompaction
from infra.tracks import ObjectTracks
from tests.infra.event_store.conftest import MASTER, Store, opened
from tests.infra.formats.test_track import ITS_COLUMNS, VERSION_1
from tests.recordings import fit
from tests.scenarios import ANNA, BEN, MAY_1, run
from tests.stores import marked

__all__ = ["opened"]

RUN = ActivityId(uuid4())
SESSION: SessionRead = read(fit(kilometres=2)).sessions[0]
POSITIONS = [Column.LAT, Column.LON]


class FullDisk(FolderObjects):
    """It can be read, and takes nothing more."""

    async def replace(self, key: str, body: bytes) -> None:
        raise StoreUnavailable(f"no room for the {len(body)} bytes of {key}")


@pytest.fixture
def objects(tmp_path: Path) -> FolderObjects:
    return FolderObjects(marked(tmp_path))


@pytest.fixture
def tracks(objects: FolderObjects, opened: Store) -> ObjectTracks:
    return ObjectTracks(objects, opened.keys)


def blob(tmp_path: Path, activity_id: ActivityId = RUN) -> Path:
    return tmp_path / "tracks" / str(ANNA) / str(activity_id)


async def test_what_is_kept_is_sealed_and_read_back(tracks: ObjectTracks, tmp_path: Path) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    track, arrays = await tracks.columns(ANNA, RUN, None, None), await tracks.arrays(ANNA, RUN, POSITIONS)
    assert track is not None
    assert arrays is not None
    assert len(track["t"]) == SESSION.measured.points
    assert arrays.keys() == set(POSITIONS)
    np.testing.assert_array_equal(arrays[Column.LAT], decode(SESSION.track)[Column.LAT])
    assert "splits_km" in await tracks.details(ANNA, RUN)
    assert is_sealed(blob(tmp_path).read_bytes())
    assert b"splits" not in (tmp_path / "details" / str(ANNA) / str(RUN)).read_bytes()


async def test_a_track_is_thinned_out_when_asked(tracks: ObjectTracks) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    assert await tracks.columns(ANNA, RUN, [Column.T], 3) == {
        "t": [0.0, pytest.approx(330, abs=80), pytest.approx(700, abs=90)]
    }


async def test_keeping_twice_changes_nothing(tracks: ObjectTracks, tmp_path: Path) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    first = blob(tmp_path).read_bytes()
    await tracks.keep(ANNA, RUN, SESSION)
    assert blob(tmp_path).read_bytes() == first


async def test_with_its_key_a_track_is_gone(tracks: ObjectTracks, opened: Store) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    await opened.keys.destroy(ANNA)
    assert await tracks.columns(ANNA, RUN, None, None) is None
    assert await tracks.arrays(ANNA, RUN, POSITIONS) is None
    assert await tracks.details(ANNA, RUN) == {}
    assert await tracks.recompact(ANNA, RUN) == 0
    with pytest.raises(OwnerErased):
        await tracks.keep(ANNA, ActivityId(uuid4()), SESSION)


@pytest.mark.parametrize("content", [b"", b"\xbcRND", b'{"splits_km": "\xff"}', b"[]"])
async def test_damaged_details_are_told(tracks: ObjectTracks, tmp_path: Path, content: bytes) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    (tmp_path / "details" / str(ANNA) / str(RUN)).write_bytes(content)
    with pytest.raises(TrackDamaged):
        await tracks.details(ANNA, RUN)


async def test_what_is_not_there_is_not_there(tracks: ObjectTracks) -> None:
    assert await tracks.columns(ANNA, RUN, None, None) is None
    assert await tracks.details(ANNA, RUN) == {}
    assert await tracks.recompact(ANNA, RUN) == 0


async def test_objects_of_one_activity_are_none_of_another(tracks: ObjectTracks, tmp_path: Path) -> None:
    other = ActivityId(uuid4())
    await tracks.keep(ANNA, RUN, SESSION)
    for kind in ("tracks", "details"):
        folder = tmp_path / kind / str(ANNA)
        (folder / str(other)).write_bytes((folder / str(RUN)).read_bytes())
    with pytest.raises(TrackDamaged):
        await tracks.columns(ANNA, other, POSITIONS, None)
    with pytest.raises(TrackDamaged):
        await tracks.details(ANNA, other)


async def test_objects_from_before_sealing_are_read(tracks: ObjectTracks, objects: FolderObjects) -> None:
    await objects.put_new(f"tracks/{ANNA}/{RUN}", VERSION_1)
    await objects.put_new(f"details/{ANNA}/{RUN}", b'{"splits_km": []}')
    assert await tracks.columns(ANNA, RUN, [Column.T], None) == {"t": ITS_COLUMNS[Column.T]}
    assert await tracks.details(ANNA, RUN) == {"splits_km": []}


async def test_a_cold_track_is_smaller_and_the_same(tracks: ObjectTracks, tmp_path: Path) -> None:
    await tracks.keep(ANNA, RUN, SESSION)
    before, size = await tracks.columns(ANNA, RUN, None, None), blob(tmp_path).stat().st_size
    saved = await tracks.recompact(ANNA, RUN)
    assert saved > 0
    assert blob(tmp_path).stat().st_size == size - saved
    assert is_cold(blob(tmp_path).read_bytes())
    assert is_sealed(blob(tmp_path).read_bytes())
    assert await tracks.columns(ANNA, RUN, None, None) == before
    assert await tracks.recompact(ANNA, RUN) == 0


async def test_recompaction_seals_what_never_was(tracks: ObjectTracks, opened: Store, objects: FolderObjects) -> None:
    await opened.keys.to_seal(ANNA)
    await objects.put_new(f"tracks/{ANNA}/{RUN}", VERSION_1)
    await tracks.recompact(ANNA, RUN)
    assert is_sealed(await objects.get(f"tracks/{ANNA}/{RUN}") or b"")
    assert await tracks.columns(ANNA, RUN, [Column.T], None) == {"t": ITS_COLUMNS[Column.T]}


async def test_a_track_that_cannot_be_replaced_or_read_stays(opened: Store, tmp_path: Path) -> None:
    tracks = ObjectTracks(FullDisk(marked(tmp_path)), opened.keys)
    await tracks.keep(ANNA, RUN, SESSION)
    with pytest.raises(StoreUnavailable):
        await tracks.recompact(ANNA, RUN)
    assert await tracks.columns(ANNA, RUN, POSITIONS, None) is not None
    damaged = blob(tmp_path).read_bytes()[:-9] + b"123456789"
    blob(tmp_path).write_bytes(damaged)
    assert await tracks.recompact(ANNA, RUN) == 0
    assert blob(tmp_path).read_bytes() == damaged


async def recorded(opened: Store, tracks: ObjectTracks, at: datetime = MAY_1) -> ActivityId:
    """A run that was taken in just now, by a host whose clock says this."""
    activity_id = ActivityId(uuid4())
    await tracks.keep(ANNA, activity_id, SESSION)
    event = run(ANNA, activity_id=activity_id, at=at)
    await opened.streams.transact(Activity, activity_id, ANNA, partial(Activity.record, recorded=event))
    return activity_id


async def test_turns_go_through_the_log_up_to_what_is_not_cold_yet(
    opened: Store, tracks: ObjectTracks, objects: FolderObjects, database: Connection, tmp_path: Path
) -> None:
    ahead = now() + timedelta(days=4_000)
    due = [await recorded(opened, tracks, at) for at in (ahead, MAY_1)]
    database.execute("UPDATE stored_events SET recorded_at = recorded_at - interval '3 days'")
    young = await recorded(opened, tracks)
    no_track = run(BEN, at=MAY_1)
    await opened.streams.transact(Activity, no_track.activity_id, BEN, partial(Activity.record, recorded=no_track))
    clock = [now() + COOLING - timedelta(days=1)]
    turns = Recompaction(database, MASTER, opened.streams, tracks, objects, lambda: clock[0])
    assert (await turns.turn())[0] == 2
    assert [is_cold(blob(tmp_path, one).read_bytes()) for one in (*due, young)] == [True, True, False]
    assert await turns.turn() == (0, 0)
    clock[0] += timedelta(days=2)
    tracks_done, saved = await turns.turn()
    assert tracks_done == 2  # Ben's among them, of which there is no track
    assert saved > 0
    await objects.delete("recompaction/position")
    assert await turns.turn() == (4, 0)  # the blobs know


async def test_the_track_of_what_was_deleted_is_left_to_be_removed(
    opened: Store, tracks: ObjectTracks, objects: FolderObjects, database: Connection
) -> None:
    deleted = await recorded(opened, tracks)
    await opened.streams.transact(Activity, deleted, ANNA, lambda it: it.delete(ANNA, MAY_1))
    turns = Recompaction(database, MASTER, opened.streams, tracks, objects, lambda: now() + 2 * COOLING)
    assert await turns.turn() == (1, 0)


async def test_one_process_at_a_time_recompacts(
    opened: Store, tracks: ObjectTracks, objects: FolderObjects, database: Connection, database_url: str
) -> None:
    def turns(connection: Connection) -> Recompaction:
        return Recompaction(connection, MASTER, opened.streams, tracks, objects, lambda: now() + 2 * COOLING)

    await recorded(opened, tracks)
    with psycopg.connect(database_url, autocommit=True) as other:
        assert (await turns(other).turn())[0] == 1
        await objects.delete("recompaction/position")
        assert await turns(database).turn() == (0, 0)
