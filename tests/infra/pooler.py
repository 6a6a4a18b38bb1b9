"""A pooler in transaction mode, as PgBouncer has one: with few sessions, of which it lends the one free for longest."""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

# Of the protocol (https://www.postgresql.org/docs/18/protocol-message-formats.html)
_VERSION = 3 << 16
_ENDS, _READY, _IDLE = (b"Q", b"S"), b"Z", b"I"
_TERMINATE = b"X"

_Session = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pooler:
    """So many sessions of this database, for any number of clients at its own address."""

    def __init__(self, folder: Path, database_url: str, sessions: int) -> None:
        self._given = conninfo_to_dict(database_url)
        self._listening = folder / f".s.PGSQL.{self._given['port']}"
        self._sessions = sessions
        self._free: asyncio.Queue[_Session] = asyncio.Queue()
        self._greeting = b""
        self.url = make_conninfo(database_url, host=str(folder))

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Pooler"]:
        for _ in range(self._sessions):
            self._free.put_nowait(await self._connect())
        server = await asyncio.start_unix_server(self._serve, self._listening)
        try:
            yield self
        finally:
            server.close()
            while not self._free.empty():
                self._free.get_nowait()[1].close()

    async def _connect(self) -> _Session:
        reader, writer = await asyncio.open_unix_connection(f"{self._given['host']}/.s.PGSQL.{self._given['port']}")
        names = {"user": self._given["user"], "database": self._given["dbname"], "client_encoding": "UTF8"}
        told = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
        writer.write(struct.pack("!II", len(told) + 8, _VERSION) + told)
        self._greeting = b""
        while not self._greeting.startswith(_READY, -6):
            self._greeting += await _message(reader)
        return reader, writer

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lent: _Session | None = None
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            writer.write(self._greeting)
            while not (message := await _message(reader)).startswith(_TERMINATE):
                lent = lent or await self._free.get()
                lent[1].write(message)
                if message.startswith(_ENDS) and await _answered(lent[0], writer) == _IDLE:
                    self._free.put_nowait(lent)
                    lent = None
        if lent is not None:
            lent[1].close()  # in a transaction: nobody else may have it
            self._free.put_nowait(await self._connect())
        writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def _answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Pass on what is answered until the session is ready again; in what state it is then."""
    while not (message := await _message(reader)).startswith(_READY):
        writer.write(message)
    writer.write(message)
    return message[5:]
