"""What exports and recordings are found in: a zip, or what lies on the disk."""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from msgspec import Struct

from workers.cli.importing.entries import Left


class Files(Protocol):
    """Files by their names, which have "/" between folders."""

    @property
    def left(self) -> Sequence[Left]:
        """What is there and may not be read, or cannot be."""
        ...

    @property
    def files(self) -> Collection[str]:
        """The names of those that may be read."""
        ...

    def shown(self, name: str) -> str:
        """The file's name in reports, also of one that is not there."""
        ...

    def key(self, name: str) -> str:
        """Of the file's name and content, without reading it."""
        ...

    def read(self, name: str, limit: int) -> bytes:
        """Its bytes; `NotRead`, also when there are more than the limit."""
        ...

    def inner(self, name: str) -> AbstractContextManager["Files"]:
        """The zip that the file is; `NotRead`."""
        ...


class Taken(Struct):
    """What exports have told of. `homes` are their folders, in which what is no recording is of no interest."""

    names: set[str] = set()
    homes: list[str] = []


def tables(files: Files, ending: str) -> list[str]:
    """The files of this name, the nearest to the root first: some exports have all in a folder of their own."""
    found = [name for name in files.files if f"/{name}".endswith(f"/{ending}")]
    return sorted(found, key=lambda name: (name.count("/"), name))
