"""Commands whose replies are lost, of every kind; `tests/system/lost_replies.py` runs 10,000 trials."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands import RECIPES
from tests.system.lost_replies import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def test_whatever_is_lost_is_sent_again_and_has_its_effect_once() -> None:
    with TemporaryDirectory(prefix="cairn-") as folder:
        report = run(8 * len(RECIPES), seed=2026, folder=Path(folder))
    assert report.faults == []
    assert set(report.trials.values()) == {8}
    assert min(*report.fates.values(), report.replies_lost, report.replayed, report.effects) > 0
