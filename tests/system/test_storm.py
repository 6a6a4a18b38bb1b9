"""The storm over the log, for half a minute; `tests/infra/event_store/storm.py` says how it runs for longer."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.infra.event_store.storm import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def test_nothing_is_lost_skipped_doubled_or_torn_while_everything_is_killed() -> None:
    with TemporaryDirectory(prefix="cairn-") as folder:
        report = run(30, seed=2026, folder=Path(folder))
    assert report.faults == []
    assert report.events > 1_000
    assert min(report.kills.values()) > 0
