from datetime import timedelta

import numpy as np
import pytest

from domain.recordings.ordering import in_order
from domain.recordings.recording import Column, Session
from tests.domain.recordings.tracks import NAN, STARTED, made, seconds


def told(session: Session) -> dict[str, list[float]]:
    return {name: column.tolist() for name, column in session.columns.items()}


@pytest.mark.parametrize(
    "session",
    [
        made(),
        made(places_m=[0, 3]),
        made([NAN, NAN], places_m=[0, 3]),
        made([0, 0, 1, 1], places_m=[0, 0, 3, 3]),
        made([0, NAN, 1, 2, 2], places_m=[0, 1, 3, 6, 6], breaks=(2,)),
        made([0, 1, 2, 1, 2, 3], places_m=[0, 3, 6, 9, 12, 15]),  # the clock was set back
        made([0, 1, 2, 1, 2, 3], distance_m=[0, 3, 6, 9, 12, 15]),
        made([0, 1, 1, 2, 1.5], places_m=[0, 3, 3, 6, 9]),  # two sensors at one moment
    ],
)
def test_what_is_in_order_stays(session: Session) -> None:
    assert in_order(session) is session


@pytest.mark.parametrize("hurried", [0, 1])
def test_a_track_that_was_written_backwards_is_turned_round(hurried: int) -> None:
    t = -seconds(21)
    t[20 - hurried] = t[20]
    found = in_order(made(t, places_m=3 * t, heart_rate_bpm=100 - t, breaks=(5, 6)))
    assert found.started_at == STARTED - timedelta(seconds=20)
    assert found.columns[Column.T].tolist() == (t[::-1] + 20).tolist()
    assert found.columns[Column.HEART_RATE].tolist() == (100 - t[::-1]).tolist()
    assert found.breaks == (15, 16)


def test_segments_that_repeat_all_before_count_once() -> None:
    again = np.concatenate([seconds(2), seconds(4), seconds(6)])
    session = made(again, places_m=3 * again, heart_rate_bpm=100 + again, breaks=(2, 6))
    assert told(in_order(session)) == told(made(seconds(6), places_m=3 * seconds(6), heart_rate_bpm=100 + seconds(6)))
    assert in_order(session).breaks == (2, 4)


def test_a_last_segment_that_only_repeats_leaves_no_break() -> None:
    again = np.concatenate([seconds(6), seconds(4)])
    assert in_order(made(again, places_m=3 * again, breaks=(3, 6))).breaks == (3,)


def test_points_without_a_time_or_a_place_are_nobody_s_repeats() -> None:
    t, places = [0, 1, NAN, 0, 1, NAN, 2], [0, NAN, 3, 0, NAN, 3, 6]
    assert in_order(made(t, places_m=places)).columns[Column.T].tolist() == pytest.approx(
        [0, 1, NAN, 1, NAN, 2], nan_ok=True
    )
