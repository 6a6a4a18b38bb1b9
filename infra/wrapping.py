"""By what the key of a sealed object is wrapped: the master key while it is the service's own, then its user's."""

from typing import Final

from cryptography.exceptions import InvalidTag

from domain.measures import UserId
from infra.keys import MasterKeys, UserCipher, Wrapped
from infra.sealed_stream import CorruptStream, Unwrap, Wrap, wrapped_key

_MASTER_ID_BYTES: Final = 8


def master_wrap(master: MasterKeys, owner_id: UserId) -> Wrap:
    """Keys of objects that nobody but this service is to open: with the id of the master key before them."""

    def wrap(key: bytes) -> bytes:
        wrapped = master.wrap(owner_id, key)
        return bytes.fromhex(wrapped.master_id) + (wrapped.wrapped or b"")

    return wrap


def master_unwrap(master: MasterKeys, owner_id: UserId) -> Unwrap:
    """`KeyUnusable` when it is not one of the master keys given."""

    def unwrap(wrapped: bytes) -> bytes:
        stored = Wrapped(wrapped[:_MASTER_ID_BYTES].hex(), wrapped[_MASTER_ID_BYTES:])
        return master.unwrap(owner_id, stored) or b""

    return unwrap


def is_wrapped_by(master: MasterKeys, sealed: bytes) -> bool:
    """Whether an object's key is wrapped by the first master key; `CorruptStream`."""
    wrapped = wrapped_key(sealed)
    return wrapped is not None and wrapped[:_MASTER_ID_BYTES].hex() == master.current


def users_wrap(cipher: UserCipher) -> Wrap:
    """Keys of objects that go with their user's key."""
    return lambda key: cipher.seal(key, b"recording")


def users_unwrap(cipher: UserCipher) -> Unwrap:
    """`CorruptStream` when the key was changed, or is another user's."""

    def unwrap(wrapped: bytes) -> bytes:
        try:
            return cipher.open(wrapped, b"recording")
        except InvalidTag:
            raise CorruptStream("its key does not open") from None

    return unwrap
