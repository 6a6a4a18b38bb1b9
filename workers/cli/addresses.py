"""Addresses: whether a port is free, whether a server answers, and how to write one down without its password."""

import http.client
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from domain.errors import StoreUnavailable
from infra.faults import Fault
from infra.object_store import objects_at
from infra.store_mark import check_store
from infra.valkey_checks import unfit, warn_of_evictions

_EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - not bound here


def http_url(host: str, port: int) -> str:
    """Where an API on this host and port is reached from this machine."""
    reached = _EVERYWHERE.get(host, host)
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def require_free(host: str, port: int) -> None:
    """`Fault` when nothing can listen there."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.create_server((host, port), family=family):
            return
    except OSError as error:
        reason = str(error.strerror).partition(" (while ")[0]  # Python adds the address
        raise Fault(f"port {port} on {host} cannot be used ({reason}): choose another with --port or --host.") from None


def answers(host: str, port: int, path: str) -> bool:
    """Whether a GET there is answered with 200. No proxy of the user's environment is asked."""
    connection = http.client.HTTPConnection(_EVERYWHERE.get(host, host), port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def require_postgres(url: str) -> None:
    """`Fault` when no Postgres answers."""
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.Error as error:
        raise Fault(f"the Postgres of DATABASE_URL does not answer: {str(error).strip()}") from None


def require_valkey(url: str) -> None:
    """`Fault` when neither a Valkey nor a Redis answers, or one that will not do."""
    redis = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5)
    info: Mapping[str, Any] = {}
    try:
        with suppress(NoPermissionError):  # which is an answer
            redis.ping()
        with suppress(ResponseError):  # it answers, and does not tell what it is
            info = redis.info()
    except (RedisError, OSError) as error:
        raise Fault(f"the Valkey or Redis of REDIS_URL does not answer: {error}") from None
    finally:
        redis.close()
    if (reason := unfit(info)) is not None:
        raise Fault(f"the Valkey or Redis of REDIS_URL {reason}.")
    warn_of_evictions(info)


def require_store(database_url: str, url: str) -> None:
    """`Fault` when the object store does not answer, or is not the one of this database."""
    try:
        with psycopg.connect(database_url, connect_timeout=5, autocommit=True) as connection:
            check_store(connection, objects_at(url))
    except StoreUnavailable as away:
        raise Fault(f"the object store at {url} cannot be used: {away.__cause__}") from None
    except psycopg.OperationalError as error:
        raise Fault(f"the Postgres of DATABASE_URL does not answer: {str(error).strip()}") from None


def psql_address(url: str) -> str:
    """What to hand to psql: without passwords."""
    return make_conninfo(
        "", **{name: str(part) for name, part in conninfo_to_dict(url).items() if "password" not in name}
    )


def without_password(url: str) -> str:
    """The address with the password left out, and its options, of which one may be a password."""
    scheme, found, rest = url.partition("?")[0].partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{found}{user.partition(':')[0]}{at}{host}"
