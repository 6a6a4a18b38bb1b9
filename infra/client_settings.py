"""What operators tell apps, in Postgres: every version of it, the last one counts."""

import asyncio
import contextlib
import logging
from typing import Final, LiteralString

import msgspec
from psycopg import Connection

from domain.client_settings import ClientSettings, Told
from domain.errors import StoreUnavailable
from infra.faults import Fault
from infra.views import ReadModels

_log = logging.getLogger(__name__)

_SECONDS: Final = 5.0  # how old what a process knows may be, while Postgres answers


class CachedClientSettings:
    """Implements `api.services.ClientSettingsSource`. Nobody waits for it, and nobody who comes after a while gets
    what was known long ago: it is looked up all the time.
    """

    def __init__(self, database: ReadModels) -> None:
        self._database = database
        self._known = Told()
        self._watching: asyncio.Task[None] | None = None

    @property
    def current(self) -> Told:
        """As known now; the defaults until it is."""
        return self._known

    def watch(self) -> None:
        """Keep looking, until it is closed."""
        self._watching = asyncio.create_task(self._look_for_ever())

    async def _look_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SECONDS)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the loop's edge: nobody would look again
                _log.exception("the client settings stay as they were")

    async def look(self) -> None:
        """Look it up now. What is known stays, while Postgres is away or where newer code wrote what is there."""
        with contextlib.suppress(StoreUnavailable):
            async with self._database.connection() as connection:
                row = await (await connection.execute(_LATEST)).fetchone()
            try:
                self._known = _told(row)
            except msgspec.DecodeError as error:
                _log.error("version %s of the client settings cannot be read here: %s", row and row[0], error)

    async def close(self) -> None:
        """Stop looking."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)


def read_settings(connection: Connection) -> Told:
    """As stored. `Fault` where newer code wrote it."""
    row = connection.execute(_LATEST).fetchone()
    try:
        return _told(row)
    except msgspec.DecodeError as error:
        raise Fault(f"the settings were written by newer code ({error}): use that code's cairn.") from None


def write_settings(connection: Connection, settings: ClientSettings, after: int, operator: str) -> int:
    """Store them as the version after the one that they were made of; which one. `Fault` when another is there."""
    document = msgspec.json.encode(settings, order="deterministic").decode()
    made = connection.execute(_WRITE, (after + 1, document, operator))
    if made.rowcount != 1:
        raise Fault("another operator changed the settings just now: look at them (cairn config show), and try again.")
    return after + 1


def _told(row: tuple[int, str] | None) -> Told:
    return Told() if row is None else Told(row[0], msgspec.json.decode(row[1], type=ClientSettings))


_LATEST: Final[LiteralString] = "SELECT version, document FROM client_settings ORDER BY version DESC LIMIT 1"
_WRITE: Final[LiteralString] = """
    INSERT INTO client_settings (version, document, operator) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
