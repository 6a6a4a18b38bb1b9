"""Read models: pure functions of the log, each with its tables, how events fill them, and its queries."""

from typing import Final

from projections.activities import ACTIVITIES, ACTIVITIES_2, ACTIVITIES_3
from projections.changes import CHANGES
from projections.feed import FEED
from projections.goals import GOALS
from projections.people import PEOPLE
from projections.projection import Projection
from projections.summaries import SUMMARIES

# All that run. While a version is changed, the older one stays beside the newer one, until `cairn projections gc`.
PROJECTIONS: Final[tuple[Projection, ...]] = (
    ACTIVITIES_2,
    ACTIVITIES_3,
    ACTIVITIES,
    CHANGES,
    FEED,
    GOALS,
    PEOPLE,
    SUMMARIES,
)
