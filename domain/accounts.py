"""Signing in: who may, and the tokens that stand for it. Secrets live in tables of their own, never in the log."""

import unicodedata
from typing import Protocol
from uuid import UUID

from msgspec import Struct

from domain.errors import DomainError
from domain.measures import UserId


def address_of(email: str) -> str:
    """One spelling of an address for all that are the same account's, whatever the keyboard makes an é of."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", email).strip().casefold())


def addresses_of(email: str) -> tuple[str, ...]:
    """All spellings that an account may be known by. The one of back then goes first: by it, each finds its own."""
    return tuple(dict.fromkeys((email.strip().casefold(), address_of(email))))


def passwords_of(password: str) -> tuple[str, ...]:
    """All spellings that may have been hashed: that of today (OpaqueString of RFC 8265, 4.2.2), and as it was sent,
    which was hashed before.
    """
    spaced = "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in password)
    return tuple(dict.fromkeys((unicodedata.normalize("NFC", spaced), password)))


class SignedIn(Struct, frozen=True):
    """A session of one device, and the one refresh token that continues it."""

    user_id: UserId
    session_id: UUID
    refresh_token: str


class Accounts(Protocol):
    """E-mail addresses, passwords and sessions."""

    async def claim(self, email: str, password: str, user_id: UserId | None) -> UserId:
        """Reserve the address for a new account, and return whose it is.

        The same address and password again give the same user. `EmailTaken`, `UserIdTaken` when it, or the id, is
        somebody else's; `StreamContended` while somebody else is about to register with it.
        """
        ...

    async def email(self, user_id: UserId) -> str | None:
        """The address of an account."""
        ...

    async def authenticate(self, email: str, password: str) -> UserId:
        """Whose these are; `SignInRefused` without saying which of the two is wrong."""
        ...

    async def sign_in(self, user_id: UserId) -> SignedIn:
        """Begin a session."""
        ...

    async def refresh(self, refresh_token: str) -> SignedIn:
        """The next token of the session. The last one again within 30 s gives the same; later it ends the session."""
        ...

    async def sign_out(self, session_id: UUID) -> None:
        """End the session. Ending it twice changes nothing."""
        ...

    def ended(self, session_id: UUID) -> bool:
        """Whether the session has ended, as of about a second ago at most."""
        ...


class EmailTaken(DomainError):
    """Another account has this e-mail address."""

    code = "email-taken"


class UserIdTaken(DomainError):
    """Another account has this user_id: make a new one."""

    code = "user-id-taken"


class SignInRefused(DomainError):
    """The e-mail address and the password do not belong together."""

    code = "sign-in-refused"


class TokenRefused(DomainError):
    """The token is unknown, expired, used up or ended: refresh it, else sign in again."""

    code = "token-refused"
