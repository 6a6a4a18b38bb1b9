"""Accounts in Postgres: sealed e-mail addresses, password hashes, sessions and hashed refresh tokens."""

import asyncio
import base64
import hashlib
import hmac
import logging
import secrets
from datetime import timedelta
from typing import Final
from uuid import UUID, uuid4

from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation

from domain.accounts import EmailTaken, SignedIn, SignInRefused, TokenRefused, UserIdTaken
from domain.errors import StoreUnavailable
from domain.measures import UserId
from domain.streams import StreamContended, Streams
from domain.user import User, user_stream_id
from infra.passwords import Passwords
from infra.timestamps import CLOCKS_DIFFER
from infra.vault import Vault
from infra.views import ReadModels

_log = logging.getLogger(__name__)

_REFRESH_LIFE: Final = timedelta(days=90)
_GRACE: Final = timedelta(seconds=30)  # for a client that never saw the answer to its refresh
_ACCESS_LIFE: Final = timedelta(minutes=15) + CLOCKS_DIFFER  # an access token's, by whichever clock
_LOOK_SECONDS: Final = 1.0


class PostgresAccounts:
    """Implements `domain.accounts.Accounts`."""

    def __init__(self, database: ReadModels, streams: Streams, vault: Vault, token_secret: bytes) -> None:
        self._database = database
        self._streams = streams
        self._vault = vault
        self._token_secret = token_secret
        self._passwords = Passwords()
        self._ended: frozenset[UUID] = frozenset()
        self._ended_meanwhile: frozenset[UUID] = frozenset()  # here, since the look began that may not have seen them
        self._watching: asyncio.Task[None] | None = None

    async def claim(self, email: str, password: str, user_id: UserId | None) -> UserId:
        """A claim whose registration was cut off a while ago, so that nobody can sign in with it, may be taken over."""
        claimed = user_id or UserId(uuid4())
        password_hash = await self._passwords.hash(password)
        row = (self._vault.email_hash(email), claimed, password_hash, self._vault.seal(email, claimed.bytes))
        found = await self._credentials(email)
        if found is None:
            async with self._database.changing() as connection:
                if (await connection.execute(_CLAIM, row)).rowcount == 1:
                    return claimed
            found = await self._credentials(email)  # another was faster
        if found is None:
            raise UserIdTaken
        holder, holders_hash, email_hash = found
        if user_id in (None, holder) and await self._passwords.verify(holders_hash, password):
            return await self._repeated(holder, user_id)
        if (await self._streams.load(User, user_stream_id(holder))).registered:
            raise EmailTaken
        try:
            async with self._database.changing() as connection:
                if (await connection.execute(_TAKE_OVER, (*row, email_hash, holder))).rowcount == 1:
                    return claimed
        except UniqueViolation:
            raise UserIdTaken from None
        raise StreamContended

    async def _credentials(self, email: str) -> tuple[UserId, str, bytes] | None:
        """Whose the address is, the hash of their password, and the hash under which the address is kept."""
        async with self._database.connection() as connection:
            found = await connection.execute(_CREDENTIALS, {"found": self._vault.email_hashes(email)})
            row = await found.fetchone()
        return None if row is None else (UserId(row[0]), str(row[1]), bytes(row[2]))

    async def _repeated(self, holder: UserId, user_id: UserId | None) -> UserId:
        """The holder asks again: fine with their own id, or while the registration is unfinished."""
        if (await self._streams.load(User, user_stream_id(holder))).registered:
            if user_id is None:
                raise EmailTaken
            return holder
        async with self._database.changing() as connection:  # nobody takes it over meanwhile
            if (await connection.execute(_RENEW, (holder,))).rowcount == 1:
                return holder
        raise StreamContended

    async def email(self, user_id: UserId) -> str | None:
        """See `domain.accounts.Accounts`."""
        async with self._database.connection() as connection:
            found = await (await connection.execute(_EMAIL, (user_id,))).fetchone()
        return None if found is None else self._vault.open(bytes(found[0]), user_id.bytes)

    async def authenticate(self, email: str, password: str) -> UserId:
        """See `domain.accounts.Accounts`."""
        found = await self._credentials(email)
        if not await self._passwords.verify(found[1] if found else None, password) or found is None:
            raise SignInRefused
        user_id = found[0]
        if not (await self._streams.load(User, user_stream_id(user_id))).registered:
            raise SignInRefused
        return user_id

    async def sign_in(self, user_id: UserId) -> SignedIn:
        """See `domain.accounts.Accounts`."""
        session_id, refresh_token = uuid4(), secrets.token_urlsafe(32)
        async with self._database.changing() as connection, connection.transaction():
            await connection.execute(
                "INSERT INTO sessions (session_id, user_id) VALUES (%s, %s)", (session_id, user_id)
            )
            await connection.execute(_ADD_REFRESH, (_hash(refresh_token), session_id, _REFRESH_LIFE))
        return SignedIn(user_id, session_id, refresh_token)

    async def refresh(self, refresh_token: str) -> SignedIn:
        """The next token follows from the last by a secret, so that a repeat within the grace gets the same one."""
        following = self._following(refresh_token)
        async with self._database.changing() as connection, connection.transaction():
            found = await (await connection.execute(_FOUND, (_GRACE, _hash(refresh_token)))).fetchone()
            if found is None:
                raise TokenRefused
            session_id, user_id, used, in_grace = found
            if not used:
                await connection.execute(
                    "UPDATE refresh_tokens SET used_at = now() WHERE token_hash = %s", (_hash(refresh_token),)
                )
                await connection.execute(_ADD_REFRESH, (_hash(following), session_id, _REFRESH_LIFE))
                return SignedIn(UserId(user_id), session_id, following)
            if in_grace and not await _is_used(connection, following):
                return SignedIn(UserId(user_id), session_id, following)
        _log.warning("a used refresh token came again: session %s is ended", session_id)
        await self.sign_out(session_id)
        raise TokenRefused

    def _following(self, refresh_token: str) -> str:
        digest = hmac.digest(self._token_secret, b"refresh " + refresh_token.encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    async def sign_out(self, session_id: UUID) -> None:
        """See `domain.accounts.Accounts`."""
        async with self._database.changing() as connection:
            await connection.execute(
                "UPDATE sessions SET revoked_at = now() WHERE session_id = %s AND revoked_at IS NULL", (session_id,)
            )
        self._ended |= {session_id}
        self._ended_meanwhile |= {session_id}

    def ended(self, session_id: UUID) -> bool:
        """See `domain.accounts.Accounts`."""
        return session_id in self._ended

    def watch(self) -> None:
        """Begin to look for sessions that ended in other processes."""
        self._watching = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while True:
            try:
                await self._find_ended()
            except StoreUnavailable:
                pass  # what is known stays known
            except Exception:  # noqa: BLE001 - the loop's edge: nobody would look again
                _log.exception("which sessions ended elsewhere is not known")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _find_ended(self) -> None:
        self._ended_meanwhile = frozenset()
        async with self._database.connection() as connection:
            found = await (await connection.execute(_ENDED, (_ACCESS_LIFE,))).fetchall()
        self._ended = self._ended_meanwhile.union(session_id for (session_id,) in found)

    async def close(self) -> None:
        """Stop looking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._passwords.close()


async def _is_used(connection: AsyncConnection, refresh_token: str) -> bool:
    found = await connection.execute(
        "SELECT 1 FROM refresh_tokens WHERE token_hash = %s AND used_at IS NULL", (_hash(refresh_token),)
    )
    return await found.fetchone() is None


def _hash(refresh_token: str) -> bytes:
    return hashlib.sha256(refresh_token.encode()).digest()  # of 256 random bits: no slow hash is needed


_CLAIM: Final = """
    INSERT INTO credentials (email_hash, user_id, password_hash, email_sealed) VALUES (%s, %s, %s, %s)
    ON CONFLICT DO NOTHING
"""
_TAKE_OVER: Final = """
    UPDATE credentials SET email_hash = %s, user_id = %s, password_hash = %s, email_sealed = %s, created_at = now()
    WHERE email_hash = %s AND user_id = %s AND created_at < now() - interval '1 minute' -- its registration is no more
"""
_RENEW: Final = "UPDATE credentials SET created_at = now() WHERE user_id = %s"
_CREDENTIALS: Final = """
    SELECT user_id, password_hash, email_hash FROM credentials WHERE email_hash = ANY(%(found)s)
    ORDER BY array_position(%(found)s, email_hash) LIMIT 1
"""
_EMAIL: Final = "SELECT email_sealed FROM credentials WHERE user_id = %s"
_ADD_REFRESH: Final = """
    INSERT INTO refresh_tokens (token_hash, session_id, expires_at) VALUES (%s, %s, now() + %s)
    ON CONFLICT DO NOTHING
"""
_FOUND: Final = """
    SELECT s.session_id, s.user_id, t.used_at IS NOT NULL, coalesce(t.used_at > now() - %s, false)
    FROM refresh_tokens t JOIN sessions s USING (session_id)
    WHERE t.token_hash = %s AND t.expires_at > now() AND s.revoked_at IS NULL
    FOR UPDATE OF t
"""
_ENDED: Final = "SELECT session_id FROM sessions WHERE revoked_at > now() - %s"
