"""Exports of other services, as far as we read them: laid out as theirs are."""

import csv
import gzip
import json
import zipfile
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from io import BytesIO, StringIO
from typing import Final

from tests.infra.formats.fit_bytes import define, fit_file
from tests.recordings import STARTED, TCX, fit, gpx

STRAVA_HEADER: Final = (
    "Activity ID,Activity Date,Activity Name,Activity Type,Activity Description,Elapsed Time,Distance,Max Heart Rate,"
    "Relative Effort,Commute,Activity Private Note,Activity Gear,Filename,Athlete Weight,Bike Weight,Elapsed Time,"
    "Moving Time,Distance,Media"
)
GERMAN_HEADER: Final = (
    "Aktivitäts-ID,Aktivitätsdatum,Name der Aktivität,Aktivitätsart,Aktivitätsbeschreibung,Verstrichene Zeit,Distanz,"
    "Max. Herzfrequenz,Relative Leistung,Pendeln,Hinweis zur Privatsphäre für Aktivitäten,Aktivitätsausrüstung,"
    "Dateiname,Sportlergewicht,Fahrradgewicht,Verstrichene Zeit,Bewegungszeit,Distanz,Medien"
)
RUNKEEPER_HEADER: Final = (
    "Activity Id,Date,Type,Route Name,Distance (km),Duration,Average Pace,Average Speed (km/h),Calories Burned,"
    "Climb (m),Average Heart Rate (bpm),Friend's Tagged,Notes,GPX File"
)
GARMIN_PART: Final = "DI_CONNECT/DI-Connect-Uploaded-Files/UploadedFiles_0-_Part1.zip"
GARMIN_SUMMARIES: Final = "DI_CONNECT/DI-Connect-Fitness/anna_0_summarizedActivities.json"
LATER: Final = STARTED + timedelta(days=1)


def zipped(files: Mapping[str, bytes], folder: str = "") -> bytes:
    """A zip of these files."""
    made = BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in files.items():
            archive.writestr(folder + name, body)
    return made.getvalue()


def table(header: str, rows: Iterable[Mapping[int, str]]) -> bytes:
    """A CSV file; rows by the places of their cells."""
    made = StringIO(newline="")
    made.write(f"{header}\r\n")
    csv.writer(made).writerows([row.get(place, "") for place in range(header.count(",") + 1)] for row in rows)
    return made.getvalue().encode()


def strava_row(number: int, title: str, kind: str, file: str, notes: str = "") -> Mapping[int, str]:
    """A row of activities.csv."""
    date = "May 1, 2026, 7:00:00 AM"
    return {0: str(number), 1: date, 2: title, 3: kind, 4: notes, 6: "3.0", 10: "only for me", 12: file, 17: "3000.0"}


STRAVA_ROWS: Final = (
    strava_row(1, 'Round the "park", twice', "Trail Run", "activities/1.fit.gz", "Rain,\nand new shoes."),
    strava_row(2, "To the lake", "Hike", "activities/2.gpx"),
    strava_row(3, "Lanes", "Swim", ""),
    strava_row(4, "On a kite", "Kite Boarding", "activities/4.tcx.gz"),
    strava_row(5, "Lost", "Run", "activities/5.fit.gz"),
)


def strava(rows: Iterable[Mapping[int, str]] = STRAVA_ROWS, header: str = STRAVA_HEADER) -> dict[str, bytes]:
    """Its files."""
    return {
        "activities.csv": table(header, rows),
        "profile.csv": b"Athlete ID",
        "media/1.jpg": b"a picture",
        "activities/1.fit.gz": gzip.compress(fit(1)),
        "activities/2.gpx": gpx(2, started_at=LATER),
        "activities/4.tcx.gz": gzip.compress(TCX),
        "activities/9.fit": fit(9),
    }


def runkeeper() -> dict[str, bytes]:
    """Its files."""
    rows = (
        {0: "a1", 1: "2026-05-01 09:00:00", 2: "Cycling", 3: "Canal", 12: 'Easy, with "strides"', 13: "1.gpx"},
        {0: "a2", 1: "2026-05-02 09:00:00", 2: "Strength Training", 12: "Gym"},
        {0: "a3", 1: "2026-05-03 09:00:00", 2: "Running", 13: "gone.gpx"},
    )
    return {
        "cardioActivities.csv": table(RUNKEEPER_HEADER, rows),
        "1.gpx": gpx(11).replace(b"<type>running</type>", b""),
        "measurements.csv": b"Date,Weight",
    }


def of_another_kind(body: bytes, kind: int | None = 32) -> bytes:
    """The FIT file of a recording, as if by its own word it were none: 32 is monitoring. None: it does not say."""
    at = 14 + 6 + 3 * 4 + 1  # behind the header, the file id's definition and its record header
    assert body[at] == 4
    return body[:at] + bytes([0xFF if kind is None else kind]) + body[at + 1 :]


def kept_by_a_watch(kind: int = 32) -> bytes:
    """A FIT file that holds no recording, of this kind: 32 is monitoring."""
    return fit_file(define(0, 0, [(0, 0x00)]) + bytes([0, kind]))


def garmin_summary(number: int, name: str, kind: str, begin: datetime, **more: object) -> Mapping[str, object]:
    """What the export says of an activity."""
    milliseconds = begin.timestamp() * 1000
    return {
        "activityId": number,
        "name": name,
        "activityType": kind,
        "sportType": "RUNNING",
        "beginTimestamp": milliseconds,
        "startTimeGmt": milliseconds,
        "splits": [{"type": 17}],
        **more,
    }


def garmin() -> dict[str, bytes]:
    """Its files: an activity that the time joins to its summary, one that its number does, and one of no summary."""
    summaries = [
        garmin_summary(20_000_000_001, "Berlin Trail", "trail_running", STARTED, description="Mud."),
        garmin_summary(20_000_000_002, "Berlin Gravel", "gravel_cycling", LATER + timedelta(hours=5)),
    ]
    part = {
        "anna@example.com_111111111111.fit": fit(21),
        "anna@example.com_20000000002.fit": fit(22, started_at=LATER),
        "anna@example.com_111111111113.fit": fit(23, started_at=LATER + timedelta(days=1)),
        "anna@example.com_111111111114.fit": kept_by_a_watch(),
        "anna@example.com_111111111115.txt": b"a text",
    }
    return {
        GARMIN_SUMMARIES: json.dumps([{"summarizedActivitiesExport": summaries}]).encode(),
        "DI_CONNECT/DI-Connect-Wellness/2026_sleepData.json": b"[]",
        GARMIN_PART: zipped(part),
    }
