"""Commands in this process, on a test's database."""

import base64
from collections.abc import Callable
from pathlib import Path

from click import Command
from click.testing import CliRunner, Result

from tests.stores import marked

_KEY = base64.b64encode(b"m" * 32).decode()

Run = Callable[..., Result]


def running(command: Command, database_url: str, folder: Path, redis_url: str = "redis://127.0.0.1:1") -> Run:
    """Runs it with these arguments; without Valkey if none is named."""
    environ = {
        "DATABASE_URL": f"postgresql://?{database_url.replace(' ', '&')}",
        "REDIS_URL": redis_url,
        "OBJECT_STORE_URL": marked(folder).as_uri(),
        "CAIRN_MASTER_KEY": _KEY,
        "CAIRN_TOKEN_KEYS": f"k:{_KEY}",
        "CAIRN_CURSOR_KEY": _KEY,
        "CAIRN_DATA": str(folder),
    }
    return lambda *arguments: CliRunner().invoke(command, [str(one) for one in arguments], env=environ)
