import struct
from datetime import UTC, datetime

import numpy as np
import pytest
from fastcrc.crc16 import arc

from domain.measures import Sport
from domain.recordings.recording import Column, EmptyRecording, Recording, UnreadableRecording
from infra.formats import parse
from tests.infra.formats.fit_bytes import BEGIN, F64, RECORD, U8, U16, U32, data, define, fit_file, records, session

STARTED = datetime(2021, 9, 8, 1, 46, 40, tzinfo=UTC)


def codes(recording: Recording) -> list[str]:
    return [warning.partition(":")[0] for warning in recording.warnings]


def test_records_become_columns_with_the_session_s_totals() -> None:
    recording = parse(fit_file(records(5), session(BEGIN, 4, 12)))
    (only,) = recording.sessions
    assert (only.sport, only.started_at) == (Sport.RUNNING, STARTED)
    assert only.columns[Column.T].tolist() == [0, 1, 2, 3, 4]
    assert only.columns[Column.DISTANCE].tolist() == [0, 3, 6, 9, 12]
    assert only.columns[Column.HEART_RATE].tolist() == [120, 121, 122, 123, 124]
    assert only.device.distance_m == 12.0
    assert only.device.elapsed_s == 4.0
    assert recording.warnings == ()


@pytest.mark.parametrize(
    ("sport", "sub_sport", "read"),
    [
        (1, 0, Sport.RUNNING),
        (4, 1, Sport.RUNNING),  # on a treadmill
        (4, 45, Sport.RUNNING),
        (4, 5, Sport.CYCLING),
        (4, 6, Sport.CYCLING),
        (4, 27, Sport.WALKING),
        (4, 14, Sport.ROWING),
        (4, 15, Sport.FITNESS),  # an elliptical
        (14, 0, Sport.SKIING),
        (62, 0, Sport.FITNESS),
        (2, 1, Sport.CYCLING),
        (0xFF, 0xFF, Sport.OTHER),
    ],
)
def test_the_sport_on_equipment_is_what_the_equipment_stands_for(sport: int, sub_sport: int, read: Sport) -> None:
    fields = [(253, U32), (2, U32), (5, 0x00), (6, 0x00)]
    told = define(1, 18, fields) + data(1, fields, BEGIN + 4, BEGIN, sport, sub_sport)
    assert [one.sport for one in parse(fit_file(records(5), told)).sessions] == [read]


def test_big_endian_definitions_give_the_same() -> None:
    big, little = parse(fit_file(records(5, order=">"))), parse(fit_file(records(5)))
    for name, column in little.sessions[0].columns.items():
        assert big.sessions[0].columns[name].tolist() == column.tolist()


def test_compressed_timestamps_count_on_from_the_last_whole_one_and_roll_over() -> None:
    fields = [(3, U8)]
    first = data(0, RECORD, BEGIN, 100, 0)
    stamps = [(BEGIN + seconds) & 0x1F for seconds in (1, 20, 40)]
    later = b"".join(data(1, fields, 101, header=0x80 | 1 << 5 | stamp) for stamp in stamps)
    recording = parse(fit_file(define(0, 20, RECORD), first, define(1, 20, fields), later))
    assert recording.sessions[0].columns[Column.T].tolist() == [0, 1, 20, 40]


def test_compressed_timestamps_count_on_over_a_record_without_a_time() -> None:
    fields = [(3, U8)]
    first, timeless = (data(0, RECORD, at, 100, 0) for at in (BEGIN, 0xFFFFFFFF))
    later = [data(1, fields, 101, header=0x80 | 1 << 5 | (BEGIN + second) & 0x1F) for second in (1, 20)]
    recording = parse(fit_file(define(0, 20, RECORD), first, define(1, 20, fields), later[0], timeless, later[1]))
    np.testing.assert_array_equal(recording.sessions[0].columns[Column.T], [0, 1, np.nan, 20])


def test_a_packed_distance_counts_from_nothing_and_rolls_over() -> None:
    definition = struct.pack("<BBBHB", 0x40, 0, 0, 20, 2) + bytes([253, 4, U32, 8, 3, 0x0D])
    sixteenths = (160, 2_208, 4_095, 160, 2_208)  # of a metre, in twelve bits; 250 hundredths of a metre a second
    packed = [
        struct.pack("<I", BEGIN + i) + (250 | raw << 12).to_bytes(3, "little") for i, raw in enumerate(sixteenths)
    ]
    missing = struct.pack("<I", BEGIN + 5) + b"\xff\xff\xff"
    columns = parse(fit_file(definition, *(b"\0" + row for row in (*packed, missing)))).sessions[0].columns
    np.testing.assert_array_equal(columns[Column.DISTANCE], [10, 138, 255.94, 266, 394, np.nan])
    np.testing.assert_array_equal(columns[Column.SPEED], [2.5] * 5 + [np.nan])


