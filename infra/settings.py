"""Settings by environment, read in this one place, each checked with a clear message."""

import base64
import binascii
import re
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from ssl import TLSVersion
from typing import Final
from urllib.parse import SplitResult, parse_qs, urlsplit

from msgspec import Struct, field
from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from infra.admission_settings import AdmissionSettings, load_admission
from infra.away import watched
from infra.faults import Fault
from infra.instance import find
from infra.secrets import load_secrets

_KEY_BYTES: Final = 32
_SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    "DATABASE_URL": ("postgresql", "postgres"),
    "REDIS_URL": ("redis", "rediss", "unix"),
    "OBJECT_STORE_URL": ("file", "s3"),
}
# What else the client takes would change how long is waited, and in which form answers come.
_VALKEY_OPTIONS: Final = ("client_name", "db", "health_check_interval", "password", "username")
_TLS_OPTIONS: Final = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
)
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")

KEY_NAMES: Final = ("CAIRN_MASTER_KEY", "CAIRN_TOKEN_KEYS", "CAIRN_CURSOR_KEY")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?")
LOG_FORMAT: Final = "%(levelname)s %(name)s: %(message)s"  # the supervisor adds who and when


class TokenKey(Struct, frozen=True):
    """A key that signs access tokens, by the id that they carry."""

    kid: str
    secret: bytes


class Cdn(Struct, frozen=True):
    """Shared caches that are told which pages to drop."""

    purge_urls: tuple[str, ...]  # of each
    header: tuple[str, str] | None  # name and value, to be let in with


class Settings(Struct, frozen=True, kw_only=True):
    """All that a process needs to know."""

    data: Path
    database_url: str
    redis_url: str
    object_store_url: str
    master_keys: tuple[bytes, ...]  # the first wraps, all unwrap
    token_keys: tuple[TokenKey, ...]  # the first signs, all verify
    cursor_key: bytes
    log_level: str
    admission: AdmissionSettings = field(default_factory=AdmissionSettings)
    cdn: Cdn | None = None  # None: there is none that is told of changes
    public_url: str | None = None  # of the site, without a slash at its end


def load_settings(data: Path, environ: MutableMapping[str, str]) -> Settings:
    """Settings from the environment, else from the instance and the secrets in the data folder. Where that leads to
    an embedded Postgres, what is said there of others is dropped.

    `Fault` names what is missing or not valid, says what to do, and tells no secret.
    """
    found = dict(load_secrets(data))
    running = find(data)
    if running is not None:
        if running.embedded_postgres and not environ.get("DATABASE_URL", "").strip():
            forget_others_postgres(environ)
        found["DATABASE_URL"] = running.database_url
        found["REDIS_URL"] = running.redis_url
        found["OBJECT_STORE_URL"] = running.object_store_url
    found |= {name: given for name in (*_SCHEMES, *KEY_NAMES) if (given := environ.get(name, "").strip())}
    for name in (*_SCHEMES, *KEY_NAMES):
        if name not in found:
            lacking = "there are no secrets" if name in KEY_NAMES else "no instance runs"
            raise Fault(f"{name} is not set, and {lacking} in {data}: start ./cairn up there, or set {name}.")
    for name in _SCHEMES:
        check_url(name, found[name])
    return Settings(
        data=data,
        database_url=watched(found["DATABASE_URL"]),
        redis_url=found["REDIS_URL"],
        object_store_url=found["OBJECT_STORE_URL"],
        master_keys=tuple(_key("CAIRN_MASTER_KEY", text.strip()) for text in found["CAIRN_MASTER_KEY"].split(",")),
        token_keys=_token_keys(found["CAIRN_TOKEN_KEYS"]),
        cursor_key=_key("CAIRN_CURSOR_KEY", found["CAIRN_CURSOR_KEY"]),
        log_level=log_level(environ),
        admission=load_admission(environ),
        cdn=_cdn(environ),
        public_url=_public_url(environ),
    )


def forget_others_postgres(environ: MutableMapping[str, str]) -> None:
    """Drop what libpq would take from the environment (PGSERVICE, PGOPTIONS, …), for who connects to an embedded
    Postgres: it is said of other servers of the user's, and keeps us from that one.
    """
    for name in [name for name in environ if name.startswith("PG")]:
        del environ[name]


def external_urls(environ: Mapping[str, str]) -> dict[str, str]:
    """The servers that the environment names, by variable, each of the right form; `Fault`."""
    given = {name: value for name in _SCHEMES if (value := environ.get(name, "").strip())}
    for name, value in given.items():
        check_url(name, value)
    return given


