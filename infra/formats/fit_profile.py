"""What we read of the FIT profile (Garmin FIT SDK, Profile.xlsx 21.x): message and field numbers, scales, sports."""

from collections.abc import Mapping
from math import isnan
from typing import Final, NamedTuple

from domain.measures import Sport
from domain.recordings.recording import Column

EPOCH: Final = 631_065_600  # 1989-12-31T00:00:00Z as Unix time: FIT's second 0

FILE_ID, SPORT, SESSION, LAP, RECORD, EVENT, DEVICE_INFO, ACTIVITY, FIELD_DESCRIPTION = (
    0,
    12,
    18,
    19,
    20,
    21,
    23,
    34,
    206,
)

TIMESTAMP: Final = 253


class Field(NamedTuple):
    """A numeric field: its value is raw / scale - offset."""

    number: int
    scale: float = 1.0
    offset: float = 0.0


RECORD_FIELDS: Final = {
    Column.LAT: Field(0, 2**31 / 180),  # semicircles
    Column.LON: Field(1, 2**31 / 180),
    Column.HEART_RATE: Field(3),
    Column.CADENCE: Field(4),
    Column.DISTANCE: Field(5, 100),
    Column.POWER: Field(7),
    Column.TEMPERATURE: Field(13),
}
ALTITUDE: Final = (Field(78, 5, 500), Field(2, 5, 500))  # the enhanced one first
SPEED: Final = (Field(73, 1000), Field(6, 1000))
FRACTIONAL_CADENCE: Final = Field(53, 128)
COMPRESSED_SPEED_DISTANCE: Final = 8  # three bytes: 12 bits of m/s * 100, 12 bits of m * 16 that roll over

START_TIME: Final = Field(2)
SESSION_SPORT, SESSION_SUB_SPORT = Field(5), Field(6)
ELAPSED: Final = Field(7, 1000)
TIMER: Final = Field(8, 1000)
DISTANCE: Final = Field(9, 100)
TOTALS: Final = {
    "distance_m": (DISTANCE,),
    "elapsed_s": (ELAPSED,),
    "timer_s": (TIMER,),
    "ascent_m": (Field(22),),
    "avg_heart_rate_bpm": (Field(16),),
    "max_heart_rate_bpm": (Field(17),),
    "avg_cadence_spm": (Field(18),),
    "max_speed_mps": (Field(125, 1000), Field(15, 1000)),  # the enhanced one first
    "calories_kcal": (Field(11),),
}

EVENT_KIND: Final = Field(0)
EVENT_TYPE: Final = Field(1)
TIMER_EVENT: Final = 0
TIMER_START: Final = 0
TIMER_STOPS: Final = (1, 4, 8, 9)  # stop, stop_all, stop_disable, stop_disable_all

SPORT_SPORT, SPORT_SUB_SPORT = Field(0), Field(1)

DESCRIBED: Final = (Field(0), Field(1), Field(2))  # developer, number and base type of a developer field
DESCRIBED_NAME: Final = 3

FILE_TYPE: Final = Field(0)
ACTIVITY_FILE, COURSE_FILE = 4, 6
LOCAL_TIMESTAMP: Final = Field(5)
MANUFACTURER: Final = Field(1)
PRODUCT: Final = Field(2)
FILE_PRODUCT_NAME: Final = 8
DEVICE_PRODUCT_NAME: Final = 27

MANUFACTURERS: Final = {
    1: "Garmin",
    13: "Dynastream",
    15: "Dynastream",
    23: "Suunto",
    32: "Wahoo",
    38: "o_synce",
    40: "Concept2",
    69: "Stages",
    70: "Sigma",
    71: "TomTom",
    73: "Wattbike",
    76: "Moxy",
    89: "Tacx",
    95: "Stryd",
    123: "Polar",
    255: "development",
    260: "Zwift",
    265: "Strava",
    282: "The Sufferfest",
    289: "Hammerhead",
    294: "Coros",
}

SPORTS: Final = {
    1: Sport.RUNNING,
    2: Sport.CYCLING,
    3: Sport.TRANSITION,
    4: Sport.FITNESS,
    5: Sport.SWIMMING,
    10: Sport.FITNESS,
    11: Sport.WALKING,
    12: Sport.SKIING,
    13: Sport.SKIING,
    14: Sport.SKIING,  # on a board
    15: Sport.ROWING,
    16: Sport.HIKING,
    17: Sport.HIKING,
    21: Sport.CYCLING,
    30: Sport.SKATING,
    33: Sport.SKATING,
    35: Sport.HIKING,
    47: Sport.FITNESS,  # boxing
    48: Sport.FITNESS,  # floor climbing
    62: Sport.FITNESS,  # intervals
    67: Sport.FITNESS,  # meditation
    83: Sport.FITNESS,  # dance
    84: Sport.FITNESS,  # jump rope
}
_EQUIPMENT: Final = 4
_ON_EQUIPMENT: Final[Mapping[float, Sport]] = {  # by sub sport
    1: Sport.RUNNING,  # treadmill
    5: Sport.CYCLING,  # spin
    6: Sport.CYCLING,  # indoor cycling
    14: Sport.ROWING,
    27: Sport.WALKING,
    45: Sport.RUNNING,
}


def sport_of(number: float, sub_sport: float) -> Sport:
    """The sport behind the numbers, which may be NaN; on fitness equipment, what it stands for."""
    on_equipment = _ON_EQUIPMENT.get(sub_sport) if number == _EQUIPMENT else None
    return on_equipment or SPORTS.get(-1 if isnan(number) else int(number), Sport.OTHER)
