import pytest
from msgspec.structs import replace

from domain.activity import MANUAL, Activity, ActivityMissing, RecordingDiffers, session_activity_id, without_hour
from domain.events.activity import ActivityDeleted, ActivityEdited, ActivityRecorded, Source
from domain.measures import ActivityId, Sport, Visibility
from tests.scenarios import ANNA, BEN, MAY_2, given, run

RUN = run(ANNA)
DELETED = ActivityDeleted(user_id=ANNA, activity_id=RUN.activity_id, tally=RUN.tally, at=MAY_2)


def test_a_recording_becomes_an_activity() -> None:
    assert Activity().record(RUN) == [RUN]


def test_the_same_bytes_again_change_nothing() -> None:
    again = replace(RUN, at=MAY_2, source=replace(RUN.source, device="named by a later parser"))
    assert given(Activity, RUN).record(again) == []


def test_the_same_bytes_do_not_bring_a_deleted_run_back() -> None:
    assert given(Activity, RUN, DELETED).record(RUN) == []


@pytest.mark.parametrize(
    "other", [replace(RUN, source=replace(RUN.source, sha256="ff")), replace(RUN, user_id=BEN)], ids=["bytes", "runner"]
)
def test_other_bytes_and_other_runners_under_the_same_id_are_refused(other: ActivityRecorded) -> None:
    with pytest.raises(RecordingDiffers):
        given(Activity, RUN).record(other)


ENTERED = replace(RUN, source=Source(format=MANUAL, sha256="figures"))


def test_an_entry_becomes_an_activity_with_its_notes() -> None:
    assert Activity().enter(ENTERED, "") == [ENTERED]
    recorded, noted = Activity().enter(ENTERED, "At home.")
    assert (recorded, getattr(noted, "notes", None)) == (ENTERED, "At home.")


def test_an_entry_again_changes_nothing_also_when_it_was_deleted() -> None:
    assert given(Activity, ENTERED).enter(replace(ENTERED, title="Other", at=MAY_2), "Other notes.") == []
    assert given(Activity, ENTERED, DELETED).enter(ENTERED, "") == []


def test_an_entry_and_a_recording_do_not_take_each_others_place() -> None:
    with pytest.raises(RecordingDiffers):
        given(Activity, RUN).enter(ENTERED, "")
    for sha256 in (RUN.source.sha256, None):
        with pytest.raises(RecordingDiffers):
            given(Activity, ENTERED).require_room(ANNA, sha256)
        with pytest.raises(ActivityMissing):
            given(Activity, replace(RUN, user_id=BEN)).require_room(ANNA, sha256)
        for room in (Activity(), given(Activity, RUN), given(Activity, RUN, DELETED)):
            room.require_room(ANNA, sha256)
    with pytest.raises(RecordingDiffers):
        given(Activity, RUN).require_room(ANNA, "0" * 64)


def test_an_edit_carries_what_counted_before() -> None:
    [edited] = given(Activity, RUN).edit(ANNA, MAY_2, sport=Sport.HIKING)
    assert isinstance(edited, ActivityEdited)
    assert (edited.sport, edited.tally.sport) == (Sport.HIKING, Sport.RUNNING)
    assert (edited.title, edited.visibility) == (RUN.title, RUN.visibility)


def test_notes_are_written_changed_and_taken_away() -> None:
    written = given(Activity, RUN).edit(ANNA, MAY_2, notes="Rain.")
    changed = given(Activity, RUN, *written).edit(ANNA, MAY_2, notes="")
    assert [getattr(event, "notes", None) for event in [*written, *changed]] == ["Rain.", ""]


def test_an_edit_of_something_else_leaves_the_notes() -> None:
    noted = given(Activity, RUN, *given(Activity, RUN).edit(ANNA, MAY_2, notes="Rain."))
    [edited] = noted.edit(ANNA, MAY_2, title="Race")
    assert isinstance(edited, ActivityEdited)
    assert (edited.title, edited.notes) == ("Race", "Rain.")


def test_the_same_notes_again_change_nothing() -> None:
    noted = given(Activity, RUN, *given(Activity, RUN).edit(ANNA, MAY_2, notes="Rain."))
    assert noted.edit(ANNA, MAY_2, notes="Rain.") == given(Activity, RUN).edit(ANNA, MAY_2, notes="") == []


def test_after_a_change_of_sport_deleting_takes_the_new_sport_away() -> None:
    edited = given(Activity, RUN).edit(ANNA, MAY_2, sport=Sport.HIKING)
    [deleted] = given(Activity, RUN, *edited).delete(ANNA, MAY_2)
    assert isinstance(deleted, ActivityDeleted)
    assert deleted.tally == replace(RUN.tally, sport=Sport.HIKING)


def test_an_edit_to_what_is_so_changes_nothing() -> None:
    assert given(Activity, RUN).edit(ANNA, MAY_2, title=RUN.title, visibility=Visibility.PUBLIC) == []


@pytest.mark.parametrize("state", [Activity(), given(Activity, RUN, DELETED), given(Activity, run(BEN))])
def test_missing_deleted_and_foreign_activities_are_all_missing(state: Activity) -> None:
    with pytest.raises(ActivityMissing):
        state.edit(ANNA, MAY_2, title="mine", notes="mine")


def test_deleting_twice_changes_nothing() -> None:
    assert given(Activity, RUN).delete(ANNA, MAY_2) == [DELETED]
    assert given(Activity, RUN, DELETED).delete(ANNA, MAY_2) == []


@pytest.mark.parametrize("state", [given(Activity, RUN), given(Activity, RUN, DELETED)], ids=["there", "deleted"])
def test_nobody_deletes_anothers_activity(state: Activity) -> None:
    with pytest.raises(ActivityMissing):
        state.delete(BEN, MAY_2)


def test_sessions_of_a_file_always_get_the_same_ids() -> None:
    upload = ActivityId(RUN.activity_id)
    assert session_activity_id(upload, 1) == session_activity_id(upload, 1) != session_activity_id(upload, 0)


@pytest.mark.parametrize(
    ("title", "told"),
    [
        ("Morning run", "Run"),
        ("Evening Trail Run", "Trail Run"),
        ("lunch Mountain Bike Ride", "Mountain Bike Ride"),
        ("Running 6/1/26 7:12 am", "Running 6/1/26"),
        ("2026-06-01T05:12:00.250Z", "2026-06-01"),
        ("Mountain Biking 1.6.2026 19:12", "Mountain Biking 1.6.2026"),
        ("Berlin 26.09.2025 3:45:12", "Berlin 26.09.2025 3:45:12"),
        ("Racing 26.09.2025 3:45:12", "Racing 26.09.2025 3:45:12"),
        ("Race 1/2/26, 10.50 km", "Race 1/2/26, 10.50 km"),
        ("Morning with a run", "Morning with a run"),
        ("Night Run", "Run"),
        ("5 km in 24:30", "5 km in 24:30"),
        ("My Morning run", "My Morning run"),
        ("Evening", "Evening"),
    ],
)
def test_a_title_that_nobody_wrote_is_told_without_the_hour(title: str, told: str) -> None:
    assert without_hour(title) == told
