"""Bytes by key: a folder that keeps its promises, or S3. Objects are written once; few are ever replaced."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, Final, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from domain.errors import StoreUnavailable

T = TypeVar("T")

_PIECE: Final = 256 * 1024  # bytes that are read or written at once
_FOLDERS: Final = 100_000  # that are remembered
_ABANDONED_SECONDS: Final = 86_400.0  # a part that nobody finished: its writer was killed


class Draft(Protocol):
    """An object on its way: nothing of it is seen before `commit`."""

    async def write(self, data: bytes) -> None:
        """Go on."""
        ...

    async def commit(self, name: str) -> bool:
        """Make it durable under this name in its folder, unless there is one already: then False."""
        ...


class Objects(Protocol):
    """Where bytes live. A put has returned: the bytes survive a power cut."""

    async def put_new(self, key: str, body: bytes) -> bool:
        """Write the object if there is none; False when there is one already, which stays as it was."""
        ...

    async def replace(self, key: str, body: bytes) -> None:
        """Write the object in place of what is there: readers find the one or the other, also after a power cut."""
        ...

    def draft(self, folder: str) -> AbstractAsyncContextManager[Draft]:
        """Begin an object that is written piece by piece, and gone at the end unless it was committed."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The whole object; None when there is none."""
        ...

    def pieces(self, key: str) -> AsyncIterator[bytes]:
        """The object piece by piece; nothing when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object, if there is one."""
        ...

    async def prune(self, folder: str) -> None:
        """Remove the folder if there is nothing in it any more. Where there are no folders, nothing happens."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys below a folder, with the time of writing, in no order."""
        ...


class FolderObjects:
    """A local folder. Content is synced before its name appears, and the name before a put returns."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._durable: set[Path] = set()  # folders whose names this process has synced

    async def put_new(self, key: str, body: bytes) -> bool:
        """See `Objects`. A second writer returns once the first one's bytes are durable."""
        return await _off_loop(self._put_new, key, body)

    @asynccontextmanager
    async def draft(self, folder: str) -> AsyncIterator[Draft]:
        """See `Objects`."""
        draft = _FileDraft(self._path(folder), self._root, self._durable)
        try:
            yield draft
        finally:
            if draft.begun:  # as a rule it was committed
                await _off_loop(draft.discard)

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        await _off_loop(self._replace, key, body)

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        return await _off_loop(self._get, key)

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """See `Objects`."""
        file, piece = await _off_loop(self._begin, key)
        try:
            while piece:
                yield piece
                piece = await _off_loop(file.read, _PIECE) if file is not None else b""
        finally:
            if file is not None:
                file.close()

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        await _off_loop(lambda: self._path(key).unlink(missing_ok=True))

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        for found in await _off_loop(self._keys, prefix):
            yield found

    async def prune(self, folder: str) -> None:
        """See `Objects`. Who writes into it at the same time is told to send again."""
        await _off_loop(self._prune, folder)

    def _prune(self, folder: str) -> None:
        with suppress(OSError):  # there is something in it, or it is gone
            self._path(folder).rmdir()

    def _put_new(self, key: str, body: bytes) -> bool:
        path = self._path(key)
        draft = _FileDraft(path.parent, self._root, self._durable)
        try:
            draft.append(body)
            return draft.link(path.name)
        finally:
            draft.discard()

    def _replace(self, key: str, body: bytes) -> None:
        path = self._path(key)
        draft = _FileDraft(path.parent, self._root, self._durable)
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
            return None, b""
        piece = file.read(_PIECE)
        if len(piece) == _PIECE:
            return file, piece
        file.close()
        return None, piece

    def _get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def _keys(self, prefix: str) -> list[tuple[str, datetime]]:
        found = []
        try:
            entries = list(os.scandir(self._path(prefix)))  # half of what `Path.glob` costs
        except FileNotFoundError:
            return []
        for entry in entries:
            try:
                written = entry.stat().st_mtime
            except FileNotFoundError:  # deleted since the folder was read
                continue
            if not entry.name.startswith("."):
                found.append((f"{prefix}/{entry.name}", datetime.fromtimestamp(written, UTC)))
            elif time.time() - written > _ABANDONED_SECONDS:
                Path(entry).unlink(missing_ok=True)
        return found

    def _path(self, key: str) -> Path:
        return self._root / key


