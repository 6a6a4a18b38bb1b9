"""Dates by a runner's own calendar."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo


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
