"""Names of sports in recordings and in the exports of other services, as our sports."""

from collections.abc import Mapping
from typing import Final

from domain.measures import Sport

# Letters only, in small: as Strava, Garmin (activityType), Runkeeper, OsmAnd and our own exports write them. Kinds of
# strength and of class are fitness; what no rule of ours treats apart is other.
_NAMES: Final[Mapping[Sport, str]] = {
    Sport.RUNNING: """run trailrun virtualrun running streetrunning trailrunning treadmillrunning trackrunning
        indoorrunning ultrarun obstaclerun jogging jog roadrunning""",
    Sport.WALKING: "walk walking casualwalking speedwalking indoorwalking nordicwalking",
    Sport.HIKING: "hike hiking trekking rucking mountaineering snowshoe snowshoeing snowshoeingws backpacking",
    Sport.CYCLING: """ride virtualride ebikeride mountainbikeride emountainbikeride gravelride handcycle velomobile
        cycling biking bike roadbiking mountainbiking gravelcycling indoorcycling cyclocross downhillbiking trackcycling
        recumbentcycling ebikefitness ebikemountain bmx mixedsurface spinning stationarybike virtualcycling
        roadcycling gravelbiking ebiking emountainbike""",
    Sport.SWIMMING: "swim swimming lapswimming openwaterswimming poolswim openwaterswim",
    Sport.ROWING: "row rowing virtualrow virtualrowing indoorrowing rowingv",
    Sport.SKIING: """ski skiing alpineski backcountryski nordicski rollerski rollerskiing snowboard resortskiing
        resortskiingsnowboarding resortskiingsnowboardingws resortsnowboarding backcountryskiing backcountryskiingws
        backcountrysnowboarding backcountryskiingsnowboarding backcountryskiingsnowboardingws crosscountryskiing
        crosscountryskiingws skateskiing skateskiingws downhillskiing snowboarding skitouring""",
    Sport.SKATING: "iceskate inlineskate iceskating iceskatingws inlineskating skating skatingws",
    Sport.TRANSITION: "transition transitionv",
    Sport.FITNESS: """fitness workout weighttraining crossfit elliptical stairstepper stairmasterstepwell yoga pilates
        hiit highintensityintervaltraining physicaltherapy fitnessequipment strengthtraining cardiotraining
        indoorcardio cardio stairclimbing floorclimbing circuittraining corestrengthening bootcamp zumba barre
        groupworkout arctrainer dance boxingmma boxing jumprope meditation breathwork mobility""",
    Sport.OTHER: """other sports kayaking canoeing surfing kitesurf windsurf sail sailing standuppaddling golf soccer
        football tennis tabletennis badminton squash racquetball pickleball padel basketball volleyball cricket
        rockclimbing bouldering indoorclimbing skateboard wheelchair horseback horsebackriding motorcycling
        driving flying diving triathlon""",
}
_NUMBERS: Final = {"1": Sport.CYCLING, "4": Sport.HIKING, "7": Sport.SKIING, "9": Sport.RUNNING, "10": Sport.WALKING}
_SPORTS: Final = {name: sport for sport, names in _NAMES.items() for name in names.split()} | _NUMBERS


def sport_named(name: str) -> Sport | None:
    """The sport behind a word for it, or behind Strava's number; None for what is not known."""
    return _SPORTS.get(letters_of(name) or name.strip())


def letters_of(name: str) -> str:
    """What counts of a name: services and their versions differ in capitals, spaces and underscores."""
    return "".join(letter for letter in name.casefold() if letter.isalpha())
