"""HTTP as a phone needs it: bounded, without memory, and to the server only."""

import time
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

_LARGEST_BYTES: Final = 64 * 1024 * 1024  # unpacked; the track of the largest recording is shorter
_SLOWEST: Final = 500.0  # bytes a second: half of 8 kbit/s. Timeouts are of each read, and a drip would never meet one
# no proxy of the environment stands between this machine and itself
_DIRECT: Final = {f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}


def connect(base_url: str, name: str, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    """Connections to one server. Redirects are not followed: the token would go with them. Nor is a cookie kept: ours
    has none, and those of a captive portal would be sent to it.
    """
    return httpx.AsyncClient(
        base_url=f"{base_url.rstrip('/')}/v1",
        headers={"Cairn-Client": name},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        timeout=30.0,
        mounts=_DIRECT,
        transport=transport,
    )


async def fetch(http: httpx.AsyncClient, request: httpx.Request) -> httpx.Response:
    """The whole answer, unpacked, with the headers that can be sent back. `httpx.RequestError`: there is none, or it
    cannot be unpacked, or does not end, or drips.
    """
    answer = await http.send(request, stream=True)
    began, patience = time.monotonic(), request.extensions["timeout"]["read"]
    body = bytearray()
    try:
        async for piece in answer.aiter_bytes():
            body += piece
            if time.monotonic() - began > patience + answer.num_bytes_downloaded / _SLOWEST:
                raise httpx.ReadTimeout("slower than any network", request=request)
            if len(body) > _LARGEST_BYTES:
                raise httpx.DecodingError("longer than any answer of the server", request=request)
    finally:
        await answer.aclose()
    told = answer.headers.multi_items()
    headers = [(name, value) for name, value in told if name != "content-encoding" and value.isascii()]
    return httpx.Response(answer.status_code, headers=headers, content=bytes(body), request=request)
