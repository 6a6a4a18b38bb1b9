from collections.abc import AsyncIterator

import pytest

from infra.views import ReadModels
from projections.projection import View
from tests.scenarios import ANNA


@pytest.fixture
async def queries(database_url: str) -> AsyncIterator[View]:
    """The read models as the API sees them."""
    models = ReadModels(database_url, connections=1)
    await models.open()
    async with models.reader(ANNA).view() as view:
        yield view
    await models.close()
