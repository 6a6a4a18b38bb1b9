"""Files and folders of the command line, as they lie on the disk."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from errno import EACCES
from pathlib import Path
from typing import Final

from workers.cli.importing.archives import Archive, open_archive
from workers.cli.importing.entries import NOT_OPENED, Left, NotRead, is_of_macos, within
from workers.cli.importing.report import named

_NO_FILE: Final = "no file: a pipe, a socket or a device"
_UPWARDS: Final = "a link to a folder that it is in itself"
_MACOS: Final = "__MACOSX"


class Folders:
    """All files, by their absolute paths: an export that was unpacked is known by what is beside a file, whether its
    folder was named or what is in it. `left` are those that nobody can look at, and what is no file.

    Links to folders are followed, after all else, so that files go by where they are; no folder is entered twice.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self.files: dict[str, Path] = {}
        self.left: list[Left] = []
        self._keys: dict[str, str] = {}
        self._entered: set[tuple[int, int]] = set()
        for path in paths:
            for found in sorted(self._below(path)) if path.is_dir() else [path]:
                self._add(found)

    def shown(self, name: str) -> str:
        """The path, as it was given."""
        return named(self.files.get(name, Path(name)))

    def key(self, name: str) -> str:
        """Of the file's path, length and time."""
        return self._keys[name]

    def read(self, name: str, limit: int) -> bytes:
        """Its bytes; `NotRead`."""
        try:
            with self.files[name].open("rb") as file:
                body = file.read(limit + 1)
        except OSError as error:
            raise NotRead(_unreadable(error)) from None
        return within(body, limit)

    def inner(self, name: str) -> AbstractContextManager[Archive]:
        """The zip that the file is; `NotRead`."""
        return open_archive(self.files[name], self.shown(name))

    def _add(self, path: Path) -> None:
        try:
            status = path.stat()
        except OSError as error:
            self.left.append(Left(named(path), _unreadable(error, path), NOT_OPENED))
            return
        if not stat.S_ISREG(status.st_mode):  # to open a pipe is to wait for somebody who writes
            self.left.append(Left(named(path), _NO_FILE))
            return
        if not os.access(path, os.R_OK):
            self.left.append(Left(named(path), f"the file cannot be read: {os.strerror(EACCES)}", NOT_OPENED))
            return
        name = path.absolute().as_posix()
        self.files[name] = path
        self._keys[name] = f"{status.st_size}/{status.st_mtime_ns}/{named(path.absolute())}"

    def _below(self, top: Path) -> Iterator[Path]:
        waiting = [top]
        while waiting:
            for here, folders, names in os.walk(waiting.pop(0), onerror=self._refused):
                folder = Path(here)
                if not self._enter(folder):
                    folders.clear()
                    continue
                folders[:] = [name for name in folders if name != _MACOS]
                waiting += filter(self._is_followed, (folder / name for name in folders))
                yield from (folder / name for name in names if not is_of_macos(name))

    def _enter(self, folder: Path) -> bool:
        try:
            status = folder.stat()
        except OSError as error:
            self._refused(error)
            return False
        place = status.st_dev, status.st_ino
        is_new = place not in self._entered
        self._entered.add(place)
        return is_new

    def _is_followed(self, folder: Path) -> bool:
        if not _is_link(folder):
            return False
        if folder.parent.resolve().is_relative_to(folder.resolve()):
            self.left.append(Left(named(folder), _UPWARDS))
            return False
        return True

    def _refused(self, error: OSError) -> None:
        self.left.append(Left(named(Path(error.filename)), f"the folder cannot be read: {error.strerror}", NOT_OPENED))


def _unreadable(error: OSError, path: Path | None = None) -> str:
    what = "a link, and what it leads to" if path is not None and _is_link(path) else "the file"
    return f"{what} cannot be read: {error.strerror}"


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # in a folder that may be listed, and no more
        return False
