"""What tests of `cairn import` have in common."""

from pathlib import Path

import pytest


@pytest.fixture
def data(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, where the journals are."""
    folder = tmp_path_factory.mktemp("data")
    monkeypatch.setenv("CAIRN_DATA", str(folder))
    return folder


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run [evening].fit"
    path.write_bytes(b"bytes")
    return path
