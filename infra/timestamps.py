"""Postgres' binary form of instants: whole microseconds since 2000, in UTC (`timestamptz`).

And how far apart the clocks of servers may be.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)

CLOCKS_DIFFER: Final = timedelta(minutes=5)  # an API's and Postgres's, at most, where sessions end
