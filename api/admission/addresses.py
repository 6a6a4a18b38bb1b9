"""Where a request comes from, as far as that can be believed."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

_MAX_LENGTH: Final = 64  # characters that are remembered of what should be an address: the longest has 45
_HOUSEHOLD: Final = 64  # bits of an IPv6 address that one customer has at least (RFC 6177)


class Addresses:
    """Believes `X-Forwarded-For` as far as it was written by proxies of ours."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted
        self.trusts = lru_cache(maxsize=4_096)(self._trusts)
        self.household = lru_cache(maxsize=16_384)(_household)

    def of(self, peer: str, forwarded: str) -> str:
        """The address that counts: of the peer, or, when that is trusted, the last that no trusted proxy has."""
        if not self._trusted or not forwarded:
            return self.household(peer)
        hops = [hop.strip()[:_MAX_LENGTH] for hop in forwarded[-1_000:].split(",")]
        while hops and self.trusts(peer):
            peer = hops.pop()
        return self.household(peer)

    def _trusts(self, address: str) -> bool:
        found = _parsed(address)
        return found is not None and any(found in network for network in self._trusted)


def _household(address: str) -> str:
    found = _parsed(address)
    if isinstance(found, IPv6Address):
        return str(ip_network((found, _HOUSEHOLD), strict=False))
    return str(found or address)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(address)
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
