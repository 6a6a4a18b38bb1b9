"""Builds of projections: which table sets there are, in which state, and which one is read."""

from collections.abc import Sequence
from typing import Final, LiteralString

from msgspec import Struct
from psycopg import Connection
from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from infra.faults import Fault
from infra.projecting.tables import fingerprint, make_tables
from projections import PROJECTIONS
from projections.projection import Projection

FOLLOWED: Final = ("catching up", "verifying", "ready", "active", "standby")  # states in which workers fill it
UNFINISHED: Final = ("planned", "building", "indexing", "catching up", "verifying")
DIFFERS: Final = "it differs"  # the reason of one that was compared with what is read
_AT_ONCE: Final = 10_000  # events that a new projection reads through live; past that it asks for a rebuild


class Build(Struct, frozen=True):
    """One set of tables. Positions are raw; None: not there yet."""

    schema_name: str
    name: str
    version: int
    build: int
    fingerprint: bytes
    state: str
    built_to: int | None = None
    verified_at: int | None = None
    reason: str | None = None

    def __str__(self) -> str:
        """As operators write it: `summaries v2`, and which build of it when it is not the first."""
        return f"{self.name} v{self.version}" + (f" (build {self.build})" if self.build > 1 else "")


class Pointer(Struct, frozen=True):
    """Which build is read, which one was before, and which one a share of the users reads."""

    name: str
    active: str
    standby: str | None = None
    shadow: str | None = None
    shadow_percent: int = 0


