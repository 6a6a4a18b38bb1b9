"""S3 as an object store, or what speaks like it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from io import FileIO
from tempfile import TemporaryFile
from typing import Final
from urllib.parse import urlsplit

from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import S3Store

from domain.errors import StoreUnavailable
from infra.object_store.objects import MARK, PIECE_BYTES, Draft, Failures, NoMark, ObjectStoreFailed

_SMALL_BYTES: Final = 2 * 1024 * 1024  # that 0.8 Mbit/s bring over in `_SECONDS`
_SECONDS: Final = "20s"  # for a request as a whole, its body included; when reading, for each part of it
_LARGE_SECONDS: Final = "120s"  # with a recording of 48 MB as its body: 3.2 Mbit/s
_READING_SECONDS: Final = "3600s"  # a reader may be slow itself, as a phone is that gets its recording back
_LOOK_SECONDS: Final = 5.0
_CONFLICT_SECONDS: Final = (0.1, 0.3, 1.0)  # pauses after conflicts

_GONE: Final = (BaseError, OSError)


class BucketObjects:
    """S3, or what speaks like it. The region, the keys and an endpoint come from the usual `AWS_*` variables."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._failures = Failures()
        self._identity: str | None = None  # looked for until it is there: a bucket is not unmounted
        self._look: asyncio.Future[ObjectStoreFailed | None] | None = None
        self._store = _opened(url, _SECONDS)
        self._large = _opened(url, _LARGE_SECONDS)
        self._reading = _opened(url, _READING_SECONDS, _SECONDS)

    def identity(self) -> str | None:
        """See `Objects`."""
        try:
            self._identity = self._identity or bytes(self._store.get(MARK).bytes()).decode().strip()
        except _GONE as error:
            if _is_missing(error):
                return None
            raise StoreUnavailable from self._failed(MARK, error)
        return self._identity

    def begin(self, identity: str) -> str:
        """See `Objects`."""
        for pause in _CONFLICT_SECONDS:
            try:
                with suppress(AlreadyExistsError):
                    self._store.put(MARK, identity.encode(), mode="create", use_multipart=False)
            except _GONE as error:
                raise StoreUnavailable from self._failed(MARK, error)
            if (found := self.identity()) is not None:
                return found
            time.sleep(pause)
        raise StoreUnavailable from self._failed(MARK, NoMark(self._url))

    async def require_mark(self) -> None:
        """`StoreUnavailable` while the store has no id. All who ask wait for one look."""
        if self._identity is None:
            if self._look is None or self._look.done():
                self._look = asyncio.ensure_future(self._looked())
            if (failed := await asyncio.shield(self._look)) is not None:
                raise StoreUnavailable from failed

    async def _looked(self) -> ObjectStoreFailed | None:
        """Why there is no id."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                found = await (await self._store.get_async(MARK)).bytes_async()
        except TimeoutError:
            return self._failed(MARK, TimeoutError(f"it did not answer in {_LOOK_SECONDS:.0f} s"))
        except _GONE as error:
            return self._failed(MARK, NoMark(self._url) if _is_missing(error) else error)
        self._identity = bytes(found).decode().strip()
        return None

    async def put_new(self, key: str, body: bytes) -> bool:
        """See `Objects`; by a conditional write (`If-None-Match: *`)."""
        return await self.put_whole(key, body, len(body))

    async def put_whole(self, key: str, body: bytes | FileIO, size: int) -> bool:
        """As `put_new`. S3 refuses with 409 what meets another write, and 412 where the object is: obstore says the
        same of both, and after a 409 there may be nothing.
        """
        await self.require_mark()
        for pause in _CONFLICT_SECONDS:
            try:
                if isinstance(body, FileIO):
                    body.seek(0)
                await self._writing(size).put_async(key, body, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if await self._is_there(key):
                    return False
            except _GONE as error:
                raise StoreUnavailable from self._failed(key, error)
            else:
                return True
            await asyncio.sleep(pause)
        raise StoreUnavailable from self._failed(key, LookupError("the put conflicts with others, again and again"))

    async def _is_there(self, key: str) -> bool:
        try:
            await self._store.head_async(key)
        except _GONE as error:
            if _is_missing(error):
                return False
            raise StoreUnavailable from self._failed(key, error)
        return True

    @asynccontextmanager
    async def draft(self, folder: str) -> AsyncIterator[Draft]:
        """See `Objects`. What is large waits on this machine's disk: a conditional write takes an object whole."""
        draft = _BucketDraft(self, folder, self._failures)
        try:
            yield draft
        finally:
            await draft.discard()

    async def replace(self, key: str, body: bytes) -> None:
        """See `Objects`."""
        await self.require_mark()
        try:
            await self._writing(len(body)).put_async(key, body)
        except _GONE as error:
            raise StoreUnavailable from self._failed(key, error)

    async def get(self, key: str) -> bytes | None:
        """See `Objects`."""
        await self.require_mark()
        try:
            return bytes(await (await self._reading.get_async(key)).bytes_async())
        except _GONE as error:
            if _is_missing(error):
                return None
            raise StoreUnavailable from self._failed(key, error)

    async def pieces(self, key: str) -> AsyncIterator[bytes]:
        """See `Objects`."""
        await self.require_mark()
        try:
            async for piece in (await self._reading.get_async(key)).stream(PIECE_BYTES):
                yield bytes(piece)
        except _GONE as error:
            if _is_missing(error):
                return
            raise StoreUnavailable from self._failed(key, error)

    async def delete(self, key: str) -> None:
        """See `Objects`."""
        await self.require_mark()
        try:
            await self._store.delete_async(key)
        except _GONE as error:
            if not _is_missing(error):
                raise StoreUnavailable from self._failed(key, error)

    async def prune(self, folder: str) -> None:
        """See `Objects`."""

    async def keys(self, prefix: str) -> AsyncIterator[tuple[str, datetime]]:
        """See `Objects`."""
        await self.require_mark()
        try:
            async for found in self._store.list(prefix):
                for item in found:
                    yield item["path"], item["last_modified"]
        except _GONE as error:
            raise StoreUnavailable from self._failed(prefix, error)

    def _writing(self, size: int) -> S3Store:
        return self._store if size <= _SMALL_BYTES else self._large

    def _failed(self, key: str, error: Exception) -> ObjectStoreFailed:
        """What is set wrongly is told by the names of the settings."""
        bucket = urlsplit(self._url).netloc
        if _NO_BUCKET in str(error):
            error = LookupError(f"there is no bucket {bucket}: see OBJECT_STORE_URL, AWS_REGION and AWS_ENDPOINT")
        elif _METADATA_SERVICE in str(error):
            error = LookupError(
                f"no credentials for bucket {bucket}: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, "
                f"and this machine has no role that gives any"
            )
        return self._failures.told(key, error)


