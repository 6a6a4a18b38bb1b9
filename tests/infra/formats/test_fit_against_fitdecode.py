"""Our decoder beside an independent one, on files of real devices and on ours."""

from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path

import fitdecode
import numpy as np
import pytest

from domain.measures import Sport
from domain.recordings.recording import Column
from infra.formats import fit_profile as profile
from infra.formats.fit_messages import walk
from tests.infra.formats import real_files
from tests.recordings import fit

FIELDS = {
    "position_lat": profile.RECORD_FIELDS[Column.LAT],
    "position_long": profile.RECORD_FIELDS[Column.LON],
    "heart_rate": profile.RECORD_FIELDS[Column.HEART_RATE],
    "cadence": profile.RECORD_FIELDS[Column.CADENCE],
    "distance": profile.RECORD_FIELDS[Column.DISTANCE],
    "power": profile.RECORD_FIELDS[Column.POWER],
    "temperature": profile.RECORD_FIELDS[Column.TEMPERATURE],
    "altitude": profile.ALTITUDE[1],
    "enhanced_altitude": profile.ALTITUDE[0],
    "speed": profile.SPEED[1],
    "enhanced_speed": profile.SPEED[0],
    "fractional_cadence": profile.FRACTIONAL_CADENCE,
}


def _records(content: bytes) -> Iterator[fitdecode.FitDataMessage]:
    with fitdecode.FitReader(
        BytesIO(content),
        check_crc=fitdecode.CrcCheck.DISABLED,
        error_handling=fitdecode.ErrorHandling.IGNORE,
    ) as frames:
        try:
            for frame in frames:
                if isinstance(frame, fitdecode.FitDataMessage) and frame.name == "record":
                    yield frame
        except fitdecode.FitError:
            return  # what came before counts, there as here


def _native(frame: fitdecode.FitDataMessage, name: str) -> object:
    """The value of the profile's own field: a developer's may have its name, and components are not ours."""
    for field in frame.fields:
        ours = isinstance(field.field_def, fitdecode.types.FieldDefinition) and not field.is_expanded
        if field.name == name and ours:
            return field.value[0] if isinstance(field.value, tuple) else field.value
    return None


def _compare(content: bytes) -> int:
    expected = list(_records(content))
    records = walk(content).of(content, profile.RECORD)
    assert len(records) == len(expected)
    for name, field in FIELDS.items():
        theirs = [_native(frame, name) for frame in expected]
        scale = field.scale if "position" in name else 1.0  # fitdecode gives semicircles
        column = np.array([np.nan if value is None else value for value in theirs], float) / scale
        np.testing.assert_allclose(records.column(field), column, rtol=1e-12, atol=1e-9, err_msg=name)
    stamps = [frame.get_value("timestamp", fallback=None) for frame in expected]
    seconds = [at.timestamp() - profile.EPOCH if isinstance(at, datetime) else np.nan for at in stamps]
    known = ~np.isnan(seconds)
    np.testing.assert_array_equal(records.timestamps()[known], np.array(seconds)[known])
    return len(expected)


def test_a_file_of_ours_reads_the_same() -> None:
    assert _compare(fit(kilometres=1)) > 300


@pytest.mark.parametrize("path", real_files.paths("fit"), ids=lambda path: path.stem[:40])
def test_a_real_file_reads_the_same(path: Path) -> None:
    if path.stat().st_size > 200_000:
        pytest.skip("fitdecode takes seconds for it")
    assert _compare(path.read_bytes()) >= 0


def test_the_written_session_is_understood() -> None:
    with fitdecode.FitReader(BytesIO(fit(kilometres=1)), check_crc=fitdecode.CrcCheck.RAISE) as frames:
        found = {frame.name: frame for frame in frames if isinstance(frame, fitdecode.FitDataMessage)}
    assert found["file_id"].get_value("type") == "activity"
    assert found["session"].get_value("sport") == Sport.RUNNING
    assert found["session"].get_value("total_distance") == pytest.approx(1_000, rel=0.02)
    assert found["lap"].get_value("total_elapsed_time") == found["session"].get_value("total_elapsed_time")
    assert found["activity"].get_value("num_sessions") == 1
