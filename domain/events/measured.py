"""What analysis found of an activity besides what counts. Events and read models hand it on packed."""

from msgspec import Struct


class BestEffort(Struct, frozen=True, omit_defaults=True, gc=False):
    """The fastest stretch of a standard distance within one activity."""

    name: str
    distance_m: float
    elapsed_s: float
    start_s: float  # from the activity's start


class DeviceTotals(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the device concluded itself: kept beside our figures, never mixed with them."""

    distance_m: float | None = None
    elapsed_s: float | None = None
    timer_s: float | None = None
    ascent_m: float | None = None


class Measured(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What analysis found besides the tally. None: the recording does not say."""

    points: int = 0
    distance_source: str = "unknown"
    avg_speed_mps: float | None = None
    max_speed_mps: float | None = None
    avg_heart_rate_bpm: float | None = None
    max_heart_rate_bpm: float | None = None
    avg_cadence_spm: float | None = None
    calories_kcal: float | None = None
    polyline: str | None = None  # Google's encoding, precision 5, simplified
    bbox: tuple[float, float, float, float] | None = None  # south, west, north, east; degrees
    best_efforts: tuple[BestEffort, ...] = ()
    device: DeviceTotals = DeviceTotals()
    warnings: tuple[str, ...] = ()
