"""Rows made anew from the log in tables that are live: of chosen users, and of what was quarantined."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from itertools import islice
from typing import Final, LiteralString
from uuid import UUID

import psycopg
from msgspec import Struct
from msgspec.structs import replace
from psycopg import Connection
from psycopg.rows import class_row

from domain.events.event import Recorded
from domain.measures import UserId
from infra.event_store.inspection import Inspection
from infra.event_store.reader import LogReader, Parked
from infra.event_store.rows import Row
from infra.faults import Fault
from infra.keys import MasterKeys
from infra.positions import to_token
from infra.projecting.builds import FOLLOWED, Build, Registry
from infra.projecting.folding import Folder
from infra.projecting.holding import alone, locked_together
from infra.projecting.leaving import Concerned, let_go, parked_owners, streams_hung_on, unread_tables
from infra.projecting.quarantine import Quarantined, note_faults, quarantined
from infra.projecting.refold import Part, Refold, left_out
from infra.projecting.refolded import note_refolded
from infra.projecting.shards import change_shards, lock_shards
from infra.projecting.tables import prepare, stores
from projections.projection import Change

_WRITTEN: Final = 500  # rows at once: some have a kilobyte
_DERIVED: Final = 50  # owners at once, whose feeds have up to 2,000 entries each: workers wait for tenths of a second


class Healed(Struct, frozen=True):
    """What was made anew in one build."""

    build: str
    owners: int
    rows: int
    still_quarantined: int
    left_out: int = 0  # owners whose rows stay as they are: a stream that concerns them cannot be read


class Skipped(Struct, frozen=True):
    """An event that a projection leaves out, and why."""

    name: str
    position: int
    reason: str
    skipped_at: datetime


class Healer:
    """Works on live builds: workers wait for a moment. Two connections, in autocommit."""

    def __init__(self, connection: Connection, reading: Connection, registry: Registry, master: MasterKeys) -> None:
        self._connection = prepare(connection)
        self._reading = reading
        self._registry = registry
        self._master = master

    def quarantined(self, name: str | None = None) -> list[Quarantined]:
        """The quarantined keys of a projection, or of all."""
        return quarantined(self._connection, [build.schema_name for build in self._registry.builds(name)])

    def parked(self) -> list[Parked]:
        """The streams of accounts that are there which are held back because an event of theirs cannot be read."""
        missed = {stream for streams in parked_owners(self._reading).values() for stream in streams}
        return [parked for parked in self._all_parked() if parked.stream_id in missed]

    def _all_parked(self) -> list[Parked]:
        return list(LogReader(self._reading, self._master).parked().values())

    def heal(self, name: str | None = None) -> list[Healed]:
        """Make the rows of all owners with a quarantined key anew, and let streams go on that can be read now.

        What fails again stays in quarantine, which is told. Whom a stream concerns that still cannot be read is left
        out, with all streams and keys that concern them: rows made anew would lack what it said.
        """
        return self._heal(name, [])

    def _heal(self, name: str | None, rows: Sequence[Row]) -> list[Healed]:
        """With the rows of those whom these events concern."""
        readable = self._readable()
        inspection = Inspection(self._reading, self._master)
        by_stream = {
            parked.stream_id: self._owners_touched([list(inspection.stream(parked.stream_id))]) for parked in readable
        }
        touched = self._owners_touched([rows])
        for found in by_stream.values():
            for projection, concerned in found.items():
                touched[projection] = touched.get(projection, set()) | concerned
        healed = []
        for build in self._followed(name if not readable else None):
            owners = {
                found.owner_id for found in self.quarantined(build.name) if found.schema_name == build.schema_name
            }
            owners |= touched.get((build.name, build.version), set())
            if owners:
                healed.append((build, owners))
        unparked = {
            parked.stream_id: {parked.owner_id}.union(*by_stream[parked.stream_id].values()) for parked in readable
        }
        return self._refill(healed, unparked)

    def skip(self, name: str, position: int, reason: str) -> list[Healed]:
        """Have a projection leave out an event that its fold fails at, in sums with the later ones of its stream, live
        and in every rebuild, and make the rows of those whom they concern anew.

        `Fault` for any other event: of one that is sound, runners would miss what it says. `Fault` as well where a
        stream of those whom they concern cannot be read.
        """
        failing = {found.position for found in self.quarantined(name)}
        if position not in failing | {found.position for found in self.skipped(name)}:
            raise Fault(
                f"no key of {name} is quarantined at {to_token(position)}, and only what fails can be left out: "
                f"cairn projections quarantine list {name} names it."
            )
        rows = self._stream_from(position)
        self._refuse_unreadable(set[UUID]().union(*self._owners_touched([rows]).values()))
        self._connection.execute(_SKIP, (name, position, reason))
        return self._heal(name, rows)

    def take_back(self, name: str, position: int) -> list[Healed]:
        """Let a projection fold an event again that it was to leave out. `Fault` when it was not, or where a stream of
        those whom it concerns cannot be read.

        May be cut off: the same once more ends it. What its fold still fails at is quarantined again.
        """
        if position not in {found.position for found in self.skipped(name)}:
            raise Fault(
                f"{name} does not leave out {to_token(position)}: see cairn projections quarantine list {name}."
            )
        touched = self._owners_touched([self._stream_from(position)])
        wanted = [(build, touched.get((build.name, build.version), set())) for build in self._followed(name)]
        return self._refill([pair for pair in wanted if pair[1]], {}, (name, position), readable=True)

    def skipped(self, name: str | None = None) -> list[Skipped]:
        """What projections leave out, of one or of all."""
        with self._connection.cursor(row_factory=class_row(Skipped)) as cursor:
            return cursor.execute(_SKIPPED, (name, name)).fetchall()

    def _stream_from(self, position: int) -> list[Row]:
        """The event and the later ones of its stream."""
        inspection = Inspection(self._reading, self._master)
        streams = [inspection.stream(row.stream_id) for row in inspection.at(position)]
        return [row for stream in streams for row in stream if row.position >= position]

    def rebuild_owners(self, name: str | None, owners: Collection[UUID]) -> list[Healed]:
        """Make all rows that belong to these users anew, in every build that is filled.

        `Fault` where a stream of theirs cannot be read, or one that rows of others hang on: what it said is in the
        rows, and not in those made anew.
        """
        return self._refill([(build, set(owners)) for build in self._followed(name)], {}, readable=True)

    def _refuse_unreadable(self, owners: Collection[UUID]) -> None:
        found = parked_owners(self._reading)
        lines = [f"stream {stream} of user {owner}" for owner in owners for stream in found.get(owner, ())]
        if lines:
            raise Fault(
                f"{', '.join(lines)} cannot be read, and rows that have what it said would be lost: cairn events show "
                "STREAM says why; once that is mended, cairn projections heal makes these users' rows anew."
            )

    def _refuse_unread_tables(self, build: Build) -> None:
        if tables := unread_tables(self._reading, self._registry.definition(build)):
            raise Fault(
                f"rows of {build} in {', '.join(tables)} hang on streams of others, of which some cannot be read, and "
                f"what these said would be lost: cairn projections quarantine list names them. Once they are mended "
                f"and healed, repeat this command; until then, name other projections."
            )

    def _followed(self, name: str | None) -> list[Build]:
        return [
            build for build in self._registry.builds(name) if build.state in FOLLOWED and self._registry.defined(build)
        ]

    def _readable(self) -> list[Parked]:
        """Parked streams all of whose events can be read by now."""
        inspection = Inspection(self._reading, self._master)
        return [
            parked
            for parked in self._all_parked()
            if not any(seen.problem for seen in inspection.seen(list(inspection.stream(parked.stream_id))))
        ]

    def _owners_touched(self, streams: Sequence[Sequence[Row]]) -> dict[tuple[str, int], set[UUID]]:
        """Whose rows these events concern, by projection."""
        inspection, found = Inspection(self._reading, self._master), dict[tuple[str, int], set[UUID]]()
        for rows in streams:
            page = [
                Recorded(seen.event, seen.row.stream_id, seen.row.version, seen.row.position, UserId(seen.row.owner_id))
                for seen in inspection.seen(rows)
                if seen.event is not None
            ]
            for projection in self._registry.projections:
                owners = {owner for _, _, owner, _ in Folder(projection).steps(page)}
                found.setdefault((projection.name, projection.version), set()).update(owners)
        return found

    def _refill(
        self,
        wanted: Sequence[tuple[Build, set[UUID]]],
        unparked: Concerned,
        taken_back: tuple[str, int] = ("", 0),
        *,
        readable: bool = False,
    ) -> list[Healed]:
        """`unparked`: streams to let go, and whom they concern. `taken_back`: a projection, and the position of an
        event that it was to leave out so far. `readable`: `Fault` where a stream of the owners cannot be read; else
        those owners are left out.
        """
        while True:
            freed, unread = let_go(self._reading, unparked)
            left = {str(build): set() if readable else owners & unread for build, owners in wanted}
            kept = [(build, owners - left[str(build)]) for build, owners in wanted]
            made = self._made_anew([one for one in kept if one[1]], freed, taken_back, readable=readable)
            if made is not None:  # None: the log showed another stream that cannot be read, so others are left out
                break
        healed = {one.build: one for one in made}
        none = {str(build): Healed(str(build), 0, 0, 0) for build, _ in wanted}
        return [replace(one, left_out=len(left[one.build])) for one in (none | healed).values()]

    def _made_anew(
        self,
        wanted: Sequence[tuple[Build, set[UUID]]],
        unparked: Concerned,
        taken_back: tuple[str, int],
        *,
        readable: bool,
    ) -> list[Healed] | None:
        """As `_refill`. None: reading the log found another stream that cannot be read, of one of the owners, or one
        that rows of others hang on.
        """
        if not wanted and not unparked and not taken_back[1]:
            return []
        made = [
            _Anew(
                build, owners, list(self._parts(build, owners, taken_back, foreign=self._reads_others(build, unparked)))
            )
            for build, owners in wanted
        ]
        for one in made:
            self._read(one, self._taken(one.build), unparked)  # the most of it while workers still go on
            if readable:
                self._refuse_unreadable(one.owners)
                self._refuse_unread_tables(one.build)
        if not readable and any(
            one.owners & let_go(self._reading, unparked)[1]
            or (one.foreign and not self._reads_others(one.build, unparked))
            for one in made
        ):
            return None
        for one in made:
            self._derive(one, unparked)
        held = self._followed(None) if unparked else [build for build, _ in wanted]
        schemas = [build.schema_name for build in held]
        with locked_together(self._connection, schemas) as position:
            self._connection.execute("DELETE FROM parked_streams WHERE stream_id = ANY(%s)", ([*unparked],))
            self._connection.execute("DELETE FROM skipped_events WHERE (name, position) = (%s, %s)", taken_back)
            for one in made:
                self._read(one, position, unparked)
                self._finish(one)
            # whoever has these shards looks again at what there is: what was held back is not any more
            change_shards(self._connection, schemas, "epoch = epoch + 1, holder = NULL, leased_until = NULL")
        return [one.healed for one in made]

    def _taken(self, build: Build) -> int:
        """Up to where all its shards are: never past where they are held later, as the end of the log may be."""
        row = self._connection.execute(_TAKEN, (build.schema_name,)).fetchone()
        return int(row[0]) if row else 0

    def _reads_others(self, build: Build, unparked: Concerned) -> bool:
        """Whether rows that hang on streams of others are made anew: not where one of these cannot be read, unless
        others of them are let go, which those rows are still to take.
        """
        streams = set[UUID]().union(*streams_hung_on(self._reading, self._registry.definition(build)).values())
        return streams <= unparked.keys() or bool(streams & unparked.keys())

    def _parts(
        self, build: Build, owners: set[UUID], taken_back: tuple[str, int], *, foreign: bool
    ) -> Iterator[Refold]:
        projection = self._registry.definition(build)
        skipped = left_out(self._connection, but=taken_back)(projection.name)
        for kind in sorted({fold.foreign for fold in projection.folds if foreign or not fold.foreign}):
            yield Refold(projection, Part(foreign=kind, owners=frozenset(owners)), skipped)

    def _read(self, one: "_Anew", upto: int, unparked: Collection[UUID]) -> None:
        reader = LogReader(self._reading, self._master)
        for stream in unparked:
            reader.parked().pop(stream, None)
        for refold in one.refolds:
            for page, *_ in refold.part.pages(reader, [refold.projection], one.upto, upto):
                refold.take(page)
        one.upto = upto

    def _derive(self, one: "_Anew", unparked: Collection[UUID]) -> None:
        """Make anew what is derived of these rows, which may be millions: of some owners at once, between which workers
        go on. What is quarantined stays so meanwhile: cut off, all of it can be begun anew.
        """
        projection, schema = self._registry.definition(one.build), one.build.schema_name
        if projection.derived is None:
            return
        concerned = {*projection.derived.touched(list(one.owners), self._connection, schema)}
        with alone(self._connection, [schema]):
            with locked_together(self._connection, [schema]) as position:
                self._read(one, position, unparked)
                self._write(one)
            concerned.update(projection.derived.touched(list(one.owners), self._connection, schema))
            left = iter(sorted(concerned))
            while some := list(islice(left, _DERIVED)):
                began = time.monotonic()
                with self._connection.transaction():
                    lock_shards(self._connection, [schema])
                    projection.derived.derive(some, self._connection, schema)
                time.sleep(time.monotonic() - began)  # workers have half of the time

    def _write(self, one: "_Anew") -> dict[str, list[Change]]:
        """What differs, by table: it is little where most rows are as they should be."""
        changes = {}
        for refold in one.refolds:
            for name in refold.tables:
                store = stores(refold.projection, one.build.schema_name)[name]
                live = {store.key_of(row): row for row in store.of_owners(self._connection, list(one.owners))}
                made = {store.key_of(row): row for row in refold.of_table(name)}
                differing = [key for key in live | made if live.get(key) != made.get(key)]
                store.delete(self._connection, [key for key in differing if key not in made])
                written = (made[key] for key in differing if key in made)
                while some := list(islice(written, _WRITTEN)):
                    store.upsert(self._connection, some)
                changes[name] = [(live.get(key), made.get(key)) for key in differing]
        note_refolded(self._connection, one.owners)
        return changes

    def _finish(self, one: "_Anew") -> None:
        """With what came meanwhile; then what was quarantined goes on."""
        projection, schema = self._registry.definition(one.build), one.build.schema_name
        changes = self._write(one)
        if projection.derived is not None:
            projection.derived.update(changes, self._connection, schema)
        tables = [name for refold in one.refolds for name in refold.tables]
        self._connection.execute(_FORGET, (schema, list(one.owners), tables))
        row = self._connection.execute(_KEPT, (schema, list(one.owners))).fetchone()
        one.kept = row[0] if row else 0
        faults = [fault for refold in one.refolds for fault in refold.faults]
        if faults:
            note_faults(self._connection, schema, faults)


class _Anew:
    """Rows of some owners in one build, as the log has them up to a position."""

    def __init__(self, build: Build, owners: set[UUID], refolds: Sequence[Refold]) -> None:
        self.build: Final = build
        self.owners: Final = owners
        self.refolds: Final = refolds
        self.upto = 0
        self.kept = 0  # quarantined keys of tables that were not made anew

    @property
    def foreign(self) -> bool:
        """Whether rows that hang on streams of others are among them."""
        return any(refold.part.foreign for refold in self.refolds)

    @property
    def healed(self) -> Healed:
        """As it is told."""
        rows = sum(1 for refold in self.refolds for name in refold.tables for _ in refold.of_table(name))
        faults = sum(len(refold.faults) for refold in self.refolds)
        return Healed(str(self.build), len(self.owners), rows, faults + self.kept)


@contextmanager
def healing(database_url: str, registry: Registry, master: MasterKeys) -> Iterator[Healer]:
    """A healer with connections of its own."""
    with ExitStack() as stack:
        made = [stack.enter_context(psycopg.connect(database_url, autocommit=True)) for _ in range(2)]
        for connection in made:
            connection.execute("SET enable_seqscan = off")
        yield Healer(made[0], made[1], registry, master)


_TAKEN: Final = "SELECT coalesce(min(position), 0) FROM projection_shards WHERE schema_name = %s"
_FORGET: Final[LiteralString] = (
    "DELETE FROM quarantined_keys WHERE schema_name = %s AND owner_id = ANY(%s) AND table_name = ANY(%s)"
)
_KEPT: Final[LiteralString] = "SELECT count(*) FROM quarantined_keys WHERE schema_name = %s AND owner_id = ANY(%s)"
_SKIP: Final[LiteralString] = """
    INSERT INTO skipped_events (name, position, reason) VALUES (%s, %s, %s)
    ON CONFLICT (name, position) DO UPDATE SET reason = EXCLUDED.reason
"""
_SKIPPED: Final[LiteralString] = """
    SELECT name, position, reason, skipped_at FROM skipped_events WHERE %s::text IS NULL OR name = %s
    ORDER BY name, position
"""
