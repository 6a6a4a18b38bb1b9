"""What every picture is asked for with: its size, its theme and the units that it is labelled in."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

KILOMETRE_M: Final = 1000.0
MILE_M: Final = 1609.344
FOOT_M: Final = 0.3048
YARD_M: Final = 0.9144


class ThemeName(StrEnum):
    """For light and for dark screens."""

    LIGHT = "light"
    DARK = "dark"


class Units(StrEnum):
    """Of labels and marks."""

    METRIC = "metric"
    IMPERIAL = "imperial"


@dataclass(frozen=True)
class Theme:
    """Colours."""

    background: str
    grid: str
    muted: str  # text
    strong: str  # text that matters
    route: str
    casing: str  # what sets the route and the marks off from the ground
    start: str
    finish: str
    elevation: str
    pace: str


@dataclass(frozen=True)
class Frame:
    """A picture to fill; pixels."""

    width: int
    height: int
    theme: ThemeName
    units: Units

    @property
    def colours(self) -> Theme:
        """The theme's."""
        return THEMES[self.theme]


# muted on background has a contrast of 4.5 or more in both themes (WCAG 2.2, 1.4.3)
THEMES: Final = {
    ThemeName.LIGHT: Theme(
        background="#f3f4ef",
        grid="#e3e6dd",
        muted="#646d61",
        strong="#262b25",
        route="#e8512b",
        casing="#ffffff",
        start="#1d9a5b",
        finish="#262b25",
        elevation="#5b8c6e",
        pace="#2f74c0",
    ),
    ThemeName.DARK: Theme(
        background="#171b1e",
        grid="#262c30",
        muted="#98a29c",
        strong="#eef1ec",
        route="#ff7649",
        casing="#0b0d0f",
        start="#3ecb85",
        finish="#eef1ec",
        elevation="#7fbf98",
        pace="#6fb1f5",
    ),
}
