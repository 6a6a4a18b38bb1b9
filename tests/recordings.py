"""Recordings that the repository makes itself."""

from datetime import UTC, datetime

from domain.recordings.recording import Session
from infra.formats.fit_writer import write_fit
from infra.formats.gpx_writer import write_gpx
from workers.simulation import simulate_run

STARTED = datetime(2026, 5, 1, 7, 0, tzinfo=UTC)
BERLIN = (52.5163, 13.3777)


def session(seed: int = 1, kilometres: float = 3.0, started_at: datetime = STARTED) -> Session:
    """A run in Berlin at five and a half minutes a kilometre."""
    return simulate_run(seed, started_at=started_at, distance_m=kilometres * 1000, pace_s_per_km=330, home=BERLIN)


def fit(seed: int = 1, kilometres: float = 3.0, started_at: datetime = STARTED) -> bytes:
    """It, as a watch writes it."""
    return write_fit(session(seed, kilometres, started_at))


def gpx(seed: int = 1, kilometres: float = 3.0, started_at: datetime = STARTED) -> bytes:
    """It, as a phone writes it."""
    return write_gpx(session(seed, kilometres, started_at))


TCX = b"""<?xml version="1.0" encoding="UTF-8"?>
<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"><Activities>
<Activity Sport="Running"><Id>2026-05-02T06:00:00Z</Id>
<Lap StartTime="2026-05-02T06:00:00Z"><TotalTimeSeconds>60</TotalTimeSeconds><DistanceMeters>200</DistanceMeters>
<Calories>15</Calories><Track>
<Trackpoint><Time>2026-05-02T06:00:00Z</Time><Position><LatitudeDegrees>52.5</LatitudeDegrees>
<LongitudeDegrees>13.4</LongitudeDegrees></Position><AltitudeMeters>40</AltitudeMeters>
<DistanceMeters>0</DistanceMeters><HeartRateBpm><Value>120</Value></HeartRateBpm><Cadence>80</Cadence></Trackpoint>
<Trackpoint><Time>2026-05-02T06:00:30Z</Time><Position><LatitudeDegrees>52.5009</LatitudeDegrees>
<LongitudeDegrees>13.4</LongitudeDegrees></Position><AltitudeMeters>42</AltitudeMeters>
<DistanceMeters>100</DistanceMeters><HeartRateBpm><Value>130</Value></HeartRateBpm><Cadence>84</Cadence></Trackpoint>
<Trackpoint><Time>2026-05-02T06:01:00Z</Time><Position><LatitudeDegrees>52.5018</LatitudeDegrees>
<LongitudeDegrees>13.4</LongitudeDegrees></Position><AltitudeMeters>44</AltitudeMeters>
<DistanceMeters>200</DistanceMeters><HeartRateBpm><Value>140</Value></HeartRateBpm><Cadence>88</Cadence></Trackpoint>
</Track></Lap></Activity></Activities></TrainingCenterDatabase>"""
