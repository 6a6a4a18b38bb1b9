"""What is found in exports of other services, and in zips that are none."""

import gzip
import json
import stat
import struct
import zipfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from domain.measures import Sport
from tests.exports import (
    GARMIN_PART,
    GARMIN_SUMMARIES,
    GERMAN_HEADER,
    LATER,
    STRAVA_HEADER,
    STRAVA_ROWS,
    garmin,
    garmin_summary,
    kept_by_a_watch,
    of_another_kind,
    runkeeper,
    strava,
    strava_row,
    table,
    zipped,
)
from tests.infra.formats.fit_bytes import define, fit_file, records
from tests.recordings import STARTED, TCX, fit, gpx
from tests.scenarios import ANNA, BEN
from tests.workers.cli.import_steps import found, taken
from workers.cli.importing import archives, entries
from workers.cli.importing.entries import Left, Remark, Told
from workers.cli.importing.journal import Journal
from workers.cli.importing.running import Read, steps
from workers.cli.importing.sources import items


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export.zip"


def test_strava_tells_titles_sports_and_descriptions(path: Path) -> None:
    seen = found(path, zipped(strava()))
    assert seen == {
        "activities/1.fit.gz": Told(
            title='Round the "park", twice', sport=Sport.RUNNING, notes="Rain,\nand new shoes."
        ),
        "activities/2.gpx": Told(title="To the lake", sport=Sport.HIKING),
        "activities.csv, record 4": "skipped: manual entry: no recording in the export",
        "activities/4.tcx.gz": Told(
            title="On a kite", remarks=("sport 'Kite Boarding' is not known: the recording's own counts",)
        ),
        "activities/5.fit.gz": "skipped: activities.csv names it, and it is not in the export",
        "activities/9.fit": Told(remarks=("activities.csv does not name it: no title, no notes",)),
    }


def test_packed_files_of_an_export_are_unpacked(path: Path) -> None:
    path.write_bytes(zipped(strava()))
    bodies = {step.file.rpartition("/")[2]: step.body for step in taken(path) if isinstance(step, Read)}
    assert bodies["1.fit.gz"] == fit(1)
    assert bodies["2.gpx"] == gpx(2, started_at=LATER)


def test_an_export_may_be_in_a_folder_of_its_own(path: Path) -> None:
    seen = found(path, zipped(strava(), folder="export_123/"))
    assert seen["export_123/activities/2.gpx"] == Told(title="To the lake", sport=Sport.HIKING)


def test_a_header_in_another_language_is_read_by_its_places_and_that_is_said(path: Path) -> None:
    rows = [*STRAVA_ROWS[:1], strava_row(2, "Zum See", "Wanderung", "activities/2.gpx")]
    seen = found(path, zipped(strava(rows, GERMAN_HEADER)))
    assert "not in English" in str(seen[""])
    assert seen["activities/1.fit.gz"] == Told(
        title='Round the "park", twice', sport=Sport.RUNNING, notes="Rain,\nand new shoes."
    )
    assert seen["activities/2.gpx"] == Told(
        title="Zum See", remarks=("sport 'Wanderung' is not known: the recording's own counts",)
    )


def test_a_header_of_2018_is_known_too(path: Path) -> None:
    header = "id,date,name,type,description,elapsed_time,distance,commute,gear,filename"
    files = {**strava(), "activities.csv": table(header, [{2: "Early", 3: "Ride", 9: "activities/2.gpx"}])}
    assert found(path, zipped(files))["activities/2.gpx"] == Told(title="Early", sport=Sport.CYCLING)


def test_a_table_that_cannot_be_read_leaves_the_files(path: Path) -> None:
    seen = found(path, zipped({**strava(), "activities.csv": b'"' + b"x" * 140_000 + b'"'}))
    assert "is no CSV" in str(seen["activities.csv"])
    assert isinstance(seen["activities/2.gpx"], Told)


def test_what_the_server_would_refuse_is_cut(path: Path) -> None:
    rows = [strava_row(1, "t" * 300 + "\0", "Run", "activities/2.gpx", "n" * 5_001)]
    words = found(path, zipped(strava(rows, STRAVA_HEADER)))["activities/2.gpx"]
    assert isinstance(words, Told)
    assert (words.title, words.notes) == ("t" * 200, "n" * 5_000)
    assert words.remarks == ("notes cut to 5,000 characters",)


