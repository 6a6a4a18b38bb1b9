"""The guide to a migration, done: every command of the page, while runners write and read all the time."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.system.migration import fleet, migrate

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


async def test_a_shape_changes_in_flight_and_nobody_notices() -> None:
    with TemporaryDirectory(prefix="cairn-") as name, fleet(folder := Path(name)) as own:
        done, seen = await migrate(own, folder, 5_000, 1.0)
        with psycopg.connect(own.database_url, autocommit=True) as connection:
            told = connection.execute("SELECT count(*) FROM outbox WHERE kind = 'new_follower'").fetchone()
    assert seen.faults == []
    assert seen.reads > 100
    assert seen.longest_m is not None  # which only the new version knows
    assert told == (seen.follows,)
    assert seen.follows > 0
    for one in done:
        if one.command != "projections status":  # which says where everybody is just then
            assert shape(one.printed) == shape(one.expected), one.command


def shape(text: str) -> list[str]:
    """Without figures, positions and widths, which are others each time."""
    text = re.sub(r"p1-[0-9a-f]+", "p1-#", text)
    return [" ".join(re.sub(r"[\d,.]*\d", "#", line).split()) for line in text.strip().splitlines()]
