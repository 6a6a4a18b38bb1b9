"""Servers beside ours in `cairn bench api`: a bare ASGI app, and a plain route of the framework, on the same uvicorn.

python -m workers.cli.bench.hello asgi|route PORT
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import uvicorn
from fastapi import FastAPI

Message = MutableMapping[str, Any]


async def bare(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],  # noqa: ARG001 - ASGI's
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Says hello, whatever is asked."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b'{"hello":"world"}'})


_HEADERS = [(b"content-type", b"application/json"), (b"content-length", b"17")]

framework = FastAPI()


@framework.get("/{rest:path}")
async def hello(rest: str) -> dict[str, str]:
    """As the framework's first page shows it."""
    return {"hello": "world" if rest else "root"}


if __name__ == "__main__":
    app = bare if sys.argv[1] == "asgi" else framework
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[2]),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