def test_the_session_s_mean_and_highest_heart_rate_are_told_apart() -> None:
    fields = [(253, U32), (2, U32), (16, U8), (17, U8)]
    (only,) = parse(fit_file(records(5), define(1, 18, fields), data(1, fields, BEGIN + 4, BEGIN, 150, 180))).sessions
    assert (only.device.avg_heart_rate_bpm, only.device.max_heart_rate_bpm) == (150, 180)


def test_an_invalid_value_is_missing() -> None:
    recording = parse(fit_file(records(2), data(0, RECORD, BEGIN + 2, 0xFF, 0xFFFFFFFF)))
    assert np.isnan(recording.sessions[0].columns[Column.HEART_RATE][2])
    assert np.isnan(recording.sessions[0].columns[Column.DISTANCE][2])


def test_a_field_whose_size_is_no_multiple_of_its_type_is_missing_and_shifts_nothing() -> None:
    definition = struct.pack("<BBBHB", 0x40, 0, 0, 20, 3) + bytes([253, 4, U32, 5, 3, U32, 3, 1, U8])
    rows = b"".join(b"\0" + struct.pack("<I", BEGIN + i) + b"\1\2\3" + bytes([130 + i]) for i in range(3))
    columns = parse(fit_file(definition, rows)).sessions[0].columns
    assert Column.DISTANCE not in columns
    assert columns[Column.HEART_RATE].tolist() == [130, 131, 132]


def test_developer_fields_are_stepped_over_and_a_foot_pod_s_power_is_taken() -> None:
    described = [(0, U8), (1, U8), (2, U8)]
    head = struct.pack("<BBBHB", 0x42, 0, 0, 206, 4) + bytes([0, 1, U8, 1, 1, U8, 2, 1, U8, 3, 6, 0x07])
    description = head + data(2, described, 0, 9, U16) + b"Power\0"
    definition = define(0, 20, RECORD, developer=[(8, 3, 0), (9, 2, 0)])
    rows = b"".join(data(0, RECORD, BEGIN + i, 120, 300 * i) + b"xyz" + struct.pack("<H", 250 + i) for i in range(3))
    columns = parse(fit_file(description, definition, rows)).sessions[0].columns
    assert columns[Column.POWER].tolist() == [250, 251, 252]
    assert columns[Column.DISTANCE].tolist() == [0, 3, 6]


def test_enhanced_speed_and_altitude_come_before_the_plain_ones() -> None:
    fields = [(253, U32), (6, U16), (73, U32), (2, U16), (78, U32)]
    rows = [
        data(0, fields, BEGIN, 3000, 3100, 2600, 2700),
        data(0, fields, BEGIN + 1, 3000, 0xFFFFFFFF, 2600, 0xFFFFFFFF),
    ]
    columns = parse(fit_file(define(0, 20, fields), *rows)).sessions[0].columns
    assert columns[Column.SPEED].tolist() == [3.1, 3.0]
    assert columns[Column.ALTITUDE].tolist() == [40, 20]


def test_cadence_on_foot_counts_both_feet_and_on_a_bicycle_strokes() -> None:
    fields = [(253, U32), (4, U8), (53, U8)]
    row = define(0, 20, fields) + data(0, fields, BEGIN, 85, 64)  # 85 + 64/128 of one foot
    running, cycling = (parse(fit_file(row, session(BEGIN, 1, 3, sport))).sessions[0] for sport in (1, 2))
    assert running.columns[Column.CADENCE].tolist() == [171]
    assert cycling.columns[Column.CADENCE].tolist() == [85.5]


def test_several_sessions_share_the_records_out_by_time() -> None:
    swim, ride = session(BEGIN, 10, 30, sport=5), session(BEGIN + 10, 5, 15, sport=2)
    recording = parse(fit_file(records(15), swim, ride))
    assert [(one.sport, len(one)) for one in recording.sessions] == [(Sport.SWIMMING, 10), (Sport.CYCLING, 5)]
    assert recording.sessions[1].columns[Column.T].tolist() == [0, 1, 2, 3, 4]