def test_runkeeper_tells_sports_and_notes_and_what_has_no_recording(path: Path) -> None:
    assert found(path, zipped(runkeeper())) == {
        "1.gpx": Told(title="Canal", sport=Sport.CYCLING, notes='Easy, with "strides"'),
        "cardioActivities.csv, record 3 (2026-05-02 09:00:00)": "skipped: manual entry: no recording in the export",
        "gone.gpx": "skipped: cardioActivities.csv names it, and it is not in the export",
    }


def test_garmins_uploads_get_what_the_summaries_say_by_their_time_or_their_number(path: Path) -> None:
    part = "UploadedFiles_0-_Part1.zip/anna@example.com"
    assert found(path, zipped(garmin())) == {
        f"{part}_111111111111.fit": Told(title="Berlin Trail", sport=Sport.RUNNING, notes="Mud."),
        f"{part}_20000000002.fit": Told(title="Berlin Gravel", sport=Sport.CYCLING),
        f"{part}_111111111113.fit": Told(remarks=("no summary of it in the export: no title, no notes",)),
        "other": None,
    }


def test_of_several_summaries_with_one_begin_the_whole_comes_before_its_parts(path: Path) -> None:
    whole = garmin_summary(1, "Triathlon", "multi_sport", STARTED)
    part = garmin_summary(2, "Swim", "open_water_swimming", STARTED)
    for order in ([whole, part], [part, whole]):
        summaries = json.dumps([{"summarizedActivitiesExport": order}]).encode()
        files = {GARMIN_SUMMARIES: summaries, GARMIN_PART: zipped({"a_999999.fit": fit(1)})}
        path.with_name("journal").unlink(missing_ok=True)
        assert [*found(path, zipped(files)).values()] == [Told(title="Triathlon")]


@pytest.mark.parametrize("late", [timedelta(seconds=4), timedelta(seconds=-4)])
def test_begins_that_differ_by_a_few_seconds_are_one(path: Path, late: timedelta) -> None:
    one = garmin_summary(1, "Near", "running", STARTED + late)
    far = garmin_summary(2, "Far", "running", STARTED + 2 * late)
    summaries = json.dumps([{"summarizedActivitiesExport": [far, one]}]).encode()
    uploads = zipped({"a_999991.fit": fit(1), "a_999992.gpx": gpx(2)})
    seen = found(path, zipped({GARMIN_SUMMARIES: summaries, GARMIN_PART: uploads}))
    assert [words.title for words in seen.values() if isinstance(words, Told)] == ["Near", "Near"]


def test_a_tcx_file_is_joined_by_its_id(path: Path) -> None:
    begin = datetime(2026, 5, 2, 6, tzinfo=UTC)
    summaries = json.dumps(
        [{"summarizedActivitiesExport": [garmin_summary(1, "Tread", "treadmill_running", begin, activityId="inf")]}]
    ).encode()
    timeless = gpx(2).replace(b"<time>", b"<time>at ")
    files = zipped({"a_999999.tcx": TCX, "a_999998.gpx": timeless})
    seen = [*found(path, zipped({GARMIN_SUMMARIES: summaries, GARMIN_PART: files})).values()]
    assert seen[0] == Told(title="Tread", sport=Sport.RUNNING)
    assert isinstance(seen[1], Told)
    assert "no summary" in seen[1].remarks[0]


@pytest.mark.parametrize("text", [b"[", b'{"a": 1}', b"[[1]]", b"\xff"])
def test_summaries_that_are_none_leave_the_files(path: Path, text: bytes) -> None:
    seen = found(path, zipped({GARMIN_SUMMARIES: text, GARMIN_PART: zipped({"a_999999.fit": fit(1)})}))
    assert "without titles and notes" in str(seen[GARMIN_SUMMARIES])
    assert isinstance(seen["UploadedFiles_0-_Part1.zip/a_999999.fit"], Told)


