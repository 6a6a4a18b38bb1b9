"""The API as a process: in which order it and others start does not matter."""

import asyncio
import base64
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from infra.processes import child_environ
from infra.settings import load_settings
from tests.recordings import gpx
from workers.cli.serving import migrate

KEY = base64.b64encode(b"k" * 32).decode()
SIGNING_IN = {"email": "anna@example.com", "password": "correct horse"}
USER = {**SIGNING_IN, "display_name": "Anna"}


def environ_of(database: str, redis_url: str, data: Path) -> dict[str, str]:
    """Of a process over these servers."""
    return {
        "DATABASE_URL": f"postgresql://?{database.replace(' ', '&')}",
        "REDIS_URL": redis_url,
        "OBJECT_STORE_URL": (data / "objects").as_uri(),
        "CAIRN_MASTER_KEY": KEY,
        "CAIRN_TOKEN_KEYS": f"k:{KEY}",
        "CAIRN_CURSOR_KEY": KEY,
    }


@asynccontextmanager
async def served(data: Path, environ: dict[str, str]) -> AsyncIterator[httpx.AsyncClient]:
    """From when it answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "api.main", "--port", str(port), "--data", str(data)]
    process = subprocess.Popen(command, env={**child_environ(), **environ})
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
            while True:
                assert process.poll() is None, "it has ended"
                try:
                    await http.get("/livez")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            yield http
            assert process.poll() is None, "it has ended"
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait)


async def test_before_the_tables_are_there_it_says_so_and_afterwards_it_serves(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    name = f"empty_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    environ = environ_of(make_conninfo(postgres_url, dbname=name), redis_url, tmp_path)
    async with served(tmp_path, environ) as http:
        while "run cairn migrate" not in (await http.get("/readyz")).text:
            await asyncio.sleep(0.05)
        for path, body in (("/v1/users", USER), ("/v1/sessions", SIGNING_IN)):
            answer = await http.post(path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
            assert "Retry-After" in answer.headers
        await asyncio.to_thread(migrate, load_settings(tmp_path, environ))
        assert (await http.post("/v1/users", json=USER)).status_code == 201
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)


async def test_a_server_that_loses_acked_writes_is_never_served_from(
    database: psycopg.Connection, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    name = Identifier(database.info.dbname)
    database.execute(SQL("ALTER DATABASE {} SET synchronous_commit = off").format(name))
    environ = environ_of(database_url, redis_url, tmp_path)
    command = [sys.executable, "-P", "-m", "api.main", "--port", "0", "--data", str(tmp_path)]
    ended = subprocess.run(command, env={**child_environ(), **environ}, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "synchronous_commit = off" in ended.stderr
    assert "running" not in ended.stderr.lower()


async def test_while_the_disk_of_the_store_is_not_mounted_uploads_come_later(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    environ = environ_of(database_url, redis_url, tmp_path)
    async with served(tmp_path, environ) as http:
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.05)
        user = (await http.post("/v1/users", json=USER)).json()
        http.headers["Authorization"] = f"Bearer {user['access_token']}"
        run, sent = f"/v1/activities/{uuid4()}", {"Content-Type": "application/gpx+xml"}
        (tmp_path / "objects").rename(tmp_path / "unmounted")
        refused = await http.put(run, content=gpx(), headers=sent)
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        while "is its disk mounted" not in (await http.get("/readyz")).text:
            await asyncio.sleep(0.05)
        assert not (tmp_path / "objects").exists()
        (tmp_path / "unmounted").rename(tmp_path / "objects")
        assert (await http.put(run, content=gpx(), headers=sent)).status_code == 202
