"""What most tests of ingest stand on."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from infra.bootstrap import Parts, open_parts
from infra.reading_pool import ProcessReader
from tests.instance_settings import settings_of


@pytest.fixture
async def parts(fresh_database: Callable[[], str], redis_url: str, tmp_path: Path) -> AsyncIterator[Parts]:
    settings = settings_of(tmp_path, fresh_database(), redis_url)
    async with open_parts(settings) as opened:
        yield opened


@pytest.fixture(scope="module")
async def reader() -> AsyncIterator[ProcessReader]:
    made = ProcessReader()
    yield made
    made.close()
