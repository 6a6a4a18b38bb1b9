"""What was measured comes back as it was, and bytes that are none say so."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from domain.events import packing
from domain.events.measured import BestEffort, DeviceTotals, Measured
from domain.events.packing import NOTHING, pack, unpack, unpack_json

NUMBERS = st.none() | st.floats(0, 1e9)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)
EFFORTS = st.builds(BestEffort, TEXTS, *[st.floats(0, 1e6)] * 3)
MEASURED = st.builds(
    Measured,
    points=st.integers(0, 10**6),
    distance_source=TEXTS,
    avg_speed_mps=NUMBERS,
    avg_heart_rate_bpm=NUMBERS,
    polyline=st.none() | TEXTS,
    bbox=st.none() | st.tuples(*[st.floats(-180, 180)] * 4),
    best_efforts=st.lists(EFFORTS, max_size=4).map(tuple),
    device=st.builds(DeviceTotals, distance_m=NUMBERS),
    warnings=st.lists(TEXTS, max_size=3).map(tuple),
)
CENTI, MILLI = st.integers(0, 70_000).map(lambda n: n / 100), st.integers(0, 70_000).map(lambda n: n / 1_000)
ROUNDED = st.builds(  # as analysis rounds it, or nearly so
    Measured,
    points=st.integers(0, 10**6),
    distance_source=st.sampled_from(["unknown", "recorded", "positions", "device"]),
    avg_speed_mps=st.none() | MILLI,
    max_heart_rate_bpm=st.none() | st.integers(0, 70_000).map(lambda n: n / 10),
    calories_kcal=st.none() | st.sampled_from([0.0, 336.0, 65_534.0, 65_535.0, 65_536.0, 0.5]),
    polyline=st.none() | st.text(st.characters(min_codepoint=62, max_codepoint=127), max_size=9),
    bbox=st.none() | st.tuples(*[st.integers(-18_000_000, 18_000_000).map(lambda n: n / 100_000)] * 4),
    best_efforts=st.lists(
        st.builds(
            BestEffort,
            st.just("1 km"),
            st.sampled_from([1_000.0, 1_000.1]),
            CENTI,
            CENTI,
        ),
        max_size=3,
    ).map(tuple),
    device=st.builds(DeviceTotals, distance_m=st.none() | CENTI, timer_s=MILLI),
    warnings=st.lists(TEXTS, max_size=2).map(tuple),
)
# As it was packed once, in both forms.
STORED = bytes.fromhex(
    "01ab46e41603430352738bb1314a9a8d2fa8cb74ab2b28ae0955c29d66894b21a074851ca9864606181e4f2c4e4ecd2b01190049d04ae58945"
    "799979e920eb944a5273520b80765b29242a6495e616289427162be4a4a69528e4979628c5d60200"
)
STORED_NUMBERS = bytes.fromhex(
    "0200000bc2010d02ffffffffffffffffffff80000000800000008000000080000000ffffffffffffffffffffffff00000384010009001d02"
    "006d9201d4c0831fea1ffc74f56fff74656c65706f72743a2061206a756d7020776173206c656674206f7574"
)
WAS = Measured(
    points=3_010,
    distance_source="recorded",
    avg_speed_mps=3.33,
    polyline="_p~iF~ps|U",
    best_efforts=(BestEffort("1 km", 1_000.0, 280.5, 1_200.0),),
    device=DeviceTotals(ascent_m=90.0),
    warnings=("teleport: a jump was left out",),
)


# The same of one that has everything, each figure another.
STORED_ALL = bytes.fromhex(
    "01ad944d0ac2301085ef92b58a93e6a75ec01bb8140922924d5a4cc185dab3fbc68d8352c4a4bbce403e4af2be77fb694bdfe538c42ee57974a1"
    "695d74852e877e8cdbb1cff7dd5b9ca56957a41b631744b8554cfaf5e9f1fc546f156fe43b1367ba50ab2f1f309b32ad64561accaecc2a461981"
    "82f8ebf66fab2c6fa49c16fd516095e38d131c078eaed0ca33d00ba00750def804cb68dad88f9f6b9925ab039d486e0e49c1e588857c3ca5818f"
    "a2b9516dea1a2e29a633a756050ebcda3f9e"
)
STORED_ALL_NUMBERS = bytes.fromhex(
    "0200000f23020c2f0e6a05fb068806bb0150ffb691c700118c3000499fa80011edd9000985650030438f003037c1000003890800090003000027"
    "110003ea01004e220007d402007533000bbe03009c44000fa80400c3550013920500ea6600177c06011177001b6607013888001f50831fea1ffc"
    "74f56fff610a62"
)
HAD_ALL = Measured(
    points=3_875,
    distance_source="positions",
    avg_speed_mps=3.119,
    max_speed_mps=3.69,
    avg_heart_rate_bpm=153.1,
    max_heart_rate_bpm=167.2,
    avg_cadence_spm=172.3,
    calories_kcal=336.0,
    polyline="_p~iF~ps|U",
    bbox=(-48.12345, 11.5, 48.25, 11.75001),
    best_efforts=(
        BestEffort("400 m", 400.0, 100.01, 10.02),
        BestEffort("1/2 mile", 804.672, 200.02, 20.04),
        BestEffort("1 km", 1_000.0, 300.03, 30.06),
        BestEffort("1 mile", 1_609.344, 400.04, 40.08),
        BestEffort("5 km", 5_000.0, 500.05, 50.1),
        BestEffort("10 km", 10_000.0, 600.06, 60.12),
        BestEffort("half marathon", 21_097.5, 700.07, 70.14),
        BestEffort("marathon", 42_195.0, 800.08, 80.16),
    ),
    device=DeviceTotals(distance_m=6_239.73, elapsed_s=3_163.023, timer_s=3_160.001, ascent_m=90.5),
    warnings=("a", "b"),
)
DICTIONARY_SHA256 = "929e65b0fc970b15c1da157334d3edf41ead20537cde8aac11fc68bf23e872f0"


@given(MEASURED | ROUNDED)
def test_what_was_packed_unpacks_to_the_same(measured: Measured) -> None:
    assert unpack(pack(measured)) == measured


def test_nothing_is_an_empty_one() -> None:
    assert unpack(NOTHING) == Measured()
    assert unpack_json(NOTHING) == b"{}"


@pytest.mark.parametrize(
    ("stored", "was"),
    [(STORED, WAS), (STORED_NUMBERS, WAS), (STORED_ALL, HAD_ALL), (STORED_ALL_NUMBERS, HAD_ALL)],
)
def test_what_was_packed_once_unpacks_for_ever(stored: bytes, was: Measured) -> None:
    """Never change what is stored here, nor what it was: rows in all logs are so."""
    assert unpack(stored) == was
    assert msgspec.json.decode(unpack_json(stored), type=Measured) == was


@pytest.mark.parametrize(("number", "source"), [(0, "unknown"), (1, "recorded"), (2, "positions"), (3, "device")])
def test_sources_keep_their_numbers(number: int, source: str) -> None:
    stored = STORED_ALL_NUMBERS[:5] + bytes((number,)) + STORED_ALL_NUMBERS[6:]
    assert unpack(stored) == replace(HAD_ALL, distance_source=source)
    assert pack(replace(HAD_ALL, distance_source=source)) == stored


def test_the_dictionary_is_what_it_was() -> None:
    """A byte of it changed, and what was deflated with it is something else, or cannot be read."""
    assert hashlib.sha256(packing._DICTIONARY).hexdigest() == DICTIONARY_SHA256


def test_each_value_of_the_sample_is_set_and_is_another() -> None:
    """So that none can take the place of another unseen."""
    values = [*msgspec.structs.astuple(HAD_ALL), *msgspec.structs.astuple(HAD_ALL.device)]
    numbers = [value for value in values if isinstance(value, int | float)]
    assert None not in values
    assert len(set(numbers)) == len(numbers) == 11


def test_usual_figures_are_packed_as_numbers_and_others_are_not_changed() -> None:
    assert pack(WAS) == STORED_NUMBERS
    for other in (
        replace(WAS, avg_speed_mps=3.3301),
        replace(WAS, avg_speed_mps=65.535),
        replace(WAS, calories_kcal=-1.0),
        replace(WAS, polyline="_p~iF~ps|U~"),
        replace(WAS, polyline=""),
        replace(WAS, warnings=("of two\nlines",)),
        replace(WAS, best_efforts=(BestEffort("1 km", 1_000.0, 200_000.0, 0.0),)),
        replace(WAS, best_efforts=(BestEffort("3 km", 3_000.0, 800.0, 0.0),)),
        replace(WAS, device=DeviceTotals(distance_m=19150.969999999998)),
    ):
        assert pack(other).startswith(b"\x01")
        assert unpack(pack(other)) == other


OTHER_BYTES = [b"\x03abc", b"\x01\xff\xff\xff", b"{}", STORED[:-1], STORED + b"\0"]
OTHER_NUMBERS = [
    b"\x02abc",
    STORED_NUMBERS[:-1],
    STORED_NUMBERS + b"\0",
    STORED_NUMBERS[:5] + b"\x09" + STORED_NUMBERS[6:],  # an unknown source
    STORED_NUMBERS[:55] + b"\x08" + STORED_NUMBERS[56:],  # an unknown effort
]


@pytest.mark.parametrize("packed", OTHER_BYTES + OTHER_NUMBERS)
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="what was measured"):
        unpack(packed)


def test_a_run_takes_less_than_half_of_its_json() -> None:
    efforts = tuple(BestEffort(f"{n} km", n * 1000.0, n * 331.27, n * 17.0) for n in (1, 5, 10))
    run = Measured(points=3_875, avg_speed_mps=3.02, polyline="fsa|Bv`f`T{D^yBj@iEl", best_efforts=efforts)
    assert len(pack(run)) < len(msgspec.json.encode(run)) / 2
