"""Runs that nobody ran: believable sessions for the demo and for tests, the same for the same seed."""

from datetime import datetime
from typing import Final

import numpy as np

from domain.measures import Sport
from domain.recordings.cleaning import step_lengths
from domain.recordings.recording import Column, FloatColumn, Session

_METRES_A_DEGREE: Final = 111_320.0  # of latitude, about
_GPS_NOISE_M: Final = 1.2  # of a position against the next ones, which drift together
_DRIFT_SECONDS: Final = 20.0


def simulate_run(
    seed: int,
    *,
    started_at: datetime,
    distance_m: float,
    pace_s_per_km: float,
    home: tuple[float, float],
    sport: Sport = Sport.RUNNING,
    title: str | None = None,
) -> Session:
    """A loop from home and back at one point a second: hills, a pause at a crossing, a heart that drifts upwards.

    `home` is (lat, lon) in degrees. The distance channel is a device's: the way along the recorded positions.
    """
    random = np.random.default_rng(seed)
    length = max(60, round(distance_m / 1000 * pace_s_per_km))
    effort = _wander(random, length, smooth=90.0) * 0.06
    speed = np.maximum(0.5, 1000 / pace_s_per_km * (1 + effort))
    travelled = np.cumsum(speed)
    travelled *= distance_m / travelled[-1]
    east, north = _loop(random, travelled, distance_m)
    east, north = (axis + _wander(random, length, smooth=_DRIFT_SECONDS) * _GPS_NOISE_M for axis in (east, north))
    lat = np.round(home[0] + north / _METRES_A_DEGREE, 6)
    lon = np.round(home[1] + east / (_METRES_A_DEGREE * np.cos(np.radians(home[0]))), 6)
    distance = np.concatenate([[0.0], np.cumsum(step_lengths(lat, lon))])
    height = 40 + 15 * np.sin(travelled / 900 + seed % 7) + 4 * _wander(random, length, smooth=120.0)
    crossing, wait = int(length * random.uniform(0.3, 0.7)), int(random.uniform(20, 70))
    t = np.arange(length, dtype=np.float64)
    t[crossing:] += wait
    speed_now: FloatColumn = np.concatenate([np.zeros(1), np.diff(distance)])
    warm = 1 - np.exp(-t / 180)
    rate = 95 + 55 * warm + 10 * t / t[-1] + 60 * effort
    return Session(
        sport=sport,
        started_at=started_at,
        columns={
            Column.T: t,
            Column.LAT: lat,
            Column.LON: lon,
            Column.ALTITUDE: np.round(height, 1),
            Column.DISTANCE: np.round(distance, 2),
            Column.HEART_RATE: np.round(rate),
            Column.CADENCE: np.round((172 + 40 * effort) / 2) * 2,
            Column.SPEED: np.round(speed_now, 3),
        },
        title=title,
        breaks=(crossing,),
    )


def _wander(random: np.random.Generator, length: int, smooth: float) -> FloatColumn:
    """Noise of standard deviation 1 whose neighbours within `smooth` samples are alike."""
    width = int(smooth)
    kernel = np.hanning(2 * width + 1)
    noise = np.convolve(random.standard_normal(length + 2 * width), kernel, mode="valid")
    wandering: FloatColumn = noise / max(1e-9, float(noise.std()))
    return wandering


def _loop(random: np.random.Generator, travelled: FloatColumn, distance_m: float) -> tuple[FloatColumn, FloatColumn]:
    """Metres east and north of home along a closed, uneven loop of this length."""
    angle = np.linspace(0, 2 * np.pi, 4_000)
    radius = 1 + sum(
        random.uniform(0.02, 0.16) * np.cos(wave * angle + random.uniform(0, 2 * np.pi)) for wave in (2, 3, 5)
    )
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    x, y = x - x[0], y - y[0]
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    scale = distance_m / along[-1]
    return np.interp(travelled, along * scale, x * scale), np.interp(travelled, along * scale, y * scale)
