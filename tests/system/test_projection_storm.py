"""The storm over projections, for half a minute; `tests/infra/projecting/storm.py` says how it runs for longer."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.infra.projecting.storm import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def test_rows_say_what_the_log_says_whatever_was_killed_while_they_were_filled_and_rebuilt() -> None:
    with TemporaryDirectory(prefix="cairn-") as folder:
        report = run(30, seed=2026, folder=Path(folder))
    assert report.faults == []
    assert report.events > 1_000
    assert report.kills["project"] > 0
    assert report.kills["rebuild"] > 0
