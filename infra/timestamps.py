"""Postgres' binary form of instants: whole microseconds since 2000, in UTC (`timestamptz`)."""

from datetime import UTC, datetime, timedelta
from typing import Final

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
