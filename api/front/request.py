"""A request whose header lines are found by name: Starlette walks over all of them for each that is asked for."""

from collections.abc import Mapping, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request as StarletteRequest
from starlette.types import Receive, Scope

from domain.errors import DomainError

# Of what is read here, what may come in several lines, which are one list (RFC 9110, 5.3).
_LISTS: Final = frozenset(
    {b"accept-encoding", b"content-encoding", b"if-none-match", b"prefer", b"priority", b"x-forwarded-for"}
)
_ALONE: Final = frozenset({b"authorization", b"content-type", b"idempotency-key"})


class HeaderTwice(DomainError):
    """Authorization, Content-Type and Idempotency-Key may come once: nobody knows which of two was meant."""

    code = "malformed-request"


def by_name(lines: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Header lines by their names. Of others than lists that came twice, the last one counts. `HeaderTwice`."""
    found = dict(lines)
    if len(found) == len(lines):
        return found
    for name in _ALONE | _LISTS:
        values = [value for one, value in lines if one == name]
        if len(values) > 1:
            if name in _ALONE:
                raise HeaderTwice
            found[name] = b", ".join(values)
    return found


class HeadersByName(Headers):
    """Header lines by name, the same for the door and for the endpoint."""

    def __init__(self, scope: Scope, by_name: Mapping[bytes, bytes]) -> None:
        super().__init__(scope=scope)
        self._by_name = by_name

    def __getitem__(self, key: str) -> str:
        return self._by_name[key.lower().encode("latin-1")].decode("latin-1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key.lower().encode("latin-1") in self._by_name

    def get(self, key: str, default: str | None = None) -> str | None:  # type: ignore[override]
        """The line's value, or the default."""
        value = self._by_name.get(key.lower().encode("latin-1"))
        return default if value is None else value.decode("latin-1")


class Request(StarletteRequest):
    """Of ASGI. `by_name`: its header lines by their names in small letters, for who need not know them as text."""

    def __init__(self, scope: Scope, receive: Receive, by_name: Mapping[bytes, bytes]) -> None:
        super().__init__(scope, receive)
        self.by_name = by_name

    @property
    def headers(self) -> Headers:
        """Of Starlette; made when they are first asked for."""
        if not hasattr(self, "_headers"):
            self._headers = HeadersByName(self.scope, self.by_name)
        return self._headers
