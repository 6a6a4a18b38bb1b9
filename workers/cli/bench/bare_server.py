"""The least that a durable ack takes, beside ours in `cairn bench upload`: uvicorn, one file, one fsync.

python -m workers.cli.bench.bare_server FOLDER PORT
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import uvicorn

Message = MutableMapping[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """What is put is kept, unsealed and unchecked, and answered with 202. A GET shows that the server is up."""
    if scope["type"] != "http":
        return
    body, more, put = bytearray(), True, scope["method"] == "PUT"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    if put:
        await asyncio.to_thread(_keep, bytes(body))
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 202 if put else 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def _keep(body: bytes) -> None:
    with (Path(sys.argv[1]) / uuid4().hex).open("xb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning", access_log=False)
