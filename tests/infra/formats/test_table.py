import numpy as np
import pytest

from domain.measures import Sport
from infra.formats.table import both_feet


@pytest.mark.parametrize(
    ("sport", "written", "expected"),
    [
        (Sport.RUNNING, 109, 218),
        (Sport.RUNNING, 111, 111),
        (Sport.WALKING, 89, 178),
        (Sport.WALKING, 91, 91),
        (Sport.HIKING, 91, 91),
        (Sport.CYCLING, 85, 85),
    ],
)
def test_steps_of_one_foot_are_doubled_and_those_that_no_foot_makes_are_not(
    sport: Sport, written: float, expected: float
) -> None:
    assert both_feet(np.full(5, float(written)), sport).tolist() == [expected] * 5


def test_breaks_do_not_make_steps_of_both_feet_those_of_one() -> None:
    written = np.where(np.arange(100) % 5 < 3, 0.0, 170.0)
    assert both_feet(written, Sport.RUNNING).tolist() == written.tolist()
