"""The server: uvicorn's, with limits, and a way to leave that breaks no request off."""

import asyncio
import contextlib
import socket
import time
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from api.serving.connection import Connection
from api.serving.limits import Limits
from api.serving.state import AtOnce, State, nothing_at_once
from api.serving.watch import Watch
from api.telemetry import Telemetry

GRACE_SECONDS: Final = 25  # for requests under way when a signal comes; supervisors often end a process after 30


class Server(uvicorn.Server):
    """Serves an app until a signal, or until `should_exit` is set."""

    def __init__(
        self,
        app: ASGIApp,
        telemetry: Telemetry,
        limits: Limits,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log_level: str | None = None,
        drain_seconds: float = 0.0,
        at_once: AtOnce = nothing_at_once,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=Connection,
                ws="none",
                log_level=log_level,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # a forged X-Forwarded-For is ignored
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.server_state = self._state = State(limits, telemetry, at_once)
        self._drain_seconds = drain_seconds
        self._watching: asyncio.Task[None] | None = None

    @property
    def leaving(self) -> bool:
        """Whether it is about to stop, and should get no more requests."""
        return self._state.leaving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and watch the connections."""
        await super().startup(sockets)
        for listener in (one for server in self.servers for one in server.sockets):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self._state.limits.kernel_bytes)  # inherited
        self._watching = asyncio.create_task(Watch(self._state).run())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say that we leave, and serve on while that gets about. Then take no connections; answer what has begun."""
        self._state.leaving = True
        until = time.monotonic() + self._drain_seconds
        while time.monotonic() < until and not self.force_exit:
            await asyncio.sleep(0.1)
            await self.on_tick(0)  # it keeps the Date of answers
        await super().shutdown(sockets)
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
