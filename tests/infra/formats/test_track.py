import base64
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.recordings.recording import Column, FloatColumn
from infra.formats import parse
from infra.formats.track import CorruptTrack, decode, encode
from tests.infra.formats import real_files
from tests.recordings import fit, session

NAN = float("nan")
SEMICIRCLE = 180 / 2**31

# Made by the first version, and to be read for ever.
VERSION_1 = base64.b64decode(
    "Q1JOVAGWAAAAClugGZIElpWhdMtAJAAAAAAAAAAYzlcF726Vo2xhdMtBYxLQAAAAABghzuD7HdiVo2xvbstBZsFsFsFsFzkdziE+"
    "aiOVqmFsdGl0dWRlX23LQBQAAAAAAABWG859ZxhXla5oZWFydF9yYXRlX2Jwbcs/8AAAAAAAAHEYztyif0eVp3Bvd2VyX3fLAAAA"
    "AAAAAADMiSbO7qTkiyi1L/0gJH0AAEgAAAAAAAoPDwABACE4Aii1L/0gHcUAAJABAAAA0EB7Ct0A/0oA/x8A/wABADRcGCi1L/0g"
    "HaUAAHABAAAA0OgBEAMA/AAA/wEAdk4JKLUv/SAklQAAYAAAAADJAQAnAAAA/wEAgy4JKLUv/SAdfQAASAEAAACweAKFAAEANDgC"
    "KLUv/SAd6QAAAQAAAOBy56faGAz4AAe4Cj3bROCa05G/5WI/wT4="
)
ITS_COLUMNS = {
    Column.T: [0.0, 1.0, 2.5, 4.0],
    Column.LAT: [52.5, 52.5000123, NAN, 52.4999877],
    Column.LON: [1_000 * SEMICIRCLE, 1_001 * SEMICIRCLE, NAN, -7 * SEMICIRCLE],
    Column.ALTITUDE: [40.2, 40.4, 40.4, -3.0],
    Column.HEART_RATE: [120.0, NAN, 122.0, 255.0],
    Column.POWER: [0.1234567, 1e-300, 3.0, NAN],
}


def same(found: dict[Column, FloatColumn], expected: dict[Column, FloatColumn]) -> None:
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)


def test_a_blob_of_version_1_is_read_for_ever() -> None:
    same(decode(VERSION_1), {name: np.array(values) for name, values in ITS_COLUMNS.items()})


@given(
    st.integers(0, 30).flatmap(
        lambda length: st.dictionaries(
            st.sampled_from(list(Column)),
            st.lists(
                st.floats(-1e11, 1e11) | st.just(NAN) | st.integers(-(2**31), 2**31).map(lambda n: n * SEMICIRCLE),
                min_size=length,
                max_size=length,
            ).map(np.array),
        )
    )
)
def test_every_value_comes_back_as_it_was(columns: dict[Column, FloatColumn]) -> None:
    same(decode(encode(columns)), columns)


def test_what_was_parsed_from_a_fit_comes_back_and_is_small() -> None:
    (only,) = parse(fit(kilometres=5)).sessions
    blob = encode(only.columns)
    same(decode(blob), dict(only.columns))
    assert len(blob) < 12 * len(only)


def test_columns_are_readable_alone() -> None:
    blob = bytearray(encode(session().columns))
    blob[-1] ^= 1  # in the last column
    last = list(session().columns)[-1]
    alone = decode(bytes(blob), columns=[Column.LAT])
    np.testing.assert_array_equal(alone[Column.LAT], session().columns[Column.LAT])
    with pytest.raises(CorruptTrack, match=last):
        decode(bytes(blob), columns=[last])


def test_thinning_out_keeps_the_first_and_the_last_point() -> None:
    columns = {Column.T: np.arange(1_000.0)}
    thin = decode(encode(columns), max_points=7)[Column.T]
    assert (len(thin), thin[0], thin[-1]) == (7, 0, 999)
    assert (np.diff(thin) > 0).all()
    assert len(decode(encode(columns), max_points=2_000)[Column.T]) == 1_000


def test_any_changed_byte_is_noticed() -> None:
    blob = encode({Column.T: np.arange(50.0), Column.HEART_RATE: np.array([120.0, NAN] * 25)})
    for at in range(len(blob)):
        broken = bytearray(blob)
        broken[at] ^= 0x10
        with pytest.raises(CorruptTrack):
            decode(bytes(broken))


def test_any_cut_is_noticed() -> None:
    blob = encode({Column.T: np.arange(50.0)})
    for end in range(len(blob)):
        with pytest.raises(CorruptTrack):
            decode(blob[:end])


@pytest.mark.parametrize("path", real_files.paths("*"), ids=lambda path: path.name[:40])
def test_the_tracks_of_real_files_come_back(path: Path) -> None:
    if path.suffix == ".csv" or path.stat().st_size > 300_000 or "unicode" in path.name:
        pytest.skip("no track, or a long one")
    for only in parse(path.read_bytes()).sessions:
        same(decode(encode(only.columns)), dict(only.columns))
