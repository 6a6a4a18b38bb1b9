"""Password hashes: argon2id in a bounded pool of threads, so that a rush of sign-ins delays only sign-ins."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from domain.accounts import passwords_of
from domain.errors import StoreUnavailable

# OWASP Password Storage Cheat Sheet: 19 MiB, 2 passes, 1 lane. About 70 ms here.
_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
_WAITING: Final = 64  # beyond this a sign-in would wait for seconds: better told to come back

T = TypeVar("T")


class Passwords:
    """Hash and verify. `StoreUnavailable` when too many wait already."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._places = asyncio.Semaphore(_WAITING)
        self._of_nobody = _HASHER.hash("no password is this")

    async def hash(self, password: str) -> str:
        """The encoded hash, with its salt and parameters."""
        return await self._run(lambda: _HASHER.hash(passwords_of(password)[0]))

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether they belong together. Takes as long for an account that does not exist (None)."""
        matches = await self._run(lambda: _matches(password_hash or self._of_nobody, password))
        return matches and password_hash is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._places.locked():
            raise StoreUnavailable
        async with self._places:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def close(self) -> None:
        """Finish what runs."""
        self._threads.shutdown()


def _matches(password_hash: str, password: str) -> bool:
    for spelling in passwords_of(password):
        with suppress(VerificationError, InvalidHashError):
            return _HASHER.verify(password_hash, spelling)
    return False
