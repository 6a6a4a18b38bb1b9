"""A key for each user, wrapped by the master key: destroying it erases what it sealed, wherever copies of that are.

AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces: one key seals far fewer than the 2^32 messages they allow.
"""

import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Struct
from psycopg import Connection

from domain.measures import UserId
from domain.streams import OwnerErased, StreamUnreadable
from domain.user import user_stream_id
from infra.away import or_unavailable
from infra.event_store.mapper import JSON_SEALED, SEALED
from infra.views import ReadModels

_log = logging.getLogger(__name__)

_NONCE_BYTES: Final = 12
_STEM_BYTES: Final = _NONCE_BYTES - 1  # of what is sealed in parts: the last byte is the part's number
_KEY_BYTES: Final = 32
_LIFETIME_SECONDS: Final = 300.0  # after a key was destroyed, no process can open anything for longer than this
_CACHED: Final = 20_000
_UNKNOWN: Final = (None, 0.0)


class KeyUnusable(StreamUnreadable):
    """A key that this needs cannot be used now; the server's operator was told. Nothing was lost or changed."""

    def __init__(self, why: str) -> None:
        """`why` is for the operator: it is no part of what clients are told."""
        super().__init__()
        self._why = why

    def __str__(self) -> str:
        return self._why


class UserCipher:
    """One user's key."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, associated: bytes) -> bytes:
        """Nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, plain, associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """What was sealed; `InvalidTag` when anything is other than it was."""
        if len(sealed) < _NONCE_BYTES:
            raise InvalidTag
        return self._aead.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)

    def seal_parts(self, parts: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, list[bytes]]:
        """Up to 256 parts of one thing, each with what it is bound to: a stem, then the parts, each 16 bytes longer.

        A part's nonce is the stem, 88 random bits drawn here for these parts alone, and its number: within the thing no
        two are equal, and two things, or a thing and a nonce of `seal`, meet only when those 88 bits do. For a user
        with 2^20 tracks that is a chance of 2^-49, far below the 2^-32 that SP 800-38D allows.
        """
        stem = os.urandom(_STEM_BYTES)
        return stem, [self._aead.encrypt(stem + bytes([at]), *part) for at, part in enumerate(parts)]

    def open_part(self, stem: bytes, number: int, sealed: bytes, associated: bytes) -> bytes:
        """One of the parts that were sealed together; `InvalidTag` when anything is other than it was."""
        return self._aead.decrypt(stem + bytes([number]), sealed, associated)


class Wrapped(Struct, frozen=True):
    """A user's key as it is stored. None: destroyed."""

    master_id: str
    wrapped: bytes | None


class MasterKeys:
    """The master keys that this process was given. The first wraps, all unwrap."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._wrapping = {derived(key, b"cairn master id")[:8].hex(): _wrapping(key) for key in keys}
        self.current: Final = next(iter(self._wrapping))  # the public id of the first

    def wrap(self, owner_id: UUID, key: bytes) -> Wrapped:
        """The key as it is stored, for this owner only."""
        return Wrapped(self.current, self._wrapping[self.current].seal(key, owner_id.bytes))

    def unwrap(self, owner_id: UUID, stored: Wrapped) -> bytes | None:
        """The key itself, None for a destroyed one; `KeyUnusable`."""
        if stored.wrapped is None:
            return None
        if stored.master_id not in self._wrapping:
            raise KeyUnusable(
                f"the key of user {owner_id} is wrapped by master key {stored.master_id}, which is not among those "
                f"given: add it to CAIRN_MASTER_KEY"
            )
        try:
            return self._wrapping[stored.master_id].open(stored.wrapped, owner_id.bytes)
        except InvalidTag:
            raise KeyUnusable(f"the stored key of user {owner_id} was changed: put it back from a backup") from None

    def rewrap(self, owner_id: UUID, stored: Wrapped) -> Wrapped:
        """The same key under the first master key; a destroyed one as it is. `KeyUnusable`."""
        key = self.unwrap(owner_id, stored)
        return stored if key is None else self.wrap(owner_id, key)


def derived(master_key: bytes, use: bytes) -> bytes:
    """A key for one use (HKDF, RFC 5869)."""
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=use).derive(master_key)


def _wrapping(master_key: bytes) -> UserCipher:
    return UserCipher(derived(master_key, b"cairn user keys"))


class _Cache:
    """Opened keys of owners, each for five minutes. None: destroyed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: OrderedDict[int, tuple[UserCipher | None, float]] = OrderedDict()  # by numbers, which hash in C

    def get(self, owner_id: UUID) -> tuple[UserCipher | None] | None:
        """The key, when it is known."""
        cipher, until = self._held.get(owner_id.int, _UNKNOWN)
        return (cipher,) if until > self._clock() else None

    def put(self, owner_id: UUID, key: bytes | None) -> UserCipher | None:
        """Hold a key."""
        cipher = None if key is None else UserCipher(key)
        self._held.pop(owner_id.int, None)
        while len(self._held) >= _CACHED:
            self._held.popitem(last=False)  # the oldest
        self._held[owner_id.int] = (cipher, self._clock() + _LIFETIME_SECONDS)
        return cipher

    def drop(self, owner_id: UUID) -> None:
        """Forget a key."""
        self._held.pop(owner_id.int, None)


