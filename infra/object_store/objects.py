"""What an object store is, and how its calls leave the event loop."""

import asyncio
import errno
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Final, Protocol, TypeVar
from urllib.parse import quote

from domain.errors import StoreUnavailable

_log = logging.getLogger(__name__)

T = TypeVar("T")

PIECE_BYTES: Final = 256 * 1024  # that are read or written at once
_QUIET_SECONDS: Final = 60.0

MARK: Final = "cairn-store"  # the object that has the store's id


class Draft(Protocol):
    """An object on its way: nothing of it is seen before `commit`."""

    async def write(self, data: bytes) -> None:
        """Go on."""
        ...

    async def commit(self, name: str) -> bool:
        """Make it durable under this name in its folder, unless there is one already: then False."""
        ...


class Objects(Protocol):
    """Where bytes live. A put has returned: the bytes survive a power cut.

    A store without an id takes and tells nothing, `StoreUnavailable`: it may be the empty place of a disk that is not
    mounted.
    """

    def identity(self) -> str | None:
        """The store's id; None when it has none. Blocks. `StoreUnavailable`."""
        ...

    def begin(self, identity: str) -> str:
        """Give a new store its id; the one that it has, if somebody was faster. Blocks. `StoreUnavailable`."""
        ...

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


class ObjectStoreFailed(Exception):
    """Why the store is away. Of the key only the kind is told: the rest says whose it is."""

    def __init__(self, key: str, error: Exception) -> None:
        kind = key.partition("/")[0]
        if isinstance(error, OSError) and error.strerror:
            told = f"{error.strerror} (errno {error.errno})"
        else:
            told = str(error).partition("\n")[0]
        for written in (key, quote(key, safe="")):  # as in a path, and as in the query of a listing
            told = told.replace(written, kind)
        super().__init__(f"the object store fails at {kind}: {told}")


class Failures:
    """Of one store: told in the log, once a minute at most, since callers only hear that it is away."""

    def __init__(self) -> None:
        self._quiet_until = 0.0

    async def off_loop(self, key: str, work: Callable[..., T], *arguments: object) -> T:
        """Do it in a thread; a full or failing disk is a store that is away."""
        try:
            return await asyncio.to_thread(work, *arguments)
        except OSError as error:
            raise StoreUnavailable from self.told(key, error)

    def told(self, key: str, error: Exception) -> ObjectStoreFailed:
        """The cause of a `StoreUnavailable`."""
        failed = ObjectStoreFailed(key, error)
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _log.warning("%s", failed)
        return failed


class NoMark(OSError):
    """In the place of the store is something without an id."""

    def __init__(self, place: object) -> None:
        super().__init__(errno.ENODEV, f"there is no {MARK}: is its disk mounted?", str(place))