class Registry:
    """What the database says of builds. One connection, in autocommit."""

    def __init__(self, connection: Connection, projections: Sequence[Projection] = PROJECTIONS) -> None:
        self._connection = connection
        self.projections: Final = tuple(projections)
        self._defined = {(projection.name, projection.version): projection for projection in projections}

    def register(self) -> None:
        """Note what the code declares. On a young log new projections start at once; `Fault` for a changed shape.

        Repeatable, and two at the same time wait for each other.
        """
        with self._connection.transaction():
            self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('cairn projections'))")
            known = self.builds()
            pointers = self.pointers()
            for projection in self.projections:
                own = [build for build in known if (build.name, build.version) == _id(projection)]
                _refuse_other_shape(projection, own)
                if own or projection is not self.newest(projection.name):
                    continue
                if projection.name not in pointers and self._log_is_young():
                    pointers[projection.name] = self._start(projection)
                else:
                    self.insert(projection, 1, "planned")
            self._refuse_unknown(pointers)

    def _refuse_unknown(self, pointers: dict[str, Pointer]) -> None:
        """Code that declares neither what is read nor what is on standby could only fall behind."""
        builds = {build.schema_name: build for build in self.builds()}
        names = {projection.name for projection in self.projections}
        for pointer in pointers.values():
            read = [builds[schema] for schema in (pointer.active, pointer.standby) if schema is not None]
            if pointer.name in names and not any((build.name, build.version) in self._defined for build in read):
                raise Fault(
                    f"{read[0]} is what is read now, and this code does not declare it: keep it in "
                    f"projections/__init__.py beside the newer version until that one is cut over "
                    f"(cairn projections rebuild {pointer.name} --auto-cutover). If newer code made it, run that code."
                )

    def _log_is_young(self) -> bool:
        row = self._connection.execute(
            "SELECT count(*) FROM (SELECT FROM stored_events LIMIT %s) AS first", (_AT_ONCE + 1,)
        ).fetchone()
        return row is not None and int(row[0]) <= _AT_ONCE

    def _start(self, projection: Projection) -> Pointer:
        build = self.insert(projection, 1, "active")
        make_tables(self._connection, projection, build.schema_name, indexed=True)
        self.follow(build, 0)
        self._connection.execute(
            "INSERT INTO projection_pointers (name, active) VALUES (%s, %s)", (projection.name, build.schema_name)
        )
        return Pointer(projection.name, build.schema_name)

    def insert(self, projection: Projection, number: int, state: str) -> Build:
        """A new build."""
        schema = f"{projection.name}_v{projection.version}" + (f"_b{number}" if number > 1 else "")
        made = Build(schema, projection.name, projection.version, number, fingerprint(projection), state)
        self._connection.execute(
            "INSERT INTO projection_builds (schema_name, name, version, build, fingerprint, state) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            (schema, made.name, made.version, number, made.fingerprint, state),
        )
        return made

    def follow(self, build: Build, position: int) -> None:
        """Let workers fill the build from this position on."""
        shards = self.definition(build).shards
        self._connection.execute(
            "INSERT INTO projection_shards (schema_name, shard, position) "
            "SELECT %s, shard, %s FROM generate_series(0, %s) AS shard",
            (build.schema_name, position, shards - 1),
        )

    def newest(self, name: str) -> Projection:
        """The newest version that the code declares. `Fault` for a projection that there is not."""
        self.named(name)
        return max((one for one in self.projections if one.name == name), key=lambda one: one.version)

    def definition(self, build: Build) -> Projection:
        """The code of the build; `Fault` when it is not declared any more."""
        found = self._defined.get((build.name, build.version))
        if found is None:
            raise Fault(f"{build} is not declared in projections/__init__.py, so that nothing can be done with it.")
        return found

    def defined(self, build: Build) -> bool:
        """Whether this code declares it."""
        return (build.name, build.version) in self._defined

    def builds(self, name: str | None = None) -> list[Build]:
        """All that are not dropped, the oldest first."""
        with self._connection.cursor(row_factory=class_row(Build)) as cursor:
            return cursor.execute(_BUILDS, (name, name)).fetchall()

    def pointers(self) -> dict[str, Pointer]:
        """By the projections' names."""
        with self._connection.cursor(row_factory=class_row(Pointer)) as cursor:
            return {found.name: found for found in cursor.execute(_POINTERS)}

    def named(self, name: str) -> None:
        """`Fault` for a projection that there is not."""
        names = sorted({projection.name for projection in self.projections})
        if name not in names:
            raise Fault(f"there is no projection {name!r}: there are {', '.join(names)}.")

    def set_state(self, build: Build, state: str, **more: str | int | None) -> None:
        """Note where the build is in its life, with its position or reason."""
        columns = {"state": state, "reason": None, **more}
        self._connection.execute(
            SQL("UPDATE projection_builds SET {}, changed_at = now() WHERE schema_name = %s").format(
                SQL(", ").join(SQL("{} = %s").format(Identifier(name)) for name in columns)
            ),
            (*columns.values(), build.schema_name),
        )

    def claim(self, name: str) -> None:
        """Be the only one who fills or drops what is not read of a projection, until `release` or the connection's end.

        `Fault` while another command is.
        """
        claimed = self._connection.execute(
            "SELECT pg_try_advisory_lock(hashtext('cairn rebuild'), hashtext(%s))", (name,)
        ).fetchone()
        if claimed != (True,):
            raise Fault(f"{name} is being rebuilt by another command: wait for it, or stop that one first.")

    def release(self, name: str) -> None:
        """Let others."""
        self._connection.execute("SELECT pg_advisory_unlock(hashtext('cairn rebuild'), hashtext(%s))", (name,))

    def refuse_tried(self, builds: Sequence[Build]) -> None:
        """`Fault` for one that a share of the users reads: it is not to be dropped."""
        tried = {pointer.shadow: pointer for pointer in self.pointers().values()}
        for build in builds:
            if (pointer := tried.get(build.schema_name)) is not None:
                raise Fault(
                    f"{build} is read by {pointer.shadow_percent} % of the users: end that first "
                    f"(cairn projections shadow {pointer.name} --percent 0). Nothing was dropped."
                )

    def drop(self, build: Build) -> None:
        """The tables and everything that is known of them.

        Its shards first, as those who fill it lock them before its tables: the other way round is a deadlock.
        """
        with self._connection.transaction():
            self._connection.execute("DELETE FROM projection_builds WHERE schema_name = %s", (build.schema_name,))
            self._connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(build.schema_name)))


def _id(projection: Projection) -> tuple[str, int]:
    return projection.name, projection.version


def _refuse_other_shape(projection: Projection, builds: Sequence[Build]) -> None:
    shape = fingerprint(projection)
    for build in builds:
        if build.fingerprint != shape:
            raise Fault(
                f"the tables of {build} have another shape than projections/{projection.name}.py declares for version "
                f"{projection.version}: put the shape back, declare the new one as version {projection.version + 1} "
                f"beside it in projections/__init__.py, and run cairn projections rebuild {projection.name}."
            )


_BUILDS: Final[LiteralString] = """
    SELECT schema_name, name, version, build, fingerprint, state, built_to, verified_at, reason
    FROM projection_builds WHERE (%s::text IS NULL OR name = %s) ORDER BY name, version, build
"""
_POINTERS: Final[LiteralString] = "SELECT name, active, standby, shadow, shadow_percent FROM projection_pointers"
