"""Recordings for `cairn bench tracks`: those of a folder, else some that nobody ran."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from msgspec import Struct

from domain.recordings.recording import Column, FloatColumn, UnreadableRecording
from infra.faults import Fault
from infra.formats import parse
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from workers.simulation import simulate_run


class Recording(Struct, frozen=True):
    """A file, and the columns of each of its sessions that have points."""

    body: bytes
    tracks: tuple[Mapping[Column, FloatColumn], ...]

    @property
    def points(self) -> int:
        """Of all sessions."""
        return sum(len(next(iter(columns.values()))) for columns in self.tracks)


def from_folder(folder: Path) -> list[Recording]:
    """All that can be read of a folder's files; `Fault` when that is nothing."""
    found = [made for path in sorted(folder.iterdir()) if path.is_file() for made in _read(path.read_bytes())]
    if not found:
        raise Fault(f"there is no recording with points in {folder}: give --from a folder of FIT, GPX or TCX files.")
    return found


def made_up(count: int) -> list[Recording]:
    """Runs of 3 to 21 km, by turns as a watch and as a phone writes them; the same each time."""
    return [made for number in range(count) for made in _read(_made_up(number))]


def _made_up(number: int) -> bytes:
    write = write_gpx if number % 2 else write_fit
    return write(
        simulate_run(
            number,
            started_at=datetime(2026, 5, 1, 7, tzinfo=UTC),
            distance_m=3_000.0 + number * 5_000 % 19_000,
            pace_s_per_km=330.0,
            home=(52.5163, 13.3777),
        )
    )


def _read(body: bytes) -> Iterator[Recording]:
    try:
        sessions = parse(body).sessions
    except UnreadableRecording:
        return
    tracks = tuple(session.columns for session in sessions if len(session))
    if tracks:
        yield Recording(body, tracks)
