"""How every build is doing, for operators."""

from collections.abc import Sequence
from typing import Final, LiteralString

from msgspec import Struct
from psycopg import Connection

from infra.projecting.builds import Registry
from infra.projecting.lag import LATE_SECONDS, Lag, lags
from infra.projecting.shards import LEASE_SECONDS


class Standing(Struct, frozen=True):
    """One build. `read`: by everybody, or by a share on trial. `trouble`: why its rows grow old; empty when they do
    not.
    """

    build: str
    schema_name: str
    state: str
    read: bool
    lag: Lag | None
    quarantined: int
    trouble: str
    reason: str
    shadowing: str


def standings(connection: Connection, registry: Registry) -> Sequence[Standing]:
    """All builds, by name and version."""
    behind, pointers = lags(connection), registry.pointers()
    counts = {str(schema): int(count) for schema, count in connection.execute(_QUARANTINED)}
    shadows = {
        str(schema): (int(compared), int(wrong), last) for schema, compared, wrong, last in connection.execute(_SHADOWS)
    }
    found = []
    for build in registry.builds():
        lag, pointer = behind.get(build.schema_name), pointers.get(build.name)
        shadowing = ""
        percent = pointer.shadow_percent if pointer is not None and pointer.shadow == build.schema_name else 0
        compared, wrong, last = shadows.get(build.schema_name, (0, 0, None))
        if percent or compared:
            shadowing = f"shadow {percent} %: {compared:,} reads compared, {wrong:,} differed" + (
                f" ({last})" if last else ""
            )
        found.append(
            Standing(
                str(build),
                build.schema_name,
                build.state,
                build.state == "active" or percent > 0,
                lag,
                counts.get(build.schema_name, 0),
                "" if lag is None else trouble(lag),
                build.reason or "",
                shadowing,
            )
        )
    return found


def trouble(lag: Lag) -> str:
    """Why rows grow old; empty: they do not."""
    if lag.stopped is not None:
        return f"STOPPED: {lag.stopped}"
    if lag.paused:
        return "PAUSED"
    if not lag.holders:
        return "NO WORKER"
    if lag.seconds <= LATE_SECONDS:
        return ""
    busy = f", busy with one page for {lag.busy_seconds:.0f} s" if lag.busy_seconds > LEASE_SECONDS else ""
    return f"LATE: {lag.seconds:.0f} s{busy}"


_QUARANTINED: Final[LiteralString] = "SELECT schema_name, count(*) FROM quarantined_keys GROUP BY schema_name"
_SHADOWS: Final[LiteralString] = "SELECT schema_name, compared, mismatched, last_mismatch FROM shadow_counts"
