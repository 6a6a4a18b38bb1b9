"""What is refused before the app sees it, as problems on the wire."""

import re
from collections.abc import Iterable
from typing import Final

import httptools

from api.problems import answer_problem, problem

_DETAILS: Final = {
    "request-too-slow": "The request did not come in time. Nothing was done: send it again.",
    "headers-too-large": "A request may have 100 header lines of 32 kB together, its first line included.",
    "address-too-long": "A request's path and query may have 8 kB together.",
    "malformed-request": "This is no HTTP/1.1 request, or its framing is ambiguous.",
    "method-unknown": "There is no such method here.",
    "http-version-unknown": "This server speaks HTTP/1.1 and HTTP/1.0.",
    "transfer-coding-unknown": "The only transfer coding here is `chunked`.",
}
_VERSIONS: Final = {"Invalid HTTP version", "Pause on PRI/Upgrade"}  # llhttp's words; the latter of HTTP/2's preface
_METHOD: Final = re.compile(rb"[A-Z]{1,32} ")


class Refused(Exception):
    """The request goes no further. Raised in callbacks of the parser, which hands it on as a context."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def code_of(error: httptools.HttpParserError, data: bytes | memoryview) -> str:
    """Why the parser stopped: at a method or a version that it does not know, or at something else (TLS, say)."""
    if isinstance(error, httptools.HttpParserInvalidMethodError) and _METHOD.match(data):
        return "method-unknown"
    return "http-version-unknown" if str(error) in _VERSIONS else "malformed-request"


def wire_bytes(code: str, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The whole answer, after which the connection is closed."""
    answer = answer_problem(problem(code, _DETAILS[code]), {"Connection": "close"})
    lines = [b"%s: %s\r\n" % header for header in (*headers, *answer.raw_headers)]
    return b"HTTP/1.1 %d \r\n%s\r\n%s" % (answer.status_code, b"".join(lines), answer.body)
