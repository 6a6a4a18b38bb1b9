"""S3 as an object store, or what speaks like it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from tempfile import TemporaryFile
from typing import BinaryIO

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from domain.errors import StoreUnavailable
from infra.object_store.objects import MARK, PIECE_BYTES, Draft, Failures, NoMark


class BucketObjects:
    """S3, or what speaks like it. The region, the keys and an endpoint come from the usual `AWS_*` variables."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = Failures()
        self._identity: str | None = None  # looked for until it is there: a bucket is not unmounted
        self._store = S3Store.from_url(
            url,
            # whether an endpoint is http is the operator's choice, who wrote it
            client_options={"allow_http": True, "connect_timeout": "2s", "timeout": "20s"},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},  # then the phone tries again
        )

    def identity(self) -> str | None:
        """See `Objects`."""
        try:
            self._identity = self._identity or bytes(self._store.get(MARK).bytes()).decode().strip()
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(MARK, error)
        return self._identity

    def begin(self, identity: str) -> str:
        """See `Objects`."""
        try:
            with suppress(AlreadyExistsError):
                self._store.put(MARK, identity.encode(), mode="create", use_multipart=False)
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(MARK, error)
        return self.identity() or identity

    async def require_mark(self) -> None:
        """`StoreUnavailable` while the store has no id."""
        if self._identity is None and await asyncio.to_thread(self.identity) is None:
            raise StoreUnavailable from self._failures.told(MARK, NoMark(self._url))

    async def put_new(self, key: str, body: bytes | BinaryIO) -> bool:
        """See `Objects`; by a conditional write (`If-None-Match: *`)."""
        await self.require_mark()
        try:
            await self._store.put_async(key, body, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(key, error)
        return True

    @asynccontextmanager
    async def draft(self, folder: str) -> AsyncIterator[Draft]:
        """See `Objects`. It waits on this machine's disk: a conditional write takes an object whole."""
        with TemporaryFile() as file:
            yield _BucketDraft(self, folder, file, self._failures)

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        await self.require_mark()
        try:
            await self._store.put_async(key, body)
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(key, error)

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        await self.require_mark()
        try:
            return bytes(await (await self._store.get_async(key)).bytes_async())
        except FileNotFoundError:
            return None
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(key, error)

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """See `Objects`."""
        await self.require_mark()
        try:
            async for piece in (await self._store.get_async(key)).stream(PIECE_BYTES):
                yield bytes(piece)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(key, error)

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        await self.require_mark()
        try:
            await self._store.delete_async(key)
        except FileNotFoundError:
            return
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(key, error)

    async def prune(self, folder: str) -> None:
        """See `Objects`."""

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        await self.require_mark()
        try:
            async for found in self._store.list(prefix):
                for item in found:
                    yield item["path"], item["last_modified"]
        except BaseError as error:
            raise StoreUnavailable from self._failures.told(prefix, error)


class _BucketDraft:
    """An object that is put when it is whole."""

    def __init__(self, store: BucketObjects, folder: str, file: BinaryIO, failures: Failures) -> None:
        self._store = store
        self._failures = failures
        self._folder = folder
        self._file = file

    async def write(self, data: bytes) -> None:
        """See `Draft`."""
        await self._failures.off_loop("temporary files", self._file.write, data)

    async def commit(self, name: str) -> bool:
        """See `Draft`."""
        await self._failures.off_loop("temporary files", self._file.seek, 0)
        return await self._store.put_new(f"{self._folder}/{name}", self._file)