def test_a_later_session_s_distance_that_goes_on_from_the_one_before_is_counted_from_its_own_start() -> None:
    swim, ride = session(BEGIN, 10, 30, sport=5), session(BEGIN + 10, 5, 0xFFFFFFFF // 100, sport=2)
    later = parse(fit_file(records(15), swim, ride)).sessions[1]
    assert later.columns[Column.DISTANCE].tolist() == [0, 3, 6, 9, 12]
    late = [data(0, RECORD, BEGIN + 10 + i, 120, 600 + 300 * i) for i in range(5)]
    begun_anew = parse(fit_file(records(10), define(0, 20, RECORD), *late, swim, ride)).sessions[1]
    assert begun_anew.columns[Column.DISTANCE].tolist() == [6, 9, 12, 15, 18]


@pytest.mark.parametrize(
    ("swim_m", "ride_m", "ridden", "run"),
    [
        (28, 15, [2, 5, 8, 11, 14], [2, 5, 8]),
        (27, 15, [3, 6, 9, 12, 15], [3, 6, 9]),
        (30, 12, [0, 3, 6, 9, 12], [3, 6, 9]),
        (26, 15, [0, 3, 6, 9, 12], [0, 3, 6]),  # less than the channel had already
        (31, 13, [0, 3, 6, 9, 12], [2, 5, 8]),  # more than it had at the next one's start
    ],
)
def test_a_later_session_begins_where_the_totals_of_those_before_end(
    swim_m: int, ride_m: int, ridden: list[float], run: list[float]
) -> None:
    legs = session(BEGIN, 10, swim_m, sport=5), session(BEGIN + 10, 5, ride_m, sport=2), session(BEGIN + 15, 3, 9)
    _, later, last = parse(fit_file(records(18), *legs)).sessions
    assert [leg.columns[Column.DISTANCE].tolist() for leg in (later, last)] == [ridden, run]


def test_after_a_session_that_counted_anew_the_next_begins_where_its_total_ends() -> None:
    late = [data(0, RECORD, BEGIN + 10 + i, 120, 600 + 300 * i) for i in range(8)]
    legs = session(BEGIN, 10, 28, sport=5), session(BEGIN + 10, 5, 19, sport=2), session(BEGIN + 15, 3, 8)
    *_, run = parse(fit_file(records(10), define(0, 20, RECORD), *late, *legs)).sessions
    assert run.columns[Column.DISTANCE].tolist() == [2, 5, 8]


def test_after_a_session_without_a_total_the_next_begins_at_its_first_record() -> None:
    fields = [(253, U32), (2, U32), (5, 0x00)]
    swim = define(1, 18, fields) + data(1, fields, BEGIN + 10, BEGIN, 5)
    ride, run = session(BEGIN + 10, 5, 13, sport=2), session(BEGIN + 15, 3, 9)
    _, later, last = parse(fit_file(records(18), swim, ride, run)).sessions
    assert later.columns[Column.DISTANCE].tolist() == [0, 3, 6, 9, 12]
    assert last.columns[Column.DISTANCE].tolist() == [2, 5, 8]


def test_a_session_without_records_is_a_part_of_the_way_to_the_next() -> None:
    ridden = [data(0, RECORD, BEGIN + 12 + i, 120, 3600 + 300 * i) for i in range(3)]
    legs = session(BEGIN, 10, 28, sport=5), session(BEGIN + 10, 2, 4, sport=3), session(BEGIN + 12, 3, 10, sport=2)
    _, _, ride = parse(fit_file(records(10), define(0, 20, RECORD), *ridden, *legs)).sessions
    assert ride.columns[Column.DISTANCE].tolist() == [4, 7, 10]


def test_of_two_session_messages_with_the_same_start_the_later_one_counts() -> None:
    early, late = session(BEGIN, 5, 12), session(BEGIN, 10, 27)
    (only,) = parse(fit_file(records(10), early, late)).sessions
    assert (len(only), only.device.elapsed_s, only.device.distance_m) == (10, 10.0, 27.0)


def test_chained_files_are_read_through() -> None:
    chained = fit_file(records(3)) + fit_file(records(4, first=BEGIN + 100))
    assert len(parse(chained).sessions[0]) == 7


@pytest.mark.parametrize(("event_type", "breaks"), [(1, (3,)), (4, (3,)), (8, (3,)), (9, (3,)), (0, ()), (3, ())])
def test_a_timer_stop_begins_a_new_segment_and_a_start_alone_does_not(event_type: int, breaks: tuple[int, ...]) -> None:
    event = [(253, U32), (0, 0x00), (1, 0x00)]
    stop = define(2, 21, event) + data(2, event, BEGIN + 2, 0, event_type) + data(2, event, BEGIN + 60, 0, 0)
    more = b"".join(data(0, RECORD, BEGIN + 60 + i, 120, 900 + 300 * i) for i in range(3))
    assert parse(fit_file(records(3), stop, more)).sessions[0].breaks == breaks


def test_the_local_time_gives_the_offset_rounded_to_a_quarter_hour() -> None:
    fields = [(253, U32), (5, U32)]
    told = [fit_file(records(1), define(3, 34, fields), data(3, fields, BEGIN, BEGIN + off)) for off in (7203, 90_000)]
    assert [parse(file).utc_offset_s for file in told] == [7200, None]


@pytest.mark.parametrize("missing", [1, 2, 3, 11])
def test_a_truncated_fit_gives_what_it_holds(missing: int) -> None:
    whole = fit_file(records(5))
    recording = parse(whole[:-missing])
    assert len(recording.sessions[0]) == (5 if missing <= 2 else 4)
    assert codes(recording) == ([] if missing <= 2 else ["truncated"])


def test_a_length_that_was_never_filled_in_is_a_truncation() -> None:
    whole = bytearray(fit_file(records(5)))
    whole[4:8] = bytes(4)
    recording = parse(bytes(whole[:-2]))
    assert (len(recording.sessions[0]), codes(recording)) == (5, ["truncated"])


@pytest.mark.parametrize("missing", [0, 2])
def test_a_length_that_is_too_small_loses_nothing(missing: int) -> None:
    whole = bytearray(fit_file(records(9), session(BEGIN, 8, 24)))
    whole[4:8] = struct.pack("<I", len(records(4)))
    whole[-2:] = struct.pack("<H", arc(whole[:-2]))
    recording = parse(bytes(whole[: len(whole) - missing]))
    assert (len(recording.sessions[0]), codes(recording)[:1]) == (9, ["length"])
    assert codes(recording)[1:] == (["checksum"] if missing else [])


def test_what_stands_behind_a_whole_file_and_is_none_does_not_count() -> None:
    recording = parse(fit_file(records(5)) + records(3))
    assert (len(recording.sessions[0]), codes(recording)) == (5, [])
    padded = bytearray(fit_file(records(5)) + bytes(512))
    padded[-513] ^= 1
    recording = parse(bytes(padded))
    assert (len(recording.sessions[0]), codes(recording)) == (5, ["checksum"])


def test_a_wrong_checksum_is_a_warning() -> None:
    whole = bytearray(fit_file(records(5)))
    whole[-1] ^= 1
    recording = parse(bytes(whole))
    assert (len(recording.sessions[0]), codes(recording)) == (5, ["checksum"])


def test_an_undefined_message_ends_the_reading_with_a_warning() -> None:
    recording = parse(fit_file(records(3), b"\x05", records(3)))
    assert (len(recording.sessions[0]), codes(recording)) == (3, ["damaged"])


def test_a_fit_without_points_or_totals_is_empty() -> None:
    with pytest.raises(EmptyRecording, match="send an activity file"):
        parse(fit_file(define(0, 0, [(0, 0x00)]), b"\0\4"))


def test_a_course_is_no_recording_and_an_activity_that_calls_itself_one_is() -> None:
    kind = define(0, 0, [(0, 0x00)]) + b"\0\6"
    with pytest.raises(EmptyRecording, match="a course"):
        parse(fit_file(kind, records(5)))
    assert len(parse(fit_file(kind, records(5), session(BEGIN, 4, 12))).sessions[0]) == 5


def test_numbers_that_overflow_times_are_missing() -> None:
    fields = [(253, F64), (3, U8)]
    recording = parse(fit_file(define(0, 20, fields), data(0, fields, 1e300, 120), data(0, fields, 1e11, 121)))
    assert recording.sessions[0].started_at is None


def test_thousands_of_definitions_are_refused() -> None:
    definitions = [define(0, number, [(1, U8)]) for number in range(3_000)]
    with pytest.raises(UnreadableRecording, match="kinds of messages"):
        parse(fit_file(*definitions))


def test_of_laps_by_the_hundred_thousand_the_first_thousand_count() -> None:
    fields = [(2, U32), (9, U32)]
    laps = define(3, 19, fields) + b"".join(data(3, fields, BEGIN, n) for n in range(100_000))
    (session,) = parse(fit_file(records(3), laps)).sessions
    assert len(session.laps) == 1_000


def test_a_chain_of_empty_files_is_refused() -> None:
    with pytest.raises(UnreadableRecording, match="one by one"):
        parse(fit_file(b"\x05") * 200)
