"""Which limits a request counts against: of its device and of all its user's devices, or of its address."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

from api.admission.gcra import Claim, Rate, Taken
from api.admission.kinds import Kind

_DEVICES: Final = 4  # devices' worth for a user: what an app says of its device is not proven
_HASH_BYTES: Final = 16


class Told(NamedTuple):
    """RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10), and both as they are on the wire."""

    lines: Sequence[tuple[bytes, bytes]]
    packed: bytes


class Counted(NamedTuple):
    """Limits that a request counts against, and their keys: all of one user or address, so of one cluster slot."""

    rates: tuple[Rate, ...]
    claims: tuple[Claim, ...]
    user_id: UUID | None = None

    def fields(self, taken: Taken) -> Mapping[str, str]:
        """What is told, for a problem's answer."""
        (_, policy), (_, left) = self.told(taken).lines
        return {"RateLimit-Policy": policy.decode(), "RateLimit": left.decode()}

    def told(self, taken: Taken) -> Told:
        """What the answer to a request says, of the tightest limit."""
        now, tightest, least = taken.now, 0, -1
        for number, rate in enumerate(self.rates):
            left = rate.left(taken.arrivals[number], now)
            if least < 0 or left < least:
                tightest, least = number, left
        rate = self.rates[tightest]
        return _told(rate, least, rate.until(taken.arrivals[tightest], now, least))


@lru_cache(maxsize=16_384)
def _told(rate: Rate, left: int, until: int) -> Told:
    now = f'"{rate.name}";r={left};t={until}' if until else f'"{rate.name}";r={left}'
    lines = (b"ratelimit-policy", rate.policy.encode()), (b"ratelimit", now.encode())
    return Told(lines, b"".join(b"%s: %s\r\n" % line for line in lines))


class Rates:
    """Knows rates by name (`infra/admission_settings.py` has them). Addresses are kept as hashes under a secret."""

    def __init__(self, quotas: Mapping[str, tuple[int, int]], secret: bytes) -> None:
        self._rates = {name: Rate(name, *quota) for name, quota in quotas.items()}
        self._users = {kind: _all_devices(kind, *quotas[kind]) for kind in Kind}
        self._secret = secret[:64]
        self.of_user = lru_cache(maxsize=16_384)(self._of_user)
        self.of_other = lru_cache(maxsize=16_384)(self._of_other)

    def _of_user(self, kind: Kind, user_id: UUID, device: UUID | None) -> Counted:
        """Of a signed-in user's device."""
        key = f"cairn:{{{user_id.hex}}}:{kind.value}"
        mine, ours = self._rates[kind], self._users[kind]
        claims = (mine.claim(f"{key}:{device.hex if device else ''}"), ours.claim(key))
        return Counted((mine, ours), claims, user_id)

    def _of_other(self, name: str, whose: str) -> Counted:
        """Of an address, or of an e-mail address."""
        digest = hashlib.blake2b(whose.encode(), digest_size=_HASH_BYTES, key=self._secret).hexdigest()
        rate = self._rates[name]
        return Counted((rate,), (rate.claim(f"cairn:{{{digest}}}:{name}"),))


def _all_devices(kind: Kind, quota: int, window: int) -> Rate:
    return Rate(f"{kind}-all-devices", _DEVICES * quota, window)
