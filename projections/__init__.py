"""Read models: pure functions of the log, each with its tables, how events fill them, and its queries."""

from typing import Final

from projections.activities import Activities
from projections.feed import Feed
from projections.goals import Goals
from projections.people import People
from projections.projection import Projection
from projections.summaries import Summaries

PROJECTIONS: Final[tuple[Projection, ...]] = (Activities(), Feed(), Goals(), People(), Summaries())
