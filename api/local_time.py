"""Dates by a runner's own calendar, and dates in queries."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from domain.errors import DomainError

# of a `str` in a query: a `date` there would also take seconds since 1970
A_DATE: Final[dict[str, Any]] = {
    "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
    "json_schema_extra": {"format": "date"},
}


class NoSuchDate(DomainError):
    """A date in the query is in no calendar: send YYYY-MM-DD, from 0001-01-01 to 9999-12-31."""

    code = "invalid-parameter"


def date_of(text: str) -> date:
    """The date that a query names, written as RFC 3339 has it (full-date)."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoSuchDate from None


def today_of(time_zone: str | None, now: datetime) -> date:
    """The date it is for a runner; by UTC for one who named no zone."""
    return now.astimezone(ZoneInfo(time_zone) if time_zone else UTC).date()


def offset_of(time_zone: str | None, at: datetime, otherwise: timedelta) -> timedelta:
    """How far a runner's clocks are from UTC at a time; `otherwise` for one who named no zone."""
    if time_zone is None:
        return otherwise
    return at.astimezone(ZoneInfo(time_zone)).utcoffset() or timedelta()


def end_of(today: date, time_zone: str | None) -> datetime:
    """When the runner's day ends."""
    zone = ZoneInfo(time_zone) if time_zone else UTC
    return datetime.combine(today + timedelta(days=1), time.min, zone)
