"""Our sums beside the devices' own, on files of real devices when the folder is there."""

from collections.abc import Mapping

import pytest

from domain.recordings.analysis import Analysis, analyse
from domain.recordings.recording import Session, UnreadableRecording
from infra.formats import parse
from tests.infra.formats import real_files

ROWS = real_files.index()
BROKEN_BODY = ("truncated", "damaged")  # the device's totals speak of points that are lost
pytestmark = pytest.mark.skipif(not ROWS, reason="no folder of real recordings beside the repository")


def _whole(row: Mapping[str, str]) -> tuple[Session, ...]:
    """The sessions of a file that is whole and carries totals to compare with; none of any other."""
    try:
        recording = parse((real_files.FOLDER / row["file"]).read_bytes())
    except UnreadableRecording:
        return ()
    damaged = any(warning.startswith(BROKEN_BODY) for warning in recording.warnings)
    return () if damaged or float(row["device_distance_m"] or 0) <= 100 else recording.sessions


def _read(row: Mapping[str, str]) -> Analysis | None:
    """The analysis of such a file of one session."""
    sessions = _whole(row)
    return analyse(sessions[0]) if len(sessions) == 1 else None


def test_distance_is_the_device_s_within_one_per_cent_in_nine_of_ten() -> None:
    missed, compared = [], 0
    for row in ROWS:
        if (read := _read(row)) is None:
            continue
        compared += 1
        told, ours = float(row["device_distance_m"]), read.distance_m
        if abs(ours - told) > 0.01 * told:
            missed.append(f"{row['file']}: {ours:.0f} m of {told:.0f} m, {read.measured.distance_source}")
    assert compared >= 20
    assert len(missed) <= 0.1 * compared, "\n".join(missed)


def test_each_leg_of_a_file_of_several_sessions_is_the_device_s_within_two_per_cent() -> None:
    legs = [
        (analyse(leg).distance_m, leg.device.distance_m or 0.0, row["file"])
        for row in ROWS
        if len(sessions := _whole(row)) > 1
        for leg in sessions
    ]
    long = [leg for leg in legs if leg[1] > 1_000]
    assert len(long) >= 5
    assert [leg for leg in long if abs(leg[0] - leg[1]) > 0.02 * leg[1]] == []


def test_elapsed_time_is_the_device_s_within_two_seconds_in_nine_of_ten() -> None:
    missed, compared = [], 0
    for row in ROWS:
        if not row["device_elapsed_s"] or (read := _read(row)) is None:
            continue
        compared += 1
        told, ours = float(row["device_elapsed_s"]), read.elapsed_s
        if abs(ours - told) > 2:
            missed.append(f"{row['file']}: {ours:.0f} s of {told:.0f} s")
    assert compared >= 15
    assert len(missed) <= 0.1 * compared, "\n".join(missed)


def test_heart_rate_is_the_device_s_within_a_beat_in_nine_of_ten() -> None:
    missed, compared = [], 0
    for row in ROWS:
        if row["device_avg_hr"] in ("", "0") or (read := _read(row)) is None:
            continue
        compared += 1
        told, ours = float(row["device_avg_hr"]), read.measured.avg_heart_rate_bpm or 0.0
        if abs(ours - told) > 1:
            missed.append(f"{row['file']}: {ours} of {told}")
    assert compared >= 10
    assert len(missed) <= 0.1 * compared, "\n".join(missed)


def test_half_of_the_ascents_are_the_device_s_within_15_per_cent() -> None:
    off = []
    for row in ROWS:
        if float(row["device_ascent_m"] or 0) < 20 or (read := _read(row)) is None:
            continue
        told, ours = float(row["device_ascent_m"]), read.elevation_gain_m
        off.append((abs(ours / told - 1), f"{row['file']}: {ours:.0f} m of {told:.0f} m"))
    off.sort()
    assert len(off) >= 10
    assert off[len(off) // 2][0] <= 0.15, "\n".join(told for _, told in off)


def test_every_file_gives_sums_that_can_be_or_is_refused() -> None:
    for row in ROWS:
        try:
            recording = parse((real_files.FOLDER / row["file"]).read_bytes())
        except UnreadableRecording as refusal:
            assert "Send" in refusal.reason or "send" in refusal.reason, row["file"]  # noqa: PT017 - one of many files
            continue
        for session in recording.sessions:
            found = analyse(session)
            assert found.moving_s >= 0, row["file"]
            assert len(found.measured.polyline or "") <= 600, row["file"]
            assert sum(split.distance_m for split in found.details.splits_km) <= found.distance_m + 1, row["file"]
            best = [effort.elapsed_s for effort in found.measured.best_efforts]
            assert best == sorted(best), row["file"]
