from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest


@pytest.fixture
def data() -> Iterator[Path]:
    with TemporaryDirectory(prefix="cairn-") as folder:
        yield Path(folder) / "data"
