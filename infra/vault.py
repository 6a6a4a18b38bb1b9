"""What the master key protects outside the log: e-mail addresses, and the proof that it is the right key."""

import hashlib
import hmac
import os
from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from psycopg import Connection

from infra.faults import Fault

_NONCE_BYTES: Final = 12  # NIST SP 800-38D, 8.2.1


class WrongMasterKey(Fault):
    """The database was made with another master key. Its message says what to do."""


class Vault:
    """Keys derived from the master key (HKDF, RFC 5869), one for each use."""

    def __init__(self, master_key: bytes) -> None:
        self._hashing = _derive(master_key, b"cairn e-mail hash")
        self._sealing = AESGCM(_derive(master_key, b"cairn e-mail seal"))
        self._check = _derive(master_key, b"cairn key check")

    def email_hash(self, email: str) -> bytes:
        """The key under which an address is found again; without the master key it tells nothing."""
        return hmac.digest(self._hashing, email.strip().casefold().encode(), hashlib.sha256)

    def seal(self, text: str, owner: bytes) -> bytes:
        """Encrypt for an owner (AES-256-GCM): bytes moved to another owner's row do not open."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._sealing.encrypt(nonce, text.encode(), owner)

    def open(self, sealed: bytes, owner: bytes) -> str:
        """What was sealed for this owner."""
        return self._sealing.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner).decode()

    def check(self, connection: Connection) -> None:
        """Leave the proof in a new database; raise `WrongMasterKey` when another key left one."""
        connection.execute(
            "INSERT INTO key_checks (name, value) VALUES ('master', %s) ON CONFLICT DO NOTHING", (self._check,)
        )
        row = connection.execute("SELECT value FROM key_checks WHERE name = 'master'").fetchone()
        if row is None or not hmac.compare_digest(bytes(row[0]), self._check):
            raise WrongMasterKey(
                "the master key is not the one that this database was made with: give that key "
                "(CAIRN_MASTER_KEY, or DIR/secrets/master.key from your backup of the secrets)"
            )


def _derive(master_key: bytes, use: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=use).derive(master_key)