class UserKeys:
    """The keys for those who write. They are made at the first need, and durable before they are used.

    One that was lost is missed, also by who only writes: another in its place would seal what nobody can read once the
    lost one is put back.
    """

    def __init__(self, database: ReadModels, master: MasterKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._master = master
        self._cache = _Cache(clock)

    async def to_seal(self, owner_id: UUID) -> UserCipher:
        """The owner's key, made for a new owner. `OwnerErased`, `KeyUnusable` (also: lost), `StoreUnavailable`."""
        known = self._cache.get(owner_id)
        cipher = known[0] if known else await self._made(owner_id)
        if cipher is None:
            raise OwnerErased
        return cipher

    async def to_open(self, owner_id: UUID) -> UserCipher | None:
        """The owner's key; None when it was destroyed. `KeyUnusable`, `StoreUnavailable`."""
        known = self._cache.get(owner_id)
        if known:
            return known[0]
        async with self._database.connection() as connection:
            row = await (await connection.execute(_FIND, ([owner_id],))).fetchone()
        return self._held(owner_id, row)

    async def _made(self, owner_id: UUID) -> UserCipher | None:
        new = self._master.wrap(owner_id, AESGCM.generate_key(_KEY_BYTES * 8))
        async with self._database.changing() as connection:
            account = user_stream_id(UserId(owner_id)), bytes((SEALED,)), JSON_SEALED
            found = await connection.execute(_MAKE, (owner_id, new.master_id, new.wrapped, *account))
            row = await found.fetchone() or await (await connection.execute(_FIND, ([owner_id],))).fetchone()
        return self._held(owner_id, row)

    def _held(self, owner_id: UUID, row: tuple[Any, ...] | None) -> UserCipher | None:
        try:
            if row is None:
                raise _missing(owner_id)
            return self._cache.put(owner_id, self._master.unwrap(owner_id, Wrapped(row[1], row[2])))
        except KeyUnusable as fault:
            _log.error("%s", fault)
            raise

    async def destroy(self, owner_id: UUID) -> None:
        """Make all that the owner's key sealed unreadable, for ever. Other processes follow within five minutes."""
        async with self._database.changing() as connection:
            await connection.execute(_DESTROY, (owner_id, self._master.current))
        self._cache.drop(owner_id)


class Known(dict[bytes, UserCipher | None]):
    """Owners' keys by the bytes of ids, which are found faster than ids are. None: destroyed.

    Whoever looks for one that is not there has them asked for, once; after that it is a `KeyError`.
    """

    ask: Callable[[], object] | None = None

    def __missing__(self, owner: bytes) -> UserCipher | None:
        if self.ask is None:
            raise KeyError(owner)
        ask, self.ask = self.ask, None
        ask()
        return self[owner]


class PageKeys:
    """The keys for those who read the log page by page: one query for all owners of a page that are not known.

    Known ones are forgotten all together, five minutes after the first of them came, or when there are too many.
    """

    def __init__(self, connection: Connection, master: MasterKeys, clock: Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._master = master
        self._clock = clock
        self._known = Known()
        self._until = 0.0

    def of_page(self, owners: Callable[[], Iterable[bytes]]) -> Mapping[bytes, UserCipher | None]:
        """The keys of a page, whose owners are told of when one is not known. Without those that cannot be used."""
        known = self._fresh()
        known.ask = lambda: self._ask([UUID(bytes=owner) for owner in owners() if owner not in known], known)
        return known

    def of(self, owner_ids: Collection[UUID]) -> Mapping[UUID, UserCipher | KeyUnusable | None]:
        """Each owner's key, None for a destroyed one, or why it cannot be used."""
        known = self._fresh()
        unusable = self._ask([owner_id for owner_id in owner_ids if owner_id.bytes not in known], known)
        return {owner_id: unusable.get(owner_id) or known[owner_id.bytes] for owner_id in owner_ids}

    def _fresh(self) -> Known:
        if self._clock() >= self._until or len(self._known) >= _CACHED:
            self._known = Known()
            self._until = self._clock() + _LIFETIME_SECONDS
        return self._known

    def _ask(self, owner_ids: Sequence[UUID], known: Known) -> Mapping[UUID, KeyUnusable]:
        """From now on they are known, but for those whose key cannot be used."""
        if not owner_ids:
            return {}
        with or_unavailable():
            stored = self._connection.cursor(binary=True).execute(_FIND, (owner_ids,)).fetchall()
        found, unusable = set[UUID](), dict[UUID, KeyUnusable]()
        for owner_id, master_id, wrapped in stored:
            found.add(owner_id)
            try:
                key = self._master.unwrap(owner_id, Wrapped(master_id, wrapped))
                known[owner_id.bytes] = None if key is None else UserCipher(key)
            except KeyUnusable as fault:
                unusable[owner_id] = fault
        return unusable | {owner_id: _missing(owner_id) for owner_id in owner_ids if owner_id not in found}


def _missing(owner_id: UUID) -> KeyUnusable:
    return KeyUnusable(f"the key of user {owner_id} is not there: put the table user_keys back from a backup")


_FIND: Final = "SELECT owner_id, master_id, wrapped FROM user_keys WHERE owner_id = ANY(%s)"
# Only for an owner of whose account nothing was sealed yet: a key is made before the account's first event, of which
# the name is sealed. Accounts in the clear have no key.
_MAKE: Final = """
    INSERT INTO user_keys (owner_id, master_id, wrapped) SELECT %s, %s, %s
    WHERE NOT EXISTS (
        SELECT FROM stored_events WHERE originator_id = %s
            AND (substr(state, 1, 1) = %s OR position(%s::bytea IN state) > 0) -- as `mapper.is_sealed` knows it
    )
    ON CONFLICT DO NOTHING RETURNING owner_id, master_id, wrapped
"""
_DESTROY: Final = """
    INSERT INTO user_keys (owner_id, master_id, destroyed_at) VALUES (%s, %s, now())
    ON CONFLICT (owner_id) DO UPDATE SET wrapped = NULL, destroyed_at = now() WHERE user_keys.wrapped IS NOT NULL
"""
