import base64
import random
import resource
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pcodec.wrapped import FileCompressor

from domain.recordings.recording import Column, FloatColumn
from infra.formats import parse
from infra.formats.track import CorruptTrack, Key, blob, check, codecs, decode, encode, is_cold, is_sealed, seal
from infra.keys import UserCipher
from tests.infra.formats import real_files
from tests.recordings import fit, gpx, session

NAN = float("nan")
SEMICIRCLE = 180 / 2**31
KEY = Key(UserCipher(b"k" * 32), b"whose and which")
POSITIONS = {Column.LAT, Column.LON}

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


SAMPLES: Final = Path(__file__).parents[2] / "samples" / "tracks"


def sample() -> dict[Column, FloatColumn]:
    """What the stored samples of version 2 hold: several units, codecs and gaps, and a distance told from positions."""
    at = np.arange(300)
    steps = 30 + at * 7 % 5
    known = at % 3 != 0
    return {
        Column.T: at * 1.0,
        Column.LAT: (626_000_000 + np.cumsum(steps)) * SEMICIRCLE,
        Column.LON: np.where(at < 5, NAN, (134_000_000 + at * at % 97) / 1e7),
        Column.SPEED: (2_800 + at % 90) / 1_000,
        Column.DISTANCE: np.cumsum(steps * 28) / 100,
        Column.ALTITUDE: np.full(300, 40.2),
        Column.HEART_RATE: np.where(known, 120.0 + at % 4, NAN),
        Column.CADENCE: np.where(at == 7, 84.0, NAN),
        Column.POWER: np.where(at % 100 == 50, 1e-300, 1 / (1.0 + at)),
    }


def same(found: Mapping[Column, FloatColumn], expected: Mapping[Column, FloatColumn]) -> None:
    """To the bit, but for which NaN it is."""
    assert found.keys() == expected.keys()
    for name, column in expected.items():
        np.testing.assert_array_equal(found[name], column, err_msg=name)
        np.testing.assert_array_equal(np.signbit(found[name][column == 0]), np.signbit(column[column == 0]))


def test_a_blob_of_version_1_is_read_for_ever() -> None:
    same(decode(VERSION_1), {name: np.array(values) for name, values in ITS_COLUMNS.items()})
    assert not is_sealed(VERSION_1)
    assert not is_cold(VERSION_1)


def test_blobs_of_version_2_are_read_for_ever() -> None:
    """They were made once, by `encode`, `encode(best=True)` and `seal`, and are not made again."""
    for name in ("plain", "cold", "sealed"):
        stored = (SAMPLES / f"{name}.track").read_bytes()
        same(decode(stored, key=KEY), sample())
        assert (is_sealed(stored), is_cold(stored)) == (name == "sealed", name == "cold")
    told = blob.read((SAMPLES / "plain.track").read_bytes()).blocks[5][0] & 128
    assert told, "the sample's distance is told from its positions"


ODD = st.floats(allow_nan=False) | st.sampled_from([-0.0, 0.0, NAN, 5e-324, 1.7976931348623157e308])
NUMBERS = ODD | st.floats(-1e11, 1e11) | st.integers(-(2**31), 2**31).map(lambda n: n * SEMICIRCLE)


@settings(deadline=None)  # the best takes its time
@given(
    st.integers(0, 30).flatmap(
        lambda length: st.dictionaries(
            st.sampled_from(list(Column)),
            st.lists(NUMBERS, min_size=length, max_size=length).map(lambda found: np.array(found, np.float64)),
        )
    ),
    st.booleans(),
)
def test_every_value_comes_back_as_it_was(columns: dict[Column, FloatColumn], best: bool) -> None:  # noqa: FBT001 - drawn
    packed = encode(columns, best=best)
    same(decode(packed), columns)
    same(decode(seal(packed, KEY), key=KEY), columns)


@given(st.integers(0, 2**32), st.sampled_from([64, 255, 300, 1_025]), st.integers(0, 7), st.booleans())
@settings(max_examples=30, deadline=None)  # the best takes its time
def test_walks_with_gaps_and_leaps_come_back(seed: int, length: int, kind: int, best: bool) -> None:  # noqa: FBT001 - drawn
    columns = walk(seed, length, kind)
    same(decode(encode(columns, best=best)), columns)