def test_summaries_of_a_heavy_user_are_read_too(path: Path) -> None:
    files = garmin()
    files[GARMIN_SUMMARIES] = b" " * (70 * 1024 * 1024) + files[GARMIN_SUMMARIES]
    assert any(
        isinstance(words, Told) and words.title == "Berlin Trail" for words in found(path, zipped(files)).values()
    )


def test_numbers_as_text_and_types_as_objects_are_read_too(path: Path) -> None:
    one = garmin_summary(1, "Odd", "", STARTED, activityId="20000000001", activityType={"typeKey": "running"})
    summaries = json.dumps([{"summarizedActivitiesExport": [one, {"activityId": "none", "name": 5}]}]).encode()
    seen = found(path, zipped({GARMIN_SUMMARIES: summaries, GARMIN_PART: zipped({"a_20000000001.fit": fit(1)})}))
    assert [*seen.values()] == [Told(title="Odd", sport=Sport.RUNNING)]


def test_a_zip_in_garmins_zip_is_opened_and_one_within_that_is_not(path: Path) -> None:
    inner = zipped({"a_999999.fit": fit(1), "deeper.zip": zipped({"b_999998.fit": fit(2)})})
    seen = found(path, zipped({GARMIN_PART: inner}))
    told = "not opened: a zip in a zip of uploads: unpack it, and import it by itself"
    assert seen["UploadedFiles_0-_Part1.zip/deeper.zip"] == told
    assert isinstance(seen["UploadedFiles_0-_Part1.zip/a_999999.fit"], Told)
    part = str(found(path, zipped({GARMIN_PART: b"no zip"}))[GARMIN_PART])
    assert part.startswith("not opened: damaged, or no zip")


@pytest.mark.parametrize(
    "folder", ["DI_CONNECT/DI-Connect-Fitness-Uploaded-Files", "DI-Connect/DI-Connect-Uploaded-Files", "DI_CONNECT"]
)
def test_garmins_uploads_are_known_in_whatever_folder_they_are(path: Path, folder: str) -> None:
    uploads = zipped({"a_999999.fit": fit(1), "b.txt": gpx(2), "c.txt": TCX, "d.txt": b"a text"})
    seen = found(path, zipped({f"{folder}/UploadedFiles_0-_Part1.zip": uploads}))
    kept = [name.rpartition("/")[2] for name, told in seen.items() if isinstance(told, Told)]
    assert (kept, "other" in seen) == (["a_999999.fit", "b.txt", "c.txt"], True)


def test_the_folder_of_a_watch_has_more_than_activities(path: Path) -> None:
    watch = {
        "Activities/1.fit": fit(1),
        "Courses/2.fit": of_another_kind(fit(2), 6),  # with a session: somebody ran it
        "Courses/3.fit": fit_file(define(0, 0, [(0, 0x00)]) + b"\0\6", records(5)),
        "Monitor/4.fit": kept_by_a_watch(32),
        "Settings/5.fit": kept_by_a_watch(2),
    }
    assert found(path, zipped(watch)) == {
        "Activities/1.fit": Told(),
        "Courses/2.fit": Told(),
        "Courses/3.fit": "skipped: no activity: a course",
        "Monitor/4.fit": "skipped: no activity: monitoring",
        "Settings/5.fit": "skipped: no activity: settings",
    }


def test_files_are_packed_or_not_by_their_bytes(path: Path) -> None:
    path.write_bytes(zipped({"a.tcx.gz": TCX, "b.fit": gzip.compress(fit(1))}))
    assert [step.body for step in taken(path) if isinstance(step, Read)] == [TCX, fit(1)]


def test_what_macos_puts_beside_files_is_left_out(path: Path) -> None:
    of_macos = b"\0\5\x16\7\0\2\0\0Mac OS X"
    files = {"a.fit": fit(1), "._a.fit": of_macos, "__MACOSX/._a.fit": of_macos, f"__MACOSX/{GARMIN_PART}": of_macos}
    assert found(path, zipped(files)) == {"a.fit": Told()}


