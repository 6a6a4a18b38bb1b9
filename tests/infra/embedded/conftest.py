import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture
def place_for_sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where sockets go that have no place in their data folder: short, and removed in the end."""
    with tempfile.TemporaryDirectory(prefix="c-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