def walk(seed: int, length: int, kind: int) -> dict[Column, FloatColumn]:
    """A made-up track with a distance that positions tell, some with what is not to be expected."""
    drawn = np.random.default_rng(seed)
    steps = drawn.normal(3, 1, length)
    columns: dict[Column, Any] = {
        Column.LAT: np.round(52 + np.cumsum(steps) / 111_320, 7),
        Column.LON: np.round(np.cumsum(drawn.normal(0, 1e-5, length)), 7),
        Column.T: np.arange(length) * 1.0,
        Column.SPEED: np.round(steps, 3),
        Column.DISTANCE: np.round(np.cumsum(steps), 2),
        Column.HEART_RATE: 120 + np.cumsum(drawn.integers(-1, 2, length)) * 1.0,
    }
    if kind & 1:
        for column in columns.values():
            column[drawn.random(length) < 0.1] = NAN
    if kind & 2:
        columns[drawn.choice(list(columns))][drawn.integers(length)] = drawn.choice(
            [1e300, -1e300, np.inf, 180.0, -0.0]
        )
    if kind & 4:
        del columns[drawn.choice(list(columns))]
    return columns


def test_what_was_parsed_comes_back_and_is_small() -> None:
    for body, most in ((fit(kilometres=5), 7.0), (gpx(kilometres=5), 4.0)):
        (only,) = parse(body).sessions
        packed, cold = encode(only.columns), encode(only.columns, best=True)
        same(decode(packed), only.columns)
        same(decode(cold), only.columns)
        assert len(cold) < len(packed) < most * len(only)
        assert (is_cold(packed), is_cold(cold)) == (False, True)


def test_columns_that_say_nothing_take_next_to_nothing() -> None:
    constant, counting = np.full(10_000, 21.0), np.arange(10_000.0)
    alone = len(encode({Column.TEMPERATURE: constant}))
    assert alone < 32
    assert len(encode({Column.T: counting, Column.TEMPERATURE: constant})) < 64
    assert len(encode({Column.POWER: np.full(10_000, NAN)})) < 32


def test_a_distance_is_told_from_positions() -> None:
    columns = walk(1, 2_000, 0)
    alone = len(encode({Column.DISTANCE: columns[Column.DISTANCE]}))
    with_positions = encode(columns)
    same(decode(with_positions, [Column.DISTANCE]), {Column.DISTANCE: columns[Column.DISTANCE]})
    assert len(blob.read(with_positions).blocks[5]) < 0.7 * alone


def test_columns_are_readable_alone() -> None:
    """Of a sealed blob, whose parts are checked each by itself, also when another column is damaged."""
    columns = session().columns
    sealed = bytearray(seal(encode(columns), KEY))
    sealed[-20] ^= 1  # in the last column
    alone = decode(bytes(sealed), columns=POSITIONS, key=KEY)
    same(alone, {name: columns[name] for name in POSITIONS})
    with pytest.raises(CorruptTrack):
        decode(bytes(sealed), key=KEY)


def test_a_blob_that_is_not_sealed_is_checked_as_a_whole_also_for_some_columns() -> None:
    damaged = bytearray(encode(session().columns))
    damaged[-20] ^= 1  # in the last column
    with pytest.raises(CorruptTrack):
        decode(bytes(damaged), columns=POSITIONS)


def test_columns_of_a_later_version_are_passed_over() -> None:
    parts = blob.read(encode({Column.T: np.arange(5.0)}))
    later = blob.write(5, {77: b"who knows", **parts.blocks}, cold=False)
    same(decode(later), {Column.T: np.arange(5.0)})
    same(decode(seal(later, KEY), key=KEY), {Column.T: np.arange(5.0)})


def test_thinning_out_keeps_the_first_and_the_last_point() -> None:
    columns = {Column.T: np.arange(1_000.0)}
    thin = decode(encode(columns), max_points=7)[Column.T]
    assert (len(thin), thin[0], thin[-1]) == (7, 0, 999)
    assert (np.diff(thin) > 0).all()
    assert len(decode(encode(columns), max_points=2_000)[Column.T]) == 1_000


def test_a_sealed_blob_opens_with_its_key_and_place_only() -> None:
    packed = encode(sample())
    sealed = seal(packed, KEY)
    assert (is_sealed(packed), is_sealed(sealed)) == (False, True)
    assert seal(packed, KEY) != sealed  # other nonces each time
    assert len(sealed) == len(packed) + 11 + 16 * len(sample())
    for other in (None, Key(UserCipher(b"l" * 32), KEY.associated), Key(KEY.cipher, b"another's")):
        with pytest.raises(CorruptTrack):
            decode(sealed, key=other)
    check(sealed)


def test_blocks_cannot_be_moved_within_a_blob_or_between_two() -> None:
    columns = {Column.HEART_RATE: np.arange(9.0), Column.CADENCE: np.arange(9.0)}
    one, other = (blob.read(seal(encode(columns), KEY)) for _ in range(2))
    first, second = one.blocks
    forged = [
        replace(one, blocks={first: one.blocks[second], second: one.blocks[first]}),
        replace(one, blocks={first: other.blocks[first], second: one.blocks[second]}),
        replace(one, blocks={second: one.blocks[second], first: one.blocks[first]}),
        replace(one, header=bytes([*one.header[:6], one.points + 1, *one.header[7:]])),
        replace(one, stem=other.stem),
    ]
    one.block(first, KEY)
    for moved in forged:
        with pytest.raises(CorruptTrack):
            moved.block(first, KEY)


