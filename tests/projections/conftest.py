from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from infra.views import ReadModels
from projections.projection import View
from tests.scenarios import ANNA


@asynccontextmanager
async def reading(database_url: str) -> AsyncIterator[View]:
    """The read models as the API sees them."""
    models = ReadModels(database_url, connections=1)
    await models.open()
    async with models.reader(ANNA).view() as view:
        yield view
    await models.close()


@pytest.fixture
async def queries(database_url: str) -> AsyncIterator[View]:
    """The read models of this test's database."""
    async with reading(database_url) as view:
        yield view