class _BucketDraft:
    """An object that is put when it is whole. Until then what is small is held, and what is not waits in a file."""

    def __init__(self, store: BucketObjects, folder: str, failures: Failures) -> None:
        self._store = store
        self._failures = failures
        self._folder = folder
        self._held = bytearray()
        self._file: FileIO | None = None
        self._size = 0

    async def write(self, data: bytes) -> None:
        """See `Draft`."""
        self._held += data
        self._size += len(data)
        if len(self._held) >= PIECE_BYTES:
            await self._failures.off_loop(_FILES, self._flush)

    async def commit(self, name: str) -> bool:
        """See `Draft`."""
        if self._file is not None:
            await self._failures.off_loop(_FILES, self._flush)
        body = bytes(self._held) if self._file is None else self._file
        return await self._store.put_whole(f"{self._folder}/{name}", body, self._size)

    async def discard(self) -> None:
        """Leave nothing on the disk."""
        if self._file is not None:
            await self._failures.off_loop(_FILES, self._file.close)

    def _flush(self) -> None:
        if self._file is None:
            self._file = TemporaryFile(buffering=0)  # noqa: SIM115 - closed by `discard`; a buffer fails once more there
        rest = memoryview(bytes(self._held))
        self._held.clear()
        while rest:
            rest = rest[self._file.write(rest) :]


_FILES: Final = "temporary files"
_NO_BUCKET: Final = "NoSuchBucket"
_METADATA_SERVICE: Final = "http://169.254.169.254/"  # of a cloud, which is asked where no credentials are set


def _opened(url: str, seconds: str, reading_seconds: str | None = None) -> S3Store:
    return S3Store.from_url(
        url,
        client_options={
            "allow_http": True,  # whether an endpoint is http is the operator's choice, who wrote it
            "connect_timeout": "2s",
            "timeout": seconds,
            "read_timeout": reading_seconds or seconds,
        },
        retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)},  # then the phone tries again
    )


def _is_missing(error: Exception) -> bool:
    """That there is no such object; a missing bucket is said in the same way."""
    return isinstance(error, FileNotFoundError) and _NO_BUCKET not in str(error)
