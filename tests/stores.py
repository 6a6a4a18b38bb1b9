"""Object stores of tests."""

from pathlib import Path

from infra.object_store import FolderObjects


def marked(folder: Path) -> Path:
    """The folder as a store that has begun."""
    FolderObjects(folder).begin("of this test")
    return folder
