"""Settings by environment, read in this one place, each checked with a clear message."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct

_KEY_BYTES: Final = 32


class SettingsError(Exception):
    """A setting is missing or not valid. The message names it and says what to do, and tells no secret."""


class TokenKey(Struct, frozen=True):
    """A key that signs access tokens, by the id that they carry."""

    kid: str
    secret: bytes


class Settings(Struct, frozen=True, kw_only=True):
    """All that a process needs to know."""

    data: Path
    database_url: str
    redis_url: str
    object_store_url: str
    master_key: bytes
    token_keys: tuple[TokenKey, ...]  # the first signs, all verify
    cursor_key: bytes
    log_level: str = "INFO"


def load_settings(data: Path, environ: Mapping[str, str]) -> Settings:
    """Settings from the environment; `SettingsError`."""
    keys = _text(environ, "CAIRN_TOKEN_KEYS").split(",")
    return Settings(
        data=data,
        database_url=_url(environ, "DATABASE_URL", ("postgresql", "postgres")),
        redis_url=_url(environ, "REDIS_URL", ("redis", "rediss", "unix")),
        object_store_url=_url(environ, "OBJECT_STORE_URL", ("file", "s3")),
        master_key=_key("CAIRN_MASTER_KEY", _text(environ, "CAIRN_MASTER_KEY")),
        token_keys=tuple(
            TokenKey(kid, _key("CAIRN_TOKEN_KEYS", secret)) for kid, _, secret in (key.partition(":") for key in keys)
        ),
        cursor_key=_key("CAIRN_CURSOR_KEY", _text(environ, "CAIRN_CURSOR_KEY")),
        log_level=environ.get("CAIRN_LOG_LEVEL", "INFO").upper(),
    )


def _text(environ: Mapping[str, str], name: str) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise SettingsError(f"{name} is not set: start ./cairn up in this data folder, or set it.")
    return value


def _url(environ: Mapping[str, str], name: str, schemes: tuple[str, ...]) -> str:
    value = _text(environ, name)
    if urlsplit(value).scheme not in schemes:
        raise SettingsError(f"{name} must begin with {' or '.join(f'{scheme}://' for scheme in schemes)}.")
    return value


def _key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise SettingsError(f"{name} must be the base64 of {_KEY_BYTES} bytes, as `openssl rand -base64 32` prints.")
    return key
