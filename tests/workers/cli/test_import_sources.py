"""Exports among other files: added to, unpacked, and on disks that cannot all be read."""

import gzip
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from domain.measures import Sport
from tests.exports import (
    GARMIN_PART,
    GARMIN_SUMMARIES,
    garmin,
    garmin_summary,
    kept_by_a_watch,
    runkeeper,
    strava,
    zipped,
)
from tests.recordings import STARTED, TCX, fit, gpx
from tests.workers.cli.import_steps import found, found_in, taken
from workers.cli.importing.entries import Told
from workers.cli.importing.running import Read
from workers.cli.importing.sources import items

TITLED = Told(title="To the lake", sport=Sport.HIKING)
PLAN = re.sub(b"<time>[^<]*</time>", b"", gpx(1))
PLANNED = "skipped: no times: a planned route, nobody ran it"
ZIP_IN_ZIP = "not opened: a zip in a zip, and no export of Garmin's: unpack it, and import it by itself"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "export"


@pytest.fixture
def archive(path: Path) -> Path:
    return path.with_suffix(".zip")


def below(folder: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": body for name, body in files.items()}


def unpacked(path: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files."""
    for name, body in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(body)
    return path


def test_what_was_added_to_a_zip_of_exports_is_brought_too(archive: Path) -> None:
    mixed = {
        **below("backup/anna", strava()),
        **below("backup/old", strava()),
        **below("backup/keeper", runkeeper()),
        **below("backup/garmin", garmin()),
        "backup/watch/2024.gpx": gpx(30),
        "backup/polar/x.tcx": TCX.replace(b"06:", b"07:"),
        "backup/polar/export.zip": zipped({"a.fit": fit(3)}),
        "backup/anna/routes/1.gpx": gpx(31),
        "backup/anna/routes/2.gpx": PLAN,
        "backup/notes.txt": b"mine",
    }
    seen = found(archive, zipped(mixed))
    assert {name: seen[f"backup/{name}"] for name in ("watch/2024.gpx", "polar/x.tcx", "anna/routes/1.gpx")} == {
        "watch/2024.gpx": Told(),
        "polar/x.tcx": Told(),
        "anna/routes/1.gpx": Told(),
    }
    assert seen["backup/polar/export.zip"] == ZIP_IN_ZIP
    assert seen["backup/anna/routes/2.gpx"] == PLANNED
    assert seen["backup/notes.txt"] == "skipped: no .fit, .gpx, .tcx or .json file"
    assert seen["backup/anna/activities/2.gpx"] == TITLED
    assert "the same bytes" in str(seen["backup/old/activities/2.gpx"])
    assert seen["backup/old/activities.csv, record 4"] == "skipped: manual entry: no recording in the export"
    assert isinstance(seen["backup/keeper/1.gpx"], Told)
    assert not any("media" in name or "Wellness" in name for name in seen)


def test_what_was_added_to_garmins_zip_is_brought_too(archive: Path) -> None:
    more = {"strava/loose.gpx": gpx(30), "strava/export.zip": zipped(strava()), "customer.json": b"{}"}
    seen = found(archive, zipped({**garmin(), **more}))
    assert (seen["strava/loose.gpx"], seen["strava/export.zip"]) == (Told(), ZIP_IN_ZIP)
    assert "customer.json" not in seen


@pytest.mark.parametrize("name", ["2.gpx", "sub/2.gpx"])
def test_what_was_added_to_runkeepers_zip_is_brought_too(archive: Path, name: str) -> None:
    seen = found(archive, zipped({**runkeeper(), name: gpx(30), "a.zip": zipped({})}))
    assert isinstance(seen[name], Told)
    assert seen["a.zip"] == ZIP_IN_ZIP


def test_another_table_that_is_called_as_stravas_is_no_export(archive: Path) -> None:
    seen = found(archive, zipped({"activities.csv": b"day,sport\n1,run\n", "a.fit": fit(1)}))
    assert seen == {"a.fit": Told(), "activities.csv": "skipped: no .fit, .gpx, .tcx or .json file"}


@pytest.mark.parametrize("files", [strava(), runkeeper(), garmin()], ids=["strava", "runkeeper", "garmin"])
@pytest.mark.parametrize("folder", ["", "Downloads/export_123/"])
def test_an_export_that_was_unpacked_tells_what_its_zip_does(
    path: Path, archive: Path, files: Mapping[str, bytes], folder: str
) -> None:
    zipped_up = found(archive, zipped(files))
    path.with_name("journal").unlink()
    top = unpacked(path, {folder + name: body for name, body in files.items()})
    seen = {_short(name.removeprefix(folder)): told for name, told in found_in(top).items()}
    assert seen == {_short(name): told for name, told in zipped_up.items()}


def _short(name: str) -> str:
    """Without the path, which says of a zip in a zip only its name, and of what is missing all of it."""
    return name.rpartition("/")[2]


def test_an_export_and_its_zip_have_the_same_bytes(path: Path) -> None:
    unpacked(path / "export", strava())
    (path / "export.zip").write_bytes(zipped(strava()))
    steps = taken(path)
    assert len([step for step in steps if isinstance(step, Read)]) == 4
    rows = [step for step in steps if isinstance(step, dict)]
    assert [row["verdict"] for row in rows].count("duplicate") == 4


def test_an_export_whose_files_were_unpacked_as_well_is_one(path: Path) -> None:
    packed = strava()
    files = {name.removesuffix(".gz"): gzip.decompress(body) for name, body in packed.items() if name.endswith(".gz")}
    files |= {name: body for name, body in packed.items() if not name.endswith(".gz")}
    words = found_in(unpacked(path, files))["activities/1.fit"]
    assert isinstance(words, Told)
    assert words.title == 'Round the "park", twice'


def test_garmins_zips_of_uploads_may_be_unpacked_too(path: Path) -> None:
    files = garmin()
    uploads = {
        "a_111111111111.fit": fit(21),
        "a_111111111114.fit": kept_by_a_watch(),
    }
    del files[GARMIN_PART]
    seen = found_in(unpacked(path, {**files, **below(GARMIN_PART.removesuffix(".zip"), uploads)}))
    assert [*seen.values()] == [Told(title="Berlin Trail", sport=Sport.RUNNING, notes="Mud."), None]


def test_an_export_is_known_by_what_is_beside_what_was_named(path: Path) -> None:
    top = unpacked(path, strava())
    assert found_in(top / "activities", top / "activities.csv")["2.gpx"] == TITLED
    home = unpacked(path.with_name("garmin"), garmin()) / "DI_CONNECT"
    assert None in found_in(home).values()


def test_a_folder_of_recordings_is_brought_in_the_order_of_its_names(path: Path) -> None:
    files = {"b.fit": fit(1), "a/c.gpx": gpx(2), "a/._c.gpx": b"", "__MACOSX/d.fit": b"", "e.txt": b""}
    assert found_in(unpacked(path, files)) == {
        "a/c.gpx": Told(),
        "b.fit": Told(),
        "e.txt": "skipped: no .fit, .gpx, .tcx or .json file",
    }


def test_json_kept_by_a_watch_stays_where_it_is(path: Path) -> None:
    points = b'{"sport": "running", "started_at": "2026-05-01T07:00:00Z", "points": {"t": [0, 1]}}'
    other = (
        b'{"from": "ben@example.com"}',
        b'[{"points": 1, "started_at": 2}]',
        b'{"a": {"points": 1, "started_at": 2}}',
        b"",
        b"x",
    )
    files = {f"{number}.json": body for number, body in enumerate(other)}
    files |= {"run.json": points, "packed.json.gz": gzip.compress(points + b" "), "cut.JSON": points[:-5]}
    seen = found_in(unpacked(path, files))
    assert {name for name, told in seen.items() if told == Told()} == {"run.json", "packed.json.gz", "cut.JSON"}
    assert {seen[f"{number}.json"] for number in range(len(other))} == {"skipped: no recording: JSON of another kind"}


def test_a_planned_route_is_no_activity_packed_or_not(path: Path) -> None:
    dated = PLAN.replace(b"<trk>", b"<metadata><time>2026-05-01T07:00:00Z</time></metadata><trk>", 1)
    files = {"plan.gpx": PLAN, "dated.gpx.gz": gzip.compress(dated), "run.gpx": gpx(1), "run.tcx": TCX}
    assert found_in(unpacked(path, files)) == {
        "dated.gpx.gz": PLANNED,
        "plan.gpx": PLANNED,
        "run.gpx": Told(),
        "run.tcx": Told(),
    }


SUMMARIES = json.dumps(
    [{"summarizedActivitiesExport": [garmin_summary(111111111111, "Berlin Trail", "trail_running", STARTED)]}]
).encode()


@pytest.mark.parametrize(
    ("files", "named", "other"),
    [
        ({**strava(), "activities/2.gpx": PLAN, "activities/9.gpx": PLAN}, "2.gpx", "9.gpx"),
        ({**runkeeper(), "1.gpx": PLAN, "2.gpx": PLAN}, "1.gpx", "2.gpx"),
        (
            {GARMIN_SUMMARIES: SUMMARIES, GARMIN_PART: zipped({"a_111111111111.gpx": PLAN, "a_222222.gpx": PLAN})},
            "a_111111111111.gpx",
            "a_222222.gpx",
        ),
    ],
    ids=["strava", "runkeeper", "garmin"],
)
def test_what_an_export_names_as_an_activity_is_no_plan_without_times_either(
    archive: Path, files: Mapping[str, bytes], named: str, other: str
) -> None:
    seen = {_short(name): told for name, told in found(archive, zipped(files)).items()}
    assert isinstance(seen[named], Told)
    assert seen[other] == PLANNED


def test_a_folder_that_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = unpacked(path, {"closed/a.fit": fit(1), "b.fit": fit(2)}) / "closed"
    scandir = os.scandir

    def refusing(folder: str) -> object:
        if folder == str(closed):
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert found_in(path) == {
        "closed": "not opened: the folder cannot be read: Permission denied",
        "b.fit": Told(),
    }


def test_a_file_that_cannot_be_read_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked(path, {"a.fit": fit(1), "b.zip": zipped({})})
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    told = "not opened: the file cannot be read: Permission denied"
    assert found_in(path) == {"a.fit": told, "b.zip": told}


def test_a_folder_that_may_be_listed_and_no_more_has_its_files_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = unpacked(path, {"closed/a.fit": fit(1), "closed/more/b.fit": fit(2), "c.fit": fit(3)}) / "closed"
    stat, scandir = os.stat, os.scandir

    def refuse(what: object) -> None:
        if closed in Path(str(what)).parents:
            raise PermissionError(13, "Permission denied", str(what))

    def refusing_stat(what: str, **more: bool) -> object:
        refuse(what)
        return stat(what, **more)

    def refusing_scandir(what: str) -> object:
        refuse(what)
        return scandir(what)

    monkeypatch.setattr(os, "stat", refusing_stat)
    monkeypatch.setattr(os, "scandir", refusing_scandir)
    assert found_in(path) == {
        "closed/more": "not opened: the folder cannot be read: Permission denied",
        "closed/a.fit": "not opened: the file cannot be read: Permission denied",
        "c.fit": Told(),
    }


def test_links_are_followed_to_what_they_lead_to_and_in_no_circles(path: Path) -> None:
    elsewhere = unpacked(path.with_name("elsewhere"), {"a.fit": fit(1)})
    unpacked(path, {"2026/b.fit": fit(2)})
    for name, target in {
        "more": elsewhere,
        "again": path / "2026",
        "2026/up": path,
        "gone.fit": path / "nowhere",
        "self": path / "self",
    }.items():
        (path / name).symlink_to(target)
    (elsewhere / "back").symlink_to(path)
    assert found_in(path) == {
        "2026/b.fit": Told(),
        "2026/up": "skipped: a link to a folder that it is in itself",
        "gone.fit": "not opened: a link, and what it leads to cannot be read: No such file or directory",
        "more/a.fit": Told(),
        "self": "not opened: a link, and what it leads to cannot be read: Too many levels of symbolic links",
    }


def test_what_is_no_file_is_named_and_not_opened(path: Path) -> None:
    unpacked(path, {"a.fit": fit(1)})
    os.mkfifo(path / "x.gpx")
    os.mkfifo(path / "x.zip")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path / "s"))
        seen = found_in(path)
    told = "skipped: no file: a pipe, a socket or a device"
    assert seen == {"a.fit": Told(), "s": told, "x.gpx": told, "x.zip": told}
    assert found_in(path / "x.gpx") == {str(path / "x.gpx"): told}


def test_how_much_is_to_come_is_told_of_folders_too(path: Path) -> None:
    top = unpacked(path, {**strava(), **garmin(), "more/a.zip": zipped(runkeeper()), "more/b.zip": b"none"})
    (top / "gone").symlink_to("nowhere")
    told: list[int] = []
    assert len(list(items([top], told.append))) == sum(told)
