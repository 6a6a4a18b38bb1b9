"""Bytes by key: a folder that keeps its promises, or S3. Objects are written once; few are ever replaced."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from domain.errors import StoreUnavailable

T = TypeVar("T")


class Objects(Protocol):
    """Where bytes live. A put has returned: the bytes survive a power cut."""

    async def put_new(self, key: str, body: bytes) -> bool:
        """Write the object if there is none; False when there is one already, which stays as it was."""
        ...

    async def replace(self, key: str, body: bytes) -> None:
        """Write the object in place of what is there: readers find the one or the other, also after a power cut."""
        ...

    async def get(self, key: str) -> bytes | None:
        """The whole object; None when there is none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object, if there is one."""
        ...

    def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """Keys below a folder, with the time of writing, in no order."""
        ...


class FolderObjects:
    """A local folder. Content is synced before its name appears, and the name before a put returns."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put_new(self, key: str, body: bytes) -> bool:
        """See `Objects`. A second writer returns once the first one's bytes are durable."""
        return await _off_loop(self._put_new, key, body)

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        await _off_loop(self._replace, key, body)

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        return await _off_loop(self._get, key)

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        await _off_loop(lambda: self._path(key).unlink(missing_ok=True))

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        for found in await _off_loop(self._keys, prefix):
            yield found

    def _put_new(self, key: str, body: bytes) -> bool:
        path = self._path(key)
        made = _make_folders(path.parent)
        partial = _partial(path)
        try:
            _write(partial, body)
            path.hardlink_to(partial)
        except FileExistsError:
            created = False
        else:
            created = True
        finally:
            partial.unlink(missing_ok=True)
        for folder in [path.parent, *made]:  # also when it was there: its writer may not have come this far
            _sync_folder(folder)
        return created

    def _replace(self, key: str, body: bytes) -> None:
        path = self._path(key)
        made = _make_folders(path.parent)
        partial = _partial(path)
        try:
            _write(partial, body)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        for folder in [path.parent, *made]:
            _sync_folder(folder)

    def _get(self, key: str) -> bytes | None:
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def _keys(self, prefix: str) -> list[tuple[str, datetime]]:
        found = []
        for path in self._path(prefix).glob("*"):
            try:
                written = path.stat().st_mtime
            except FileNotFoundError:  # deleted since the folder was read
                continue
            if not path.name.startswith("."):
                found.append((f"{prefix}/{path.name}", datetime.fromtimestamp(written, UTC)))
        return found

    def _path(self, key: str) -> Path:
        return self._root / key


def _partial(path: Path) -> Path:
    return path.with_name(f".{uuid4().hex}.part")  # in the same folder: a link cannot cross file systems


def _write(partial: Path, body: bytes) -> None:
    with partial.open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


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
        try:
            await self._store.put_async(key, body, mode="create")
        except AlreadyExistsError:
            return False
        except BaseError as error:
            raise StoreUnavailable from error
        return True

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

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        try:
            await self._store.delete_async(key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable from error

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        try:
            async for found in self._store.list(prefix):
                for item in found:
                    yield item["path"], item["last_modified"]
        except BaseError as error:
            raise StoreUnavailable from error


def objects_at(url: str) -> Objects:
    """The store behind `file:///folder` or `s3://bucket/prefix`; settings have checked the form."""
    parts = urlsplit(url)
    return FolderObjects(Path(unquote(parts.path))) if parts.scheme == "file" else BucketObjects(url)
