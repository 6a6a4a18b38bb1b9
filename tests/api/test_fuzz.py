"""The contract, fuzzed for some seconds; `.venv/bin/python -m tests.system.fuzz --cases 3000` does it for minutes."""

from pathlib import Path

import pytest

from tests.system.fuzz import fuzz


@pytest.mark.timeout(400)
async def test_what_is_answered_is_what_the_contract_says(served: str, tmp_path: Path) -> None:
    report = await fuzz(served, tmp_path, examples=1, seed=2026, phases="fuzzing,stateful")
    assert report.findings == 0, report.output
    assert report.cases > 50
