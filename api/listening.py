"""A port that many may knock at in one turn of the event loop."""

import socket
from typing import Final

import uvicorn

LISTENERS: Final = 32


def listening(config: uvicorn.Config) -> list[socket.socket]:
    """One port, held many times. uvloop accepts one connection for each listener and turn (libuv 1.45 and later), and
    under load, when turns are long, phones that come anew would wait for seconds before anybody looks at them.
    """
    port = config.bind_socket()
    port.set_inheritable(False)
    return [port, *(port.dup() for _ in range(LISTENERS - 1))]
