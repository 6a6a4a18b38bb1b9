"""Stands between a client and Postgres, and loses what it is told to lose."""

import asyncio
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
