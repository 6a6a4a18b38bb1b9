"""Sensible steps for axes, grids and scale bars."""

import math
from collections.abc import Sequence
from typing import Final

_DECIMAL: Final = (1.0, 2.0, 5.0)
_SECONDS: Final = (5, 10, 15, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)


def decimal_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5 · 10ⁿ that cuts the span, which is above 0, into at most so many parts."""
    least = span / most
    power = math.floor(math.log10(least))
    return next(step for n in (power, power + 1) for unit in _DECIMAL if (step := unit * 10.0**n) >= least * (1 - 1e-9))


def seconds_step(span: float, most: int) -> float:
    """As `decimal_step`, in steps that clocks have."""
    return next((float(step) for step in _SECONDS if span / step <= most), decimal_step(span, most))


def ticks(low: float, high: float, step: float) -> Sequence[float]:
    """The multiples of the step from low to high."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def plain(value: float) -> str:
    """A tick as it is labelled: no more decimals than it needs."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def clock(seconds: float) -> str:
    """Minutes and seconds, as runners say a pace; hours before them when there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