@pytest.mark.parametrize("sealed", [False, True])
def test_any_changed_byte_and_any_cut_is_noticed(sealed: bool) -> None:  # noqa: FBT001 - a parameter
    whole = encode({Column.T: np.arange(50.0), Column.HEART_RATE: np.array([120.0, NAN] * 25)})
    whole = seal(whole, KEY) if sealed else whole
    for at in range(len(whole)):
        broken = bytearray(whole)
        broken[at] ^= 0x10
        with pytest.raises(CorruptTrack):
            check(bytes(broken))
        for damaged in (bytes(broken), whole[:at], whole + whole[: at + 1]):
            with pytest.raises(CorruptTrack):
                decode(damaged, key=KEY)


def test_a_blob_that_was_made_to_harm_is_corrupt_and_takes_no_memory() -> None:
    """With a checksum that is right, as nobody but an attacker writes it."""
    drawn, before = random.Random(1), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    honest = [
        blob.read(encode(columns, best=best)) for columns in (sample(), walk(1, 300, 1)) for best in (False, True)
    ]
    corrupt = 0
    for _ in range(3_000):
        parts = drawn.choice(honest)
        blocks = {number: bytearray(block) for number, block in parts.blocks.items()}
        for block in drawn.sample(list(blocks.values()), 3):
            for _ in range(drawn.choice([1, 1, 4])):
                block[drawn.randrange(min(len(block), drawn.choice([4, 40, 4_000])))] = drawn.randrange(256)
            del block[drawn.choice([len(block), len(block), drawn.randrange(len(block) + 1)]) :]
        points = drawn.choice([parts.points, parts.points, 0, 1, blob.MOST_POINTS // 4])
        forged = blob.write(points, {number: bytes(block) for number, block in blocks.items()}, cold=False)
        try:
            found = decode(forged)
        except CorruptTrack:
            corrupt += 1
        else:
            assert {len(column) for column in found.values()} == {points}
    assert corrupt > 1_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_what_says_that_it_is_huge_is_not_believed() -> None:
    packed = bytearray(encode({Column.T: np.arange(50.0)}))
    packed[6:10] = b"\xff" * 4
    with pytest.raises(CorruptTrack, match="points"):
        decode(bytes(packed))
    with pytest.raises(ValueError, match="at most"):
        blob.write(blob.MOST_POINTS + 1, {}, cold=False)


@pytest.mark.parametrize(("squeeze", "inflate"), [(codecs._zstd(3), codecs._unzstd), (codecs._lzma, codecs._unlzma)])
def test_no_more_is_inflated_than_was_asked_for(
    squeeze: Callable[[bytes], bytes], inflate: Callable[[bytes, int], bytes]
) -> None:
    assert len(inflate(squeeze(bytes(10_000_000)), 10)) <= 11  # one more tells that there is more


def test_a_window_that_we_never_write_is_not_made_room_for() -> None:
    parameters = zstandard.ZstdCompressionParameters(
        window_log=24, write_content_size=False, format=zstandard.FORMAT_ZSTD1_MAGICLESS
    )
    squeeze = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(CorruptTrack, match="inflated"):
        codecs._unzstd(squeeze.compress(b"a column") + squeeze.flush(), 8)


def test_every_codec_gives_all_numbers_back() -> None:
    drawn = np.random.default_rng(1)
    for length in (1, 2, 47, 48, 255, 256, 513, 2**17 + 3):
        for numbers in (drawn.integers(-5, 5, length), np.cumsum(drawn.integers(-(2**40), 2**40, length))):
            for pack in (codecs.encode, codecs.encode_best) if length < 1_000 else (codecs.encode,):
                np.testing.assert_array_equal(codecs.decode(pack(numbers), length), numbers)


def test_pcodec_writes_the_format_that_blobs_say_they_have() -> None:
    """If it does not any more, what it writes needs a codec of its own, and what is stored must be read as before."""
    assert FileCompressor().write_header() == codecs._PCO_HEADER


@pytest.mark.parametrize("path", real_files.paths("*"), ids=lambda path: path.name[:40])
def test_the_tracks_of_real_files_come_back(path: Path) -> None:
    if path.suffix == ".csv" or path.stat().st_size > 300_000 or "unicode" in path.name:
        pytest.skip("no track, or a long one")
    for only in parse(path.read_bytes()).sessions:
        same(decode(seal(encode(only.columns), KEY), key=KEY), only.columns)
