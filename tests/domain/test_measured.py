"""What was measured comes back as it was, and bytes that are none say so."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.events.measured import NOTHING, BestEffort, DeviceTotals, Measured, pack, unpack, unpack_json

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
# As it was packed once.
STORED = bytes.fromhex(
    "01ab46e41603430352738bb1314a9a8d2fa8cb74ab2b28ae0955c29d66894b21a074851ca9864606181e4f2c4e4ecd2b01190049d04ae58945"
    "799979e920eb944a5273520b80765b29242a6495e616289427162be4a4a69528e4979628c5d60200"
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


@given(MEASURED)
def test_what_was_packed_unpacks_to_the_same(measured: Measured) -> None:
    assert unpack(pack(measured)) == measured


def test_nothing_is_an_empty_one() -> None:
    assert unpack(NOTHING) == Measured()
    assert unpack_json(NOTHING) == b"{}"


def test_what_was_packed_once_unpacks_for_ever() -> None:
    assert unpack(STORED) == WAS


@pytest.mark.parametrize("packed", [b"\x02abc", b"\x01\xff\xff\xff", b"{}", STORED[:-1], STORED + b"\0"])
def test_other_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match="what was measured"):
        unpack(packed)


def test_a_run_takes_less_than_half_of_its_json() -> None:
    efforts = tuple(BestEffort(f"{n} km", n * 1000.0, n * 331.27, n * 17.0) for n in (1, 5, 10))
    run = Measured(points=3_875, avg_speed_mps=3.02, polyline="fsa|Bv`f`T{D^yBj@iEl", best_efforts=efforts)
    assert len(pack(run)) < len(msgspec.json.encode(run)) / 2
