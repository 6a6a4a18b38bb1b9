"""What a connection may take of the server's time and memory. Tests and operators' pages name these."""

import resource
from dataclasses import dataclass, field
from typing import Final

_OWN_FILES: Final = 256  # descriptors kept for Postgres, Valkey, the object store and the log
_MOST: Final = 50_000  # connections, where the system sets no limit: some 10 kB each


def connections_allowed() -> int:
    """As many as there may be open files, with some left for the process's own."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return _MOST
    return min(max(soft - _OWN_FILES, soft // 2), _MOST)


def allow_many_files() -> None:
    """Raise this process's limit of open files as far as it may: the usual 1024 are soon taken by slow clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST + _OWN_FILES
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Deadlines in seconds, sizes in bytes.

    The slowest phone that must get through has 8 kbit/s, which is 1,000 B/s, and a round trip of 2 s. A packet lost
    twice silences it for some 18 s (RFC 6298: 6 s and 12 s), and it still sends twice what `body_bytes` asks for.
    """

    head_seconds: float = 10.0  # from a request's first byte to the end of its headers; also for the first byte to come
    idle_seconds: float = (
        75.0  # between requests: longer than proxies keep theirs (60), lest they send into a closed one
    )
    crowded_idle_seconds: float = 5.0  # as above, once four fifths of `connections` are open
    body_seconds: float = 30.0  # in each of these windows, while the body is waited for,
    body_bytes: int = 6_000  # that many must come: 200 B/s
    answer_seconds: float = 30.0  # without the client's taking one byte of its answer
    linger_seconds: float = 2.0  # that a refused client has to read why; what it still sends is thrown away
    head_bytes: int = 32 * 1024  # of a head; also of trailers and chunk extensions
    header_lines: int = 100
    url_bytes: int = 8 * 1024
    drained_bytes: int = 64 * 1024 * 1024  # of a body that comes after its answer: more than the largest recording
    pipelined: int = 16  # requests that wait for the answer before theirs
    unread_bytes: int = 128 * 1024 * 1024  # of answers that wait for their clients, in all connections together
    kernel_bytes: int = 256 * 1024  # of answers, in the kernel for each connection: enough for 1 MB/s at 200 ms
    connections: int = field(default_factory=connections_allowed)
    tick_seconds: float = 1.0  # how often connections are looked at: a deadline may be two of that late
