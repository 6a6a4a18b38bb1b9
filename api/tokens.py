"""Access tokens: short-lived JWTs (RFC 7519), signed and checked with pinned algorithm and keys."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

import jwt

from domain.accounts import TokenRefused
from domain.measures import UserId

LIFE: Final = timedelta(minutes=15)
LATE_UPLOAD: Final = timedelta(days=30)  # a phone that was offline may still hand in its runs
_LEEWAY: Final = timedelta(seconds=60)  # between the clocks of servers
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "cairn"
_MAX_LENGTH: Final = 4_096  # characters; ours have about 300


class Bearer(NamedTuple):
    """Who an access token stands for."""

    user_id: UserId
    session_id: UUID


class Tokens:
    """Signs with the first key, accepts all: keys are rotated by putting a new one in front."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        self._signing, self._secret = keys[0]
        self._secrets = dict(keys)

    def issue(self, user_id: UserId, session_id: UUID, now: datetime) -> str:
        """A token for `LIFE` from now."""
        claims = {"sub": str(user_id), "sid": str(session_id), "aud": _AUDIENCE, "iat": now, "exp": now + LIFE}
        return jwt.encode(claims, self._secret, _ALGORITHM, headers={"kid": self._signing})

    def read(self, token: str, now: datetime, *, late: timedelta = timedelta()) -> Bearer:
        """Who holds the token; `TokenRefused` when it is not ours, or expired for longer than `late`."""
        if len(token) > _MAX_LENGTH:
            raise TokenRefused
        try:
            secret = self._secrets[str(jwt.get_unverified_header(token).get("kid"))]
            claims = jwt.decode(
                token,
                secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["sub", "sid", "exp", "iat"], "verify_exp": False, "verify_iat": False},
            )
            expires_at, issued_at = float(claims["exp"]), float(claims["iat"])
            bearer = Bearer(UserId(UUID(claims["sub"])), UUID(claims["sid"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError):
            raise TokenRefused from None
        at, leeway = now.timestamp(), _LEEWAY.total_seconds()
        if at > expires_at + leeway + late.total_seconds() or at < issued_at - leeway:
            raise TokenRefused
        return bearer
