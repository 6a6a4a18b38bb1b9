"""What the master key protects outside the log: e-mail addresses, and the proof that it is the right key."""

import contextlib
import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from psycopg import Connection

from domain.accounts import address_of, addresses_of
from infra.faults import Fault
from infra.keys import UserCipher, derived

_KEY_CHECK: Final = "SELECT value FROM key_checks WHERE name = 'master'"
_LEAVE_KEY_CHECK: Final = "INSERT INTO key_checks (name, value) VALUES ('master', %s) ON CONFLICT DO NOTHING"


class WrongMasterKey(Fault):
    """The database was made with another master key. Its message says what to do."""


class Vault:
    """Keys derived from the master keys, one for each use. The first master key seals, all open."""

    def __init__(self, master_keys: Sequence[bytes]) -> None:
        self._hashing = [derived(key, b"cairn e-mail hash") for key in master_keys]
        self._sealing = [UserCipher(derived(key, b"cairn e-mail seal")) for key in master_keys]
        self._checks = [derived(key, b"cairn key check") for key in master_keys]

    def email_hash(self, email: str) -> bytes:
        """The key under which an address is kept; without the master key it tells nothing."""
        return self._hashes(address_of(email))[0]

    def email_hashes(self, email: str) -> list[bytes]:
        """The keys under which an address may be found, the most exact spelling first: those of older master keys until
        they are rotated out.
        """
        return [found for address in addresses_of(email) for found in self._hashes(address)]

    def email_hash_again(self, email: str, known: bytes) -> bytes:
        """The key under the first master key, in the spelling that the address is kept under: another account may have
        the other one.
        """
        spellings = [self._hashes(address) for address in addresses_of(email)]
        return next((hashes[0] for hashes in spellings if known in hashes), self.email_hash(email))

    def _hashes(self, address: str) -> list[bytes]:
        return [hmac.digest(key, address.encode(), hashlib.sha256) for key in self._hashing]

    def seal(self, text: str, owner: bytes) -> bytes:
        """Encrypt for an owner: bytes moved to another owner's row do not open."""
        return self._sealing[0].seal(text.encode(), owner)

    def open(self, sealed: bytes, owner: bytes) -> str:
        """What was sealed for this owner; `InvalidTag` when it was changed, or by none of the master keys."""
        *older, last = reversed(self._sealing)
        for cipher in older:
            with contextlib.suppress(InvalidTag):
                return cipher.open(sealed, owner).decode()
        return last.open(sealed, owner).decode()

    @property
    def key_check(self) -> bytes:
        """The proof of the first master key."""
        return self._checks[0]

    def check(self, connection: Connection) -> None:
        """Leave the proof in a new database; raise `WrongMasterKey` when another key left one."""
        row = connection.execute(_KEY_CHECK).fetchone()
        if row is None:
            connection.execute(_LEAVE_KEY_CHECK, (self.key_check,))
            row = connection.execute(_KEY_CHECK).fetchone()  # another process may have been faster
        if row is None or not any(hmac.compare_digest(bytes(row[0]), check) for check in self._checks):
            raise WrongMasterKey(
                "the master key is not the one that this database was made with: give that key "
                "(CAIRN_MASTER_KEY, or DIR/secrets/master.key from your backup of the secrets)"
            )
