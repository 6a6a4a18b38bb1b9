import pytest

from domain.recordings.recording import Column
from infra.formats.track import decode
from infra.reader import read
from tests.infra.formats.test_gpx import gpx, point, track


@pytest.mark.parametrize(("metres", "source"), [("1.1", "recorded"), ("0", "positions")])
def test_a_distance_channel_that_is_not_believed_is_not_in_the_track(metres: str, source: str) -> None:
    points = (point(n, f"<extensions><distance>{float(metres) * n}</distance></extensions>") for n in range(60))
    (found,) = read(gpx(track("".join(points)))).sessions
    assert found.distance_m == pytest.approx(65.6, abs=1)
    assert found.measured.distance_source == source
    assert (Column.DISTANCE in decode(found.track)) == (source == "recorded")
