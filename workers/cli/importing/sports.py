"""Names of sports in the exports of other services, as our sports."""

from collections.abc import Mapping
from typing import Final

from domain.measures import Sport

# Letters only, in small: as Strava, Garmin (activityType) and Runkeeper write them. Kinds of strength and of class are
# fitness; what no rule of ours treats apart is other.
_NAMES: Final[Mapping[Sport, str]] = {
    Sport.RUNNING: """run trailrun virtualrun running streetrunning trailrunning treadmillrunning trackrunning
        indoorrunning ultrarun obstaclerun jogging""",
    Sport.WALKING: "walk walking casualwalking speedwalking indoorwalking nordicwalking",
    Sport.HIKING: "hike hiking rucking mountaineering snowshoe snowshoeing snowshoeingws",
    Sport.CYCLING: """ride virtualride ebikeride mountainbikeride emountainbikeride gravelride handcycle velomobile
        cycling roadbiking mountainbiking gravelcycling indoorcycling cyclocross downhillbiking trackcycling
        recumbentcycling ebikefitness ebikemountain bmx mixedsurface spinning stationarybike virtualcycling""",
    Sport.SWIMMING: "swim swimming lapswimming openwaterswimming poolswim openwaterswim",
    Sport.ROWING: "row rowing virtualrow virtualrowing indoorrowing rowingv",
    Sport.SKIING: """alpineski backcountryski nordicski rollerski snowboard resortskiing resortskiingsnowboarding
        resortskiingsnowboardingws resortsnowboarding backcountryskiing backcountryskiingws backcountrysnowboarding
        backcountryskiingsnowboarding backcountryskiingsnowboardingws crosscountryskiing crosscountryskiingws
        skateskiing skateskiingws downhillskiing snowboarding""",
    Sport.SKATING: "iceskate inlineskate iceskating iceskatingws inlineskating skating skatingws",
    Sport.FITNESS: """workout weighttraining crossfit elliptical stairstepper stairmasterstepwell yoga pilates hiit
        highintensityintervaltraining physicaltherapy fitnessequipment strengthtraining cardiotraining indoorcardio
        cardio stairclimbing floorclimbing circuittraining corestrengthening bootcamp zumba barre groupworkout
        arctrainer dance boxingmma boxing jumprope meditation breathwork mobility""",
    Sport.OTHER: """other sports kayaking canoeing surfing kitesurf windsurf sail sailing standuppaddling golf soccer
        football tennis tabletennis badminton squash racquetball pickleball padel basketball volleyball cricket
        rockclimbing bouldering indoorclimbing skateboard wheelchair horseback horsebackriding motorcycling
        driving flying diving triathlon""",
}
_SPORTS: Final = {name: sport for sport, names in _NAMES.items() for name in names.split()}
_SEVERAL: Final = frozenset({"multisport"})  # the recording has its sessions, each with its sport


def sport_of(name: str) -> tuple[Sport | None, tuple[str, ...]]:
    """The sport, and a remark when the name is none that is known: the recording's own then counts."""
    letters = "".join(letter for letter in name.casefold() if letter.isalpha())
    if not letters or letters in _SEVERAL:
        return None, ()
    found = _SPORTS.get(letters)
    return found, () if found else (f"sport {name[:40]!r} is not known: the recording's own counts",)