def test_a_zip_of_something_else_is_a_folder_of_recordings(path: Path) -> None:
    files = {"a.fit": fit(1), "2026/b.gpx.gz": gzip.compress(gpx(2)), "c.txt": b"", "d.zip": zipped({"e.fit": fit(3)})}
    assert found(path, zipped(files)) == {
        "a.fit": Told(),
        "2026/b.gpx.gz": Told(),
        "c.txt": "skipped: no .fit, .gpx, .tcx or .json file",
        "d.zip": "not opened: a zip in a zip, and no export of Garmin's: unpack it, and import it by itself",
    }


def with_entry(name: str, body: bytes = b"x", **fields: int) -> bytes:
    """A zip with a good recording and one more entry."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("good.fit", fit(1))
        info = zipfile.ZipInfo(name)
        info.compress_type = zipfile.ZIP_DEFLATED
        for field, value in fields.items():
            setattr(info, field, value)
        archive.writestr(info, body)
    return made.getvalue()


def encrypted(body: bytes) -> bytes:
    """The zip, its last entry marked as encrypted."""
    at = body.rindex(b"PK\1\2")
    return body[: at + 8] + b"\1\0" + body[at + 10 :]


@pytest.mark.parametrize(
    ("body", "name", "why"),
    [
        (with_entry("../up.fit"), "../up.fit", "leads out"),
        (with_entry("/etc/up.fit"), "/etc/up.fit", "leads out"),
        (with_entry("a\\..\\up.fit"), "a\\..\\up.fit", "leads out"),
        (with_entry("C:/up.fit"), "C:/up.fit", "leads out"),
        (with_entry("link.fit", external_attr=(stat.S_IFLNK | 0o777) << 16), "link.fit", "a link"),
        (with_entry("lzma.fit", compress_type=zipfile.ZIP_LZMA), "lzma.fit", "packed in a way"),
        (encrypted(with_entry("secret.fit")), "secret.fit", "encrypted"),
    ],
    ids=["up", "absolute", "backslash", "drive", "link", "lzma", "encrypted"],
)
def test_an_entry_that_no_export_has_is_refused_and_the_others_go_on(
    path: Path, body: bytes, name: str, why: str
) -> None:
    seen = found(path, body)
    assert why in str(seen[name])
    assert seen["good.fit"] == Told()
    assert {*path.parent.iterdir()} == {path, path.with_name("journal")}


def test_names_are_shown_and_never_obeyed(path: Path) -> None:
    names = (".", "\x1b[2J.fit", "con:.fit")
    seen = {name: found(path, with_entry(name)) for name in names}
    assert [len(one) for one in seen.values()] == [2] * 3
    assert "\ufffd[2J.fit" in seen["\x1b[2J.fit"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_entries_with_one_name_the_first_counts(path: Path) -> None:
    body = with_entry("good.fit", fit(2))
    path.write_bytes(body)
    sent = [step for step in taken(path) if isinstance(step, Read)]
    assert [step.body for step in sent] == [fit(1)]


def test_what_inflates_to_too_much_is_not_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = len(fit(1))
    for module in ("entries", "tables"):
        monkeypatch.setattr(f"workers.cli.importing.{module}.MAX_BYTES", limit)
    packed = gzip.compress(bytes(limit + 1))
    lying = with_entry("lies.fit", bytes(limit + 1)).replace(struct.pack("<I", limit + 1), struct.pack("<I", 9))
    assert "larger than" in str(found(path, with_entry("bomb.fit", bytes(limit + 1)))["bomb.fit"])
    assert "larger than" in str(found(path, with_entry("bomb.fit.gz", packed))["bomb.fit.gz"])
    assert "damaged" in str(found(path, lying)["lies.fit"])


def test_an_archive_that_inflates_to_too_much_in_all_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_INFLATED", len(fit(1)))
    assert "this is no export" in str(found(path, with_entry("more.fit"))["more.fit"])


def test_an_archive_of_too_many_entries_is_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MAX_ENTRIES", 1)
    assert "more than 1 entries" in str(found(path, with_entry("more.fit"))[str(path)])
    monkeypatch.setattr(archives, "_MAX_DIRECTORY", 20)
    assert "more than 1 entries" in str(found(path, with_entry("more.fit"))[str(path)])


def test_a_damaged_entry_is_named_and_the_others_go_on(path: Path) -> None:
    made = bytearray(with_entry("bad.fit", fit(2)))
    at = made.index(b"bad.fit") + 200
    made[at : at + 20] = bytes(20)
    seen = found(path, bytes(made))
    assert "damaged" in str(seen["bad.fit"])
    assert seen["good.fit"] == Told()


def test_what_is_called_a_zip_and_is_none_is_said_to_be_none(path: Path) -> None:
    for body in (b"", b"no zip", zipped(strava())[:-40]):
        assert "no zip" in str(found(path, body)[str(path)])


def test_what_the_journal_knows_is_not_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(zipped(garmin()))
    journal = Journal.open(path.with_name("journal"), ANNA)
    keys = {step.file: step.key for step in steps(items([path], lambda _more: None), journal) if isinstance(step, Read)}
    for key in keys.values():
        journal.add(key, {"verdict": "imported", "activities": [{"activity_id": "an id", "sport": "running"}]})
    journal.close()
    monkeypatch.setattr(entries, "MAX_BYTES", 0)
    monkeypatch.setattr("workers.cli.importing.garmin.MAX_BYTES", 0)
    again = taken(path)
    assert [step for step in again if step is None] == [None] * 2  # what is no activity is known as well
    rows = [step for step in again if isinstance(step, dict)]
    assert {row["file"] for row in rows} == keys.keys()
    assert {row["verdict"] for row in rows} == {"already there"}
    assert {seen["activity_id"] for row in rows for seen in row["activities"]} == {"an id"}


def test_a_line_that_was_cut_off_is_no_line(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", ANNA)
    for key in ("a", "b"):
        journal.add(key, {"verdict": "imported"})
    journal.close()
    with (tmp_path / "journal").open("r+") as file:
        file.truncate(len(file.read()) - 5)
    again = Journal.open(tmp_path / "journal", ANNA)
    assert (again.row("a") is None, again.row("b") is None) == (False, True)
    again.add("c", {"verdict": "failed", "note": "no points"})
    again.close()
    last = Journal.open(tmp_path / "journal", ANNA)
    assert [(last.row(key) or {}).get("verdict") for key in "abc"] == ["imported", None, "failed"]
    last.close()


def test_a_journal_is_each_accounts_own(tmp_path: Path) -> None:
    journal = Journal.open(tmp_path / "journal", ANNA)
    journal.add("a", {"verdict": "imported"})
    journal.close()
    other = Journal.open(tmp_path / "journal", BEN)
    assert other.row("a") is None
    other.close()


def test_how_much_is_to_come_is_told(path: Path) -> None:
    for body in (zipped(strava()), zipped(runkeeper()), zipped(garmin()), with_entry("../up.fit")):
        path.write_bytes(body)
        told: list[int] = []
        made = [item for item in items([path], told.append) if not isinstance(item, Remark)]
        assert sum(told) == len(made)
        assert not any(isinstance(item, Left) and item.file == str(path) for item in made)


def test_what_a_watch_recorded_is_an_activity_in_garmins_zip_as_in_any(path: Path) -> None:
    files = {
        "a_1.fit": of_another_kind(fit(1), 49),
        "a_2.fit": fit(2)[:40],
        "a_3.fit": b"no fit at all",
        "a_4.fit": of_another_kind(fit(4), None),
        "a_5.fit": fit_file(define(0, 0, [(4, 0x86)]) + b"\0\0\0\0\x40", records(5)),
        "a_6.fit": kept_by_a_watch(32),
        "a_7.fit": kept_by_a_watch(68),
    }
    seen = found(path, zipped({GARMIN_PART: zipped(files)}))
    brought = {f"a_{number}.fit" for number in range(1, 6)}
    assert {name.rpartition("/")[2] for name in seen} == brought | {"other"}
    path.with_name("journal").unlink()
    seen = found(path, zipped(files))
    assert {name for name, told in seen.items() if told == Told()} == brought
    assert (seen["a_6.fit"], seen["a_7.fit"]) == (
        "skipped: no activity: monitoring",
        "skipped: no activity: kind 68",
    )
