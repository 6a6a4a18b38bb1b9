from uuid import uuid4

import pytest

from api.ranges import cut
from tests.api.conftest import Runner
from tests.recordings import fit

TRACK: dict[str, list[float | None]] = {
    "t": [0.0, 1.0, None, 3.0, 3.5, 5.0],
    "altitude_m": [10.0, None, 12.0, 13.0, 14.0, 15.0],
}


@pytest.mark.parametrize(
    ("begin", "end", "times"),
    [
        (0.0, None, [0.0, 1.0, 3.0, 3.5, 5.0]),
        (1.0, 3.5, [1.0, 3.0]),
        (3.25, None, [3.5, 5.0]),
        (5.0, 5.001, [5.0]),
        (6.0, 9.0, []),
    ],
)
def test_a_range_has_its_first_second_and_not_its_last(begin: float, end: float | None, times: list[float]) -> None:
    assert cut(TRACK, begin, end, None)["t"] == times


def test_rows_stay_together() -> None:
    assert cut(TRACK, 1.0, 5.0, None) == {"t": [1.0, 3.0, 3.5], "altitude_m": [None, 13.0, 14.0]}


def test_neighbouring_ranges_share_no_row_and_leave_none_out() -> None:
    parts = [cut(TRACK, 0.0, 3.0, None), cut(TRACK, 3.0, 4.0, None), cut(TRACK, 4.0, None, None)]
    assert [t for part in parts for t in part["t"]] == [t for t in TRACK["t"] if t is not None]


def test_a_range_is_thinned_out_after_it_was_cut() -> None:
    long: dict[str, list[float | None]] = {"t": [float(t) for t in range(1_000)]}
    thin = cut(long, 100.0, 200.0, 10)["t"]
    assert (len(thin), thin[0], thin[-1]) == (10, 100.0, 199.0)
    assert len(set(thin)) == 10


def test_without_times_no_row_is_in_a_range() -> None:
    assert cut({"lat": [1.0, 2.0]}, 0.0, None, None) == {"lat": []}


async def test_a_part_of_a_track_is_the_same_rows_as_in_the_whole(anna: Runner) -> None:
    activity_id = uuid4()
    position = await anna.run(fit(61), activity_id)
    whole = (await anna.get(f"/activities/{activity_id}/track?columns=t,lat", after=position))["columns"]
    part = await anna.get(f"/activities/{activity_id}/track?columns=lat&from=60&to=120.5")
    assert part["columns"] == {"lat": [lat for t, lat in zip(whole["t"], whole["lat"], strict=True) if 60 <= t < 120.5]}
    assert part["points"] == len(part["columns"]["lat"]) > 30
    thin = await anna.get(f"/activities/{activity_id}/track?from=60&max_points=5")
    assert (thin["points"], thin["columns"]["t"][0], thin["columns"]["t"][-1]) == (5, 60, whole["t"][-1])
    past = await anna.get(f"/activities/{activity_id}/track?from=1e6")
    assert (past["points"], set(map(len, past["columns"].values()))) == (0, {0})


async def test_a_range_is_asked_for_rightly_or_not_at_all(anna: Runner) -> None:
    for query in ("from=-1", "to=nan", "from=inf", "from=5&to=5", "from=6&to=5", "from=soon"):
        answer = await anna("GET", f"/activities/{uuid4()}/track?{query}")
        code = "range-empty" if "&" in query else "invalid-parameter"
        assert (answer.status_code, answer.json()["code"]) == (422, code), query
