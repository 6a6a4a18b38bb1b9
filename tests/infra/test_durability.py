"""Connections that ack write durably, whatever the server is told meanwhile."""

import pytest
from psycopg import Connection
from psycopg.sql import SQL, Identifier, Literal

from infra.channels import Channels, value_of
from infra.views import ReadModels

_SHOWN = "SELECT current_setting('synchronous_commit')"


@pytest.mark.parametrize(("told", "used"), [("off", b"on"), ("on", b"on"), ("local", b"local")])
async def test_what_acks_waits_for_the_disk(database: Connection, database_url: str, told: str, used: bytes) -> None:
    name = Identifier(database.info.dbname)
    database.execute(SQL("ALTER DATABASE {} SET synchronous_commit = {}").format(name, Literal(told)))
    channels = Channels(database_url, {b"shown": _SHOWN.encode()})
    async with channels.one() as channel:
        assert value_of(await channel.run(b"shown", [], 30.0), 0, 0) == used
    channels.close()
    read_models = ReadModels(database_url, connections=1)
    await read_models.open()
    async with read_models.connection() as connection:
        assert await (await connection.execute(_SHOWN)).fetchone() == (used.decode(),)
    await read_models.close()
