"""How much the API lets in: settings by environment, with defaults for apps on phones."""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from types import MappingProxyType
from typing import Final

from msgspec import Struct, field

from infra.faults import Fault

# name: (requests at once, seconds in which as many come free again). A launch is a burst; a phone that was offline for
# two weeks hands in hundreds of runs; many phones share one address.
RATES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        "recording": (240, 60),
        "command": (120, 60),
        "read": (300, 60),
        "prefetch": (600, 120),
        "stats": (120, 60),
        "anonymous": (600, 60),
        "refresh": (600, 60),
        "registration": (120, 600),
        "sign-in": (120, 600),
        "password": (30, 3600),
    }
)
_MOST_QUOTA: Final = 1_000_000
_MOST_WINDOW: Final = 86_400

Network = IPv4Network | IPv6Network


class AdmissionSettings(Struct, frozen=True, kw_only=True):
    """Rates by name, bounds for the limit of requests at once in a process, and whose X-Forwarded-For is believed."""

    rates: Mapping[str, tuple[int, int]] = field(default_factory=lambda: dict(RATES))
    least: int = 32
    most: int = 1024
    trusted_proxies: tuple[Network, ...] = ()


def load_admission(environ: Mapping[str, str]) -> AdmissionSettings:
    """CAIRN_RATE_LIMITS, CAIRN_CONCURRENCY, CAIRN_TRUSTED_PROXIES, each over its default; `Fault`."""
    least, most = _bounds(environ.get("CAIRN_CONCURRENCY", "").strip())
    return AdmissionSettings(
        rates={**RATES, **dict(_rate(text) for text in _listed(environ, "CAIRN_RATE_LIMITS"))},
        least=least,
        most=most,
        trusted_proxies=tuple(_network(text) for text in _listed(environ, "CAIRN_TRUSTED_PROXIES")),
    )


def _listed(environ: Mapping[str, str], name: str) -> list[str]:
    return [text.strip() for text in environ.get(name, "").split(",") if text.strip()]


def _rate(text: str) -> tuple[str, tuple[int, int]]:
    name, _, rate = text.partition("=")
    quota, _, window = rate.partition("/")
    if name not in RATES or not (_whole(quota, _MOST_QUOTA) and _whole(window, _MOST_WINDOW)):
        raise Fault(
            f"CAIRN_RATE_LIMITS must be NAME=REQUESTS/SECONDS, several with commas between them. "
            f"The names: {', '.join(RATES)}."
        )
    return name, (int(quota), int(window))


def _bounds(text: str) -> tuple[int, int]:
    if not text:
        return AdmissionSettings().least, AdmissionSettings().most
    least, _, most = text.partition("-")
    if not (_whole(least, _MOST_QUOTA) and _whole(most, _MOST_QUOTA) and int(least) <= int(most)):
        raise Fault("CAIRN_CONCURRENCY must be LEAST-MOST, two whole numbers such as 32-1024.")
    return int(least), int(most)


def _whole(text: str, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 0 < int(text) <= most


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise Fault("CAIRN_TRUSTED_PROXIES must be addresses or networks, such as 10.0.0.0/8, with commas.") from None
