"""One request many times at once while things break; `tests/infra/event_store/same_request.py` runs 10,000 trials."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.infra.event_store.same_request import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]


def test_one_effect_and_one_reply_however_often_it_comes_and_whatever_breaks() -> None:
    with TemporaryDirectory(prefix="cairn-") as folder:
        report = run(150, seed=2026, folder=Path(folder))
    assert report.faults == []
    assert min(report.cut_before, report.cut_after, report.given_up, report.again) > 0
