import asyncio
import socket

import uvicorn
import uvloop

from api.listening import LISTENERS, listening


async def turns_until_all_are_in(sockets: list[socket.socket]) -> int:
    """Turns of the event loop until as many connections are accepted as there are listeners."""
    inside, turns = 0, 0

    class Guest(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal inside
            inside += 1
            transport.close()

    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(Guest, sock=one) for one in sockets]
    guests = [socket.create_connection(sockets[0].getsockname()) for _ in range(LISTENERS)]
    while inside < len(guests):
        await asyncio.sleep(0)
        turns += 1
    for guest in guests:
        guest.close()
    for server in servers:
        server.close()
    return turns


def test_many_connections_are_accepted_in_a_few_turns_of_the_loop() -> None:
    sockets = listening(uvicorn.Config("nobody", port=0, log_config=None))
    assert uvloop.run(turns_until_all_are_in(sockets)) < LISTENERS / 2
