"""A local folder as an object store that keeps its promises."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final
from uuid import uuid4

from domain.errors import StoreUnavailable
from infra.object_store.objects import MARK, PIECE_BYTES, Draft, Failures, NoMark

_FOLDERS: Final = 100_000  # that are remembered
_PARTS: Final = ".parts"  # of each kind, which may be a mount; folders of users are never read as a whole
_EARLIER_PARTS: Final = "parts"  # of all kinds
_ABANDONED_SECONDS: Final = 86_400.0  # a part that nobody finished: its writer was killed


class FolderObjects:
    """A local folder. Content is synced before its name appears, and the name before a put returns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()  # folders whose names this process has synced
        self._failures = Failures()

    def identity(self) -> str | None:
        """See `Objects`."""
        try:
            return (self._root / MARK).read_text().strip()  # it may have been written by hand
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable from self._failures.told(MARK, error)

    def begin(self, identity: str) -> str:
        """See `Objects`. Nothing else makes the root."""
        try:
            self._put_new(MARK, identity.encode())
            return (self._root / MARK).read_text().strip()
        except OSError as error:
            raise StoreUnavailable from self._failures.told(MARK, error)

    async def put_new(self, key: str, body: bytes) -> bool:
        """See `Objects`. A second writer returns once the first one's bytes are durable."""
        return await self._failures.off_loop(key, self._put_new, key, body)

    @asynccontextmanager
    async def draft(self, folder: str) -> AsyncIterator[Draft]:
        """See `Objects`."""
        draft = self._draft(self._path(folder))
        try:
            yield draft
        finally:
            if draft.begun:  # as a rule it was committed
                await self._failures.off_loop(folder, draft.discard)

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        await self._failures.off_loop(key, self._replace, key, body)

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        return await self._failures.off_loop(key, self._get, key)

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """See `Objects`."""
        file, piece = await self._failures.off_loop(key, self._begin, key)
        try:
            while piece:
                yield piece
                piece = await self._failures.off_loop(key, file.read, PIECE_BYTES) if file is not None else b""
        finally:
            if file is not None:
                file.close()

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        await self._failures.off_loop(key, self._delete, key)

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        for found in await self._failures.off_loop(prefix, self._keys, prefix):
            yield found

    async def prune(self, folder: str) -> None:
        """See `Objects`. Who writes into it at the same time is told to send again."""
        await self._failures.off_loop(folder, self._prune, folder)

    def _prune(self, folder: str) -> None:
        with suppress(OSError):  # there is something in it, or it is gone
            self._path(folder).rmdir()

    def _delete(self, key: str) -> None:
        try:
            self._path(key).unlink()
        except FileNotFoundError:
            _require_mark(self._root)

    def _put_new(self, key: str, body: bytes) -> bool:
        path = self._path(key)
        draft = self._draft(path.parent)
        try:
            draft.append(body)
            return draft.link(path.name)
        finally:
            draft.discard()

    def _replace(self, key: str, body: bytes) -> None:
        path = self._path(key)
        draft = self._draft(path.parent)
        try:
            draft.append(body)
            draft.rename(path.name)
        finally:
            draft.discard()

    def _begin(self, key: str) -> tuple[BinaryIO | None, bytes]:
        """The first piece, and the file unless that was all: most objects are small, and a hop to a thread costs."""
        try:
            file = self._path(key).open("rb")
        except FileNotFoundError:
            _require_mark(self._root)
            return None, b""
        piece = file.read(PIECE_BYTES)
        if len(piece) == PIECE_BYTES:
            return file, piece
        file.close()
        return None, piece

    def _get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            _require_mark(self._root)
            return None

    def _keys(self, prefix: str) -> list[tuple[str, datetime]]:
        try:
            if "/" not in prefix:  # one user's are asked for often
                self._tidy()
            return self._listed(prefix)
        except FileNotFoundError:
            _require_mark(self._root)
            return []

    def _tidy(self) -> None:
        """Parts that were abandoned go, of all kinds."""
        for kind in [entry.name for entry in os.scandir(self._root)]:
            with suppress(OSError):  # nothing is being written there, or it is not ours, as `lost+found` is not
                self._listed(_EARLIER_PARTS if kind == _EARLIER_PARTS else f"{kind}/{_PARTS}")

    def _listed(self, prefix: str) -> list[tuple[str, datetime]]:
        """What has a name; parts that were abandoned go. Earlier versions wrote them beside what they became."""
        found = []
        for entry in list(os.scandir(self._path(prefix))):  # half of what `Path.glob` costs
            try:
                written = entry.stat().st_mtime
            except FileNotFoundError:  # deleted since the folder was read
                continue
            if not entry.name.startswith("."):
                found.append((f"{prefix}/{entry.name}", datetime.fromtimestamp(written, UTC)))
            elif entry.name.endswith(".part") and time.time() - written > _ABANDONED_SECONDS:
                Path(entry).unlink(missing_ok=True)
        return found

    def _draft(self, folder: Path) -> "_FileDraft":
        return _FileDraft(folder, self._root, self._durable, self._failures)

    def _path(self, key: str) -> Path:
        return self._root / key


