from collections import Counter
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from api.admission.spread import LONGEST, spread


@given(st.floats(0, 10_000), st.floats(0, 10_000), st.text())
def test_the_told_second_is_in_the_window_and_the_same_each_time(seconds: float, window: float, who: str) -> None:
    told = spread(seconds, window, who)
    assert told == spread(seconds, window, who)
    assert min(LONGEST, max(1, seconds)) <= told <= min(LONGEST, max(1, seconds + window + 2))


def test_nobody_is_sent_away_for_more_than_five_minutes() -> None:
    assert spread(301, 0, "anna") == spread(1, 100_000, "anna") == 300


def test_ten_thousand_devices_come_back_evenly() -> None:
    told = Counter(spread(1, 99, str(UUID(int=number, version=4))) for number in range(10_000))
    assert set(told) == set(range(1, 101))
    assert max(told.values()) < 150
