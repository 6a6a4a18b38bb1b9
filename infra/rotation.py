"""Master-key rotation: everything that an older master key protects is brought under the first one.

Readers and writers that were given both keys may run meanwhile. Cut off anywhere, it is run again.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from psycopg import Connection

from infra.faults import Fault
from infra.keys import KeyUnusable, MasterKeys, Wrapped
from infra.vault import Vault

_BATCH: Final = 1_000


class Rotation:
    """Over one connection in autocommit, batch by batch. `told` hears how many rows were changed."""

    def __init__(self, connection: Connection, master: MasterKeys, vault: Vault, told: Callable[[int], None]) -> None:
        self._connection = connection
        self._master = master
        self._vault = vault
        self._told = told

    def left(self) -> int:
        """How many users' keys are wrapped by an older master key, and addresses kept at most, now."""
        row = self._connection.execute(_LEFT, (self._master.current,)).fetchone()
        return int(row[0]) if row else 0

    def run(self) -> tuple[int, int]:
        """The numbers of users' keys and of e-mail addresses that were changed; `Fault` when one does not open.

        Last the proof is replaced: from then on processes that have only the older key stop.
        """
        changed = self._keys(), self._addresses()
        self._connection.execute(_PROVE, (self._vault.key_check,))
        more = self._keys(), self._addresses()  # of processes that had only the older key until just now
        return changed[0] + more[0], changed[1] + more[1]

    def _keys(self) -> int:
        count = 0
        for rows in self._batches(_KEYS, self._master.current):
            try:
                changes = [self._rewrapped(*row) for row in rows]
            except KeyUnusable as fault:
                raise Fault(f"{fault}; until then nothing that it wraps can be rotated.") from None
            with self._connection.cursor() as cursor:
                cursor.executemany(_REWRAP, changes)
                count += max(cursor.rowcount, 0)
            self._told(len(rows))
        return count

    def _rewrapped(self, owner_id: UUID, master_id: str, wrapped: bytes) -> tuple[object, ...]:
        new = self._master.rewrap(owner_id, Wrapped(master_id, wrapped))
        return new.master_id, new.wrapped, owner_id, wrapped  # unless it was destroyed in between

    def _addresses(self) -> int:
        count = 0
        for rows in self._batches(_ADDRESSES):
            changes = []
            for user_id, email_hash, sealed in rows:
                try:
                    email = self._vault.open(bytes(sealed), user_id.bytes)
                except InvalidTag:
                    raise Fault(
                        f"the address of user {user_id} does not open: put the row back from a backup."
                    ) from None
                again = self._vault.email_hash_again(email, bytes(email_hash))
                if again != bytes(email_hash):
                    changes.append((again, self._vault.seal(email, user_id.bytes), user_id, email_hash))
            with self._connection.cursor() as cursor:
                cursor.executemany(_RESEAL, changes)
            count += len(changes)
            self._told(len(rows))
        return count

    def _batches(self, statement: str, *values: object) -> Iterator[Sequence[tuple[Any, ...]]]:
        after: UUID | None = None  # there may be a user whose id is all zeros
        while rows := self._connection.execute(statement, (*values, after, after, _BATCH)).fetchall():
            yield rows
            after = rows[-1][0]


_LEFT: Final = """
    SELECT (SELECT count(*) FROM user_keys WHERE wrapped IS NOT NULL AND master_id <> %s)
        + (SELECT count(*) FROM credentials)
"""
_KEYS: Final = """
    SELECT owner_id, master_id, wrapped FROM user_keys
    WHERE wrapped IS NOT NULL AND master_id <> %s AND (%s::uuid IS NULL OR owner_id > %s) ORDER BY owner_id LIMIT %s
"""
_REWRAP: Final = "UPDATE user_keys SET master_id = %s, wrapped = %s WHERE owner_id = %s AND wrapped = %s"
_ADDRESSES: Final = """
    SELECT user_id, email_hash, email_sealed FROM credentials
    WHERE %s::uuid IS NULL OR user_id > %s ORDER BY user_id LIMIT %s
"""
_RESEAL: Final = "UPDATE credentials SET email_hash = %s, email_sealed = %s WHERE user_id = %s AND email_hash = %s"
_PROVE: Final = "UPDATE key_checks SET value = %s WHERE name = 'master'"