class _FileDraft:
    """A file without a name of its own. What is small is written and synced in one go, off the event loop."""

    def __init__(self, folder: Path, root: Path, durable: set[Path], failures: Failures) -> None:
        self._folder = folder
        self._root = root
        self._failures = failures
        self._durable = durable
        kind = root.joinpath(*folder.relative_to(root).parts[:1])  # where links from its parts do not leave its mount
        self._part = (kind / _PARTS if kind != root else root) / f".{uuid4().hex}.part"
        self._key = folder.relative_to(root).as_posix()
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._changed: list[Path] = []  # folders that were made for it

    async def write(self, data: bytes) -> None:
        """See `Draft`."""
        self._held += data
        if len(self._held) >= PIECE_BYTES:
            await self._failures.off_loop(self._key, self._flush)

    async def commit(self, name: str) -> bool:
        """See `Draft`."""
        return await self._failures.off_loop(self._key, self.link, name)

    def append(self, data: bytes) -> None:
        """As `write`, where nothing else waits."""
        self._opened().write(data)

    def link(self, name: str) -> bool:
        """As `commit`. A second writer returns once the first one's bytes are durable."""
        self._sync()
        self._make_folder()
        try:
            (self._folder / name).hardlink_to(self._part)
        except FileExistsError:
            created = False
        else:
            created = True
        self.discard()
        self._sync_folders()  # also when it was there: its writer may not have come this far
        return created

    def rename(self, name: str) -> None:
        """Take the place of what has the name, at once."""
        self._sync()
        self._make_folder()
        self._part.replace(self._folder / name)
        self._sync_folders()

    @property
    def begun(self) -> bool:
        """Whether there is something to discard."""
        return self._file is not None

    def discard(self) -> None:
        """Leave nothing but what has a name."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part.unlink(missing_ok=True)

    def _sync(self) -> None:
        self._flush()
        file = self._opened()
        file.flush()
        os.fsync(file.fileno())

    def _sync_folders(self) -> None:
        """The folder, and those around it whose names may not be durable: another may have made them just now."""
        _sync_folder(self._folder)
        if self._folder in self._durable and not self._changed:
            return
        for folder in {*self._changed, *(around for around in self._folder.parents if self._within(around))}:
            _sync_folder(folder)
        if len(self._durable) >= _FOLDERS:
            self._durable.clear()
        self._durable.add(self._folder)

    def _within(self, folder: Path) -> bool:
        return folder == self._root or self._root in folder.parents

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._require_mark()
            self._changed = _make_folders(self._part.parent)
            self._file = self._part.open("xb")
        return self._file

    def _make_folder(self) -> None:
        """Last, since whoever finds it empty may remove it."""
        self._require_mark()
        self._changed += _make_folders(self._folder)

    def _require_mark(self) -> None:
        if self._folder != self._root:  # where only the mark itself goes
            _require_mark(self._root)

    def _flush(self) -> None:
        self._opened().write(self._held)
        self._held.clear()


def _require_mark(root: Path) -> None:
    """Asked before anything is written, and before anything is said not to be there."""
    if not (root / MARK).exists():
        raise NoMark(root)


def _make_folders(folder: Path) -> list[Path]:
    """Make what is missing; the folders whose listing changed by it, the innermost first."""
    changed = []
    missing = folder
    while not missing.exists():
        missing = missing.parent
        changed.append(missing)
    folder.mkdir(parents=True, exist_ok=True)
    return changed


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