def check_url(name: str, value: str) -> None:
    """`Fault` when the value has not the form that this setting needs. It is not repeated: it may hold a password."""
    scheme = value.partition("://")[0]
    if scheme not in _SCHEMES[name]:
        forms = " or ".join(f"{known}://" for known in _SCHEMES[name])
        raise Fault(f"{name} must begin with {forms}.")
    try:
        if name == "DATABASE_URL":
            conninfo_to_dict(value)  # several hosts are allowed there, which urlsplit does not know
            return
        parts = urlsplit(value)
        _ = parts.port  # looked at when asked for
    except (ProgrammingError, ValueError):
        raise Fault(f"{name} is not an address: {scheme}://USER:PASSWORD@HOST:PORT/NAME is one.") from None
    if scheme == "file" and (parts.netloc or not parts.path.startswith("/")):
        raise Fault(f"{name} must name an absolute folder: file:///var/lib/cairn/objects.")
    if scheme == "s3" and not parts.netloc:
        raise Fault(f"{name} must name a bucket: s3://bucket/prefix.")
    if name == "REDIS_URL":
        _check_valkey(value, parts)


def _check_valkey(url: str, parts: SplitResult) -> None:
    options = _VALKEY_OPTIONS + (_TLS_OPTIONS if parts.scheme == "rediss" else ())
    if not set(parse_qs(parts.query, keep_blank_values=True)) <= set(options):
        raise Fault(f"REDIS_URL may have these options alone: {', '.join(options)}.")
    if parts.scheme != "unix" and not re.fullmatch(r"/?\d*", parts.path):
        raise Fault("REDIS_URL must name a database by its number: redis://HOST:PORT/0.")
    try:
        # it connects when it is first used
        ConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]  # redis-py's own
    except (RedisError, ValueError) as error:
        raise Fault(f"REDIS_URL has an option that is not valid: {error}") from None
    for number in parse_qs(parts.query).get("ssl_min_version", [])[:1]:  # as redis-py takes it
        _check_tls_version(int(number))


def _check_tls_version(number: int) -> None:
    try:
        TLSVersion(number)
    except ValueError:
        raise Fault(
            "REDIS_URL names no version of TLS by ssl_min_version: 771 is TLS 1.2, and 772 is TLS 1.3."
        ) from None


def log_level(environ: Mapping[str, str]) -> str:
    """CAIRN_LOG_LEVEL; `Fault`."""
    level = environ.get("CAIRN_LOG_LEVEL", "").strip().upper() or "INFO"
    if level not in _LEVELS:
        raise Fault(f"CAIRN_LOG_LEVEL must be one of {', '.join(_LEVELS)}.")
    return level


def _cdn(environ: Mapping[str, str]) -> Cdn | None:
    urls = environ.get("CAIRN_CDN_PURGE_URL", "").strip()
    name, colon, value = environ.get("CAIRN_CDN_PURGE_HEADER", "").strip().partition(":")
    if (name or colon) and not (_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value.strip())):
        raise Fault("CAIRN_CDN_PURGE_HEADER must be a header, NAME: VALUE.")
    if not urls:
        if name:
            raise Fault("CAIRN_CDN_PURGE_HEADER is of no use without CAIRN_CDN_PURGE_URL.")
        return None
    found = tuple(_web_url("CAIRN_CDN_PURGE_URL", url.strip()) for url in urls.split(","))
    return Cdn(found, (name, value.strip()) if name else None)


def _public_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("CAIRN_PUBLIC_URL", "").strip().rstrip("/")
    if not url:
        return None
    if set("?#") & set(_web_url("CAIRN_PUBLIC_URL", url)) or "@" in urlsplit(url).netloc:  # paths follow, all see it
        raise Fault(
            "CAIRN_PUBLIC_URL must be an address without a query, a fragment and a user: https://HOST/PATH is one."
        )
    return url


def _web_url(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        _ = parts.port  # looked at when asked for
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and not parts.fragment
    except ValueError:
        valid = False
    if not valid or any(character.isspace() for character in value):
        raise Fault(f"{name} must be an address: https://HOST/PATH is one.")
    return value


def _token_keys(text: str) -> tuple[TokenKey, ...]:
    keys = tuple(_token_key(part) for part in text.split(","))
    ids = [key.kid for key in keys]
    for kid in ids:
        if ids.count(kid) > 1:  # tokens signed with the one would be verified with the other
            raise Fault(f"CAIRN_TOKEN_KEYS has the id {kid} twice: give each key one of its own.")
    return keys


def _token_key(text: str) -> TokenKey:
    kid, colon, secret = text.strip().partition(":")
    if not (kid and colon):
        raise Fault("CAIRN_TOKEN_KEYS must be KEY_ID:BASE64, several with commas between them, the signing one first.")
    return TokenKey(kid, _key("CAIRN_TOKEN_KEYS", secret))


def _key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise Fault(f"{name} must be the base64 of {_KEY_BYTES} bytes, as `openssl rand -base64 32` prints.")
    return key
