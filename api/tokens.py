"""Access tokens: short-lived JWTs (RFC 7519), signed and checked with pinned algorithm and keys."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, NamedTuple
from uuid import UUID

import jwt

from domain.accounts import TokenRefused
from domain.measures import UserId

LIFE: Final = timedelta(minutes=15)
LATE_UPLOAD: Final = timedelta(days=30)  # a phone that was offline may still hand in its runs
_LEEWAY: Final = 60.0  # seconds between the clocks of servers
_ALGORITHM: Final = "HS256"
_AUDIENCE: Final = "cairn"
_MAX_LENGTH: Final = 1_024  # bytes of a header that is remembered, whoever sent it; ours have about 300
_BEARER: Final = "bearer "
_KNOWN: Final = 50_000  # checked tokens that are remembered: some 25 MB


class Bearer(NamedTuple):
    """Who an access token stands for."""

    user_id: UserId
    session_id: UUID


class Known(NamedTuple):
    """A token that was checked, with its times in seconds since 1970."""

    bearer: Bearer
    issued_at: float
    expires_at: float


def token_of(authorization: bytes) -> str:
    """The token in the header; empty where there is none, or one too long to be ours."""
    return "" if len(authorization) > _MAX_LENGTH else _token_of(authorization)


@lru_cache(maxsize=16_384)
def _token_of(authorization: bytes) -> str:
    text = authorization.decode("latin-1")
    return text[len(_BEARER) :].strip() if text[: len(_BEARER)].lower() == _BEARER else ""


class Tokens:
    """Signs with the first key, accepts all: keys are rotated by putting a new one in front."""

    def __init__(self, keys: Sequence[tuple[str, bytes]]) -> None:
        self._signing, self._secret = keys[0]
        self._secrets = dict(keys)
        self._known: OrderedDict[str, Known] = OrderedDict()  # checking a signature costs 50 µs

    def issue(self, user_id: UserId, session_id: UUID, now: datetime) -> str:
        """A token for `LIFE` from now."""
        claims = {"sub": str(user_id), "sid": str(session_id), "aud": _AUDIENCE, "iat": now, "exp": now + LIFE}
        return jwt.encode(claims, self._secret, _ALGORITHM, headers={"kid": self._signing})

    def read(self, token: str, now: datetime, *, late: timedelta = timedelta()) -> Bearer:
        """Who holds the token; `TokenRefused` when it is not ours, or expired for longer than `late`, or issued so far
        ahead: the clock that it was issued by may have been another server's.
        """
        bearer = self.known(token, now.timestamp(), late.total_seconds())
        if bearer is not None:
            return bearer
        known = self._checked(token)
        self._known[token] = known
        if len(self._known) > _KNOWN:
            self._known.popitem(last=False)
        bearer = self.known(token, now.timestamp(), late.total_seconds())
        if bearer is None:
            raise TokenRefused
        return bearer

    def known(self, token: str, at: float, late_seconds: float = 0.0) -> Bearer | None:
        """Who holds a token that was checked before, if it is good at this time."""
        known = self._known.get(token)
        leeway = _LEEWAY + late_seconds
        if known is None or not known.issued_at - leeway <= at <= known.expires_at + leeway:
            return None
        return known.bearer

    def _checked(self, token: str) -> Known:
        try:
            secret = self._secrets[str(jwt.get_unverified_header(token).get("kid"))]
            claims = jwt.decode(
                token,
                secret,
                algorithms=[_ALGORITHM],
                audience=_AUDIENCE,
                options={"require": ["sub", "sid", "exp", "iat"], "verify_exp": False, "verify_iat": False},
            )
            bearer = Bearer(UserId(UUID(str(claims["sub"]))), UUID(str(claims["sid"])))
            return Known(bearer, float(claims["iat"]), float(claims["exp"]))
        except (jwt.InvalidTokenError, KeyError, ValueError, TypeError, OverflowError):
            raise TokenRefused from None
