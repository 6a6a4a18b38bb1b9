"""A real shared cache in front of an API that is away: pages are shown as they were, and never what was dropped."""

import asyncio
import logging
import time
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from domain.publishing import activity_key
from tests.network import Answer, Request, network
from tests.varnish import varnish

_log = logging.getLogger(__name__)

KEPT = {
    "Cache-Control": "public, max-age=0, s-maxage=60, stale-while-revalidate=30",
    "Surrogate-Key": f"{activity_key(UUID(int=1))} user-{UUID(int=2)}",
}


def hastened(vcl: str) -> str:
    """Kept for half a second, and shown for two more while it is asked for again."""
    ttl = "sub vcl_backend_response { if (beresp.http.Surrogate-Key) { set beresp.ttl = 0.5s; } }"
    return vcl.replace("30s", "2s").replace("import std;", f"import std;\n{ttl}")


async def test_what_is_kept_outlives_the_origin_and_never_a_purge(tmp_path: Path) -> None:
    answers: dict[str, Answer | None] = {"page": Answer(200, b"one", KEPT)}

    def pages(asked: list[Request]) -> int:
        return sum(request.line == f"GET {path}" for request in asked)

    path = "/v1/public/activities/x"

    def answer_to(request: Request) -> Answer | None:
        return Answer(200, b"", {}) if request.line == "GET /livez" else answers["page"]

    async with network(answer_to) as (origin, asked):
        with varnish(tmp_path, origin, hastened) as cache:
            async with httpx.AsyncClient(base_url=cache.url) as http:
                assert (await http.get(path)).content == b"one"
                answers["page"] = Answer(200, b"two", KEPT)
                await asyncio.sleep(0.7)
                assert (await http.get(path)).content == b"one"  # at once, and it is asked for again
                while (await http.get(path)).content != b"two":
                    await asyncio.sleep(0.02)
                for answers["page"] in (None, Answer(503, b"no", {"Cache-Control": "no-store"})):
                    await asyncio.sleep(3.0)
                    count = pages(asked)
                    answer = await http.get(path)
                    assert (answer.status_code, answer.content) == (200, b"two")
                    assert pages(asked) > count  # it was asked, and had nothing to say
                purged = await http.post(cache.purge_url, headers={"Surrogate-Key": activity_key(UUID(int=1))})
                assert purged.status_code == 200
                gone = await http.get(path)
                assert (gone.status_code, gone.json()["code"], gone.headers["Retry-After"]) == (503, "unavailable", "2")


class Origin:
    """An API that can be away in several ways."""

    def __init__(self) -> None:
        self.state = "well"
        self.body = b"one"
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        found: int = self._server.sockets[0].getsockname()[1]
        return found

    async def refuse(self) -> None:
        """Stop listening, as when no process is there."""
        assert self._server is not None
        self._server.close()
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._ends.add(writer)
        asked = await reader.readuntil(b"\r\n\r\n")
        if self.state == "frozen":
            return
        if self.state == "failing late":
            await asyncio.sleep(0.7)
        well = self.state == "well" or asked.startswith(b"GET /livez ")
        answer = Answer(200, self.body, KEPT) if well else Answer(503, b"", {})
        writer.write(bytes(answer))
        await writer.drain()
        writer.close()


@pytest.mark.parametrize("how", ["refusing", "frozen", "failing", "failing late"])
async def test_a_crowd_sees_pages_as_they_were_while_the_origin_is_away(tmp_path: Path, how: str) -> None:
    path, longest = "/v1/public/activities/x", 0.0

    async def visit(http: httpx.AsyncClient, seconds: float) -> set[tuple[int, bytes]]:
        nonlocal longest
        until, seen = time.monotonic() + seconds, set()
        while (begun := time.monotonic()) < until:
            answer = await http.get(path)
            seen.add((answer.status_code, answer.content if answer.is_success else b""))
            longest = max(longest, time.monotonic() - begun)
            await asyncio.sleep(0.05)
        return seen

    async def crowd(http: httpx.AsyncClient, seconds: float) -> set[tuple[int, bytes]]:
        return set[tuple[int, bytes]]().union(*await asyncio.gather(*(visit(http, seconds) for _ in range(20))))

    origin = Origin()
    port = await origin.listen()
    with varnish(tmp_path, f"http://127.0.0.1:{port}", hastened) as cache:
        async with httpx.AsyncClient(base_url=cache.url, timeout=30) as http:
            assert await crowd(http, 1.0) == {(200, b"one")}
            origin.state = how
            if how == "refusing":
                await origin.refuse()
            await asyncio.sleep(3.0)
            assert await crowd(http, 4.0) == {(200, b"one")}
            _log.info("%s: %.2f s for the slowest answer", how, longest)
            assert longest < 8  # one answer that does not come, not one after the other
            purged = await http.post(cache.purge_url, headers={"Surrogate-Key": activity_key(UUID(int=1))})
            assert purged.status_code == 200
            assert await crowd(http, 1.0) == {(503, b"")}  # however long pages are shown
            origin.state, origin.body = "well", b"two"
            if how == "refusing":
                await origin.listen(port)
            while (await http.get(path)).status_code != 200:
                await asyncio.sleep(0.02)
            assert await crowd(http, 1.0) == {(200, b"two")}
    await origin.refuse()
