"""What a Valkey or Redis says of itself, and whether that will do."""

import logging
from collections.abc import Mapping
from typing import Any, Final

_log = logging.getLogger(__name__)

_OLDEST_MAJOR: Final = 7  # Valkey says 7 of itself there: its own version is another field


def unfit(info: Mapping[str, Any]) -> str | None:
    """Why what answers INFO like this cannot be used; None when it can. What it does not say is taken to be right."""
    if info.get("role", "master") != "master":
        return "takes no writes: it is a replica, name its primary"
    version = str(info.get("redis_version", _OLDEST_MAJOR))
    if int(version.partition(".")[0]) < _OLDEST_MAJOR:
        return f"is of version {version}: {_OLDEST_MAJOR} or newer is needed"
    return None


def warn_of_evictions(info: Mapping[str, Any]) -> None:
    """Where hints of uploads may be dropped, these wait for the next sweep: slower, and nothing is lost."""
    policy = info.get("maxmemory_policy", "noeviction")
    if info.get("maxmemory", 0) and policy != "noeviction":
        told = "Valkey drops what was queued when its memory is full: set its maxmemory-policy from %s to noeviction"
        _log.warning(told, policy)