class _FileDraft:
    """A file without a name of its own. What is small is written and synced in one go, off the event loop."""

    def __init__(self, folder: Path, root: Path, durable: set[Path]) -> None:
        self._folder = folder
        self._root = root
        self._durable = durable
        self._part = folder / f".{uuid4().hex}.part"  # in the same folder: a link cannot cross file systems
        self._held = bytearray()
        self._file: BinaryIO | None = None
        self._changed: list[Path] = []  # folders that were made for it

    async def write(self, data: bytes) -> None:
        """See `Draft`."""
        self._held += data
        if len(self._held) >= _PIECE:
            await _off_loop(self._flush)

    async def commit(self, name: str) -> bool:
        """See `Draft`."""
        return await _off_loop(self.link, name)

    def append(self, data: bytes) -> None:
        """As `write`, where nothing else waits."""
        self._opened().write(data)

    def link(self, name: str) -> bool:
        """As `commit`. A second writer returns once the first one's bytes are durable."""
        self._sync()
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
            self._changed = _make_folders(self._folder)
            self._file = self._part.open("xb")
        return self._file

    def _flush(self) -> None:
        self._opened().write(self._held)
        self._held.clear()


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


async def _off_loop(work: Callable[..., T], *arguments: object) -> T:
    try:
        return await asyncio.to_thread(work, *arguments)
    except OSError as error:  # a full or failing disk
        raise StoreUnavailable from error


class BucketObjects:
    """S3, or what speaks like it. The region, the keys and an endpoint come from the usual `AWS_*` variables."""

    def __init__(self, url: str) -> None:
        self._store = S3Store.from_url(
            url,
            # whether an endpoint is http is the operator's choice, who wrote it
            client_options={"allow_http": True, "connect_timeout": "2s", "timeout": "20s"},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},  # then the phone tries again
        )

    async def put_new(self, key: str, body: bytes) -> bool:
        """See `Objects`; by a conditional write (`If-None-Match: *`)."""
        return await _put_new(self._store, key, body)

    @asynccontextmanager
    async def draft(self, folder: str) -> AsyncIterator[Draft]:
        """See `Objects`. It waits on this machine's disk: a conditional write takes an object whole."""
        with TemporaryFile() as file:
            yield _BucketDraft(self._store, folder, file)

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        try:
            await self._store.put_async(key, body)
        except BaseError as error:
            raise StoreUnavailable from error

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        try:
            return bytes(await (await self._store.get_async(key)).bytes_async())
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise StoreUnavailable from error

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """See `Objects`."""
        try:
            async for piece in (await self._store.get_async(key)).stream(_PIECE):
                yield bytes(piece)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable from error

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        try:
            await self._store.delete_async(key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable from error

    async def prune(self, folder: str) -> None:
        """See `Objects`."""

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        try:
            async for found in self._store.list(prefix):
                for item in found:
                    yield item["path"], item["last_modified"]
        except BaseError as error:
            raise StoreUnavailable from error


class _BucketDraft:
    """An object that is put when it is whole."""

    def __init__(self, store: S3Store, folder: str, file: BinaryIO) -> None:
        self._store = store
        self._folder = folder
        self._file = file

    async def write(self, data: bytes) -> None:
        """See `Draft`."""
        await _off_loop(self._file.write, data)

    async def commit(self, name: str) -> bool:
        """See `Draft`."""
        await _off_loop(self._file.seek, 0)
        return await _put_new(self._store, f"{self._folder}/{name}", self._file)


async def _put_new(store: S3Store, key: str, body: bytes | BinaryIO) -> bool:
    try:
        await store.put_async(key, body, mode="create", use_multipart=False)
    except AlreadyExistsError:
        return False
    except BaseError as error:
        raise StoreUnavailable from error
    return True


def objects_at(url: str) -> Objects:
    """The store behind `file:///folder` or `s3://bucket/prefix`; settings have checked the form."""
    parts = urlsplit(url)
    return FolderObjects(Path(unquote(parts.path))) if parts.scheme == "file" else BucketObjects(url)
