"""Stands between a client and Postgres, and loses what it is told to lose."""

import asyncio
import ctypes
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

Data = Callable[[bytes], bool]  # whether to cut here, instead of passing these bytes on


def never(_data: bytes) -> bool:
    return False


class Proxy:
    """Cuts a connection where `request` or `answer` says so; each cut puts both back to passing everything."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self._given = conninfo_to_dict(database_url)
        self._listening = folder / f".s.PGSQL.{self._given['port']}"
        self.url = make_conninfo(database_url, host=str(folder))
        self.cut_request: Data = never
        self.cut_answer: Data = never
        self.late: asyncio.Event | None = None  # requests that are cut off reach the server once it is set
        self.cuts = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Proxy"]:
        server = await asyncio.start_unix_server(self._serve, self._listening)
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream = f"{self._given['host']}/.s.PGSQL.{self._given['port']}"
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(upstream)
        except OSError:  # the server is away, and so are we
            writer.close()
            return
        there = asyncio.create_task(self._requests(reader, server_writer, writer))
        back = asyncio.create_task(self._answers(server_reader, writer))
        with suppress(ConnectionError):
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        there.cancel()
        back.cancel()
        writer.close()
        server_writer.close()

    async def _requests(
        self, reader: asyncio.StreamReader, to: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(1 << 20):
            if self.cut_request(data):
                self.pass_all()
                self.cuts += 1
                client.close()
                if self.late is not None:
                    await self.late.wait()
                    to.write(data)
                    await to.drain()
                    await asyncio.sleep(0.2)  # until the server has done it
                return
            to.write(data)

    async def _answers(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 20):
            if self.cut_answer(data):
                self.pass_all()
                self.cuts += 1
                return
            to.write(data)

    def pass_all(self) -> None:
        """Lose nothing from now on."""
        self.cut_request = self.cut_answer = never


class Host:
    """A host with a Postgres, over TCP. It dies without a word, and another one takes its address."""

    def __init__(self, database_url: str) -> None:
        given = conninfo_to_dict(database_url)
        self._database_url = database_url
        self._upstream = f"{given['host']}/.s.PGSQL.{given['port']}"
        self._passing: list[asyncio.Task[None]] = []
        self._ends: list[asyncio.StreamWriter] = []
        self._lines: list[asyncio.StreamWriter] = []  # of its clients
        self.gone = False  # nobody has taken its address
        self.url = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Host"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = make_conninfo(
            self._database_url, host="127.0.0.1", port=str(server.sockets[0].getsockname()[1]), sslmode="disable"
        )
        try:
            yield self
        finally:
            server.close()
            self.die()
            for end in self._ends:
                end.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.append(writer)
        if self.gone:
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
        self._ends.append(server_writer)
        self._lines.append(writer)
        self._passing += [
            asyncio.create_task(_passed(reader, server_writer)),
            asyncio.create_task(_passed(server_reader, writer)),
        ]

    def die(self, *, deaf: bool = False) -> None:
        """Nothing passes any more on the connections that there are, and nobody ends them. `deaf`: nor does anybody
        acknowledge what comes, which is what a host does that has no power: Linux alone can act it.
        """
        for task in self._passing:
            task.cancel()
        for line in self._lines if deaf else ():
            filter_ = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0, drop it
            program = struct.pack("HL", 1, ctypes.addressof(filter_))
            line.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
        self._passing, self._lines = [], []


_SO_ATTACH_FILTER = 26  # asm-generic/socket.h


async def _passed(reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            to.write(data)
    to.close()
