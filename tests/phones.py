"""A phone whose app is signed in, without a server that knows of it."""

from pathlib import Path
from typing import Final
from uuid import uuid4

from api.client import Phone

USER: Final = uuid4()
TOKENS: Final = {"user_id": str(USER), "access_token": "access", "refresh_token": "refresh"}
RENEWED: Final = {**TOKENS, "access_token": "new", "refresh_token": "newer"}


def signed_in(folder: Path | None = None) -> Phone:
    """In this folder, or in memory."""
    phone = Phone(folder)
    phone.keep_session(TOKENS)
    return phone
