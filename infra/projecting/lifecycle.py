"""From one build to the next: proof, trial on a share of the users, cutover, rollback, clean-up."""

import time
from collections.abc import Callable, Sequence
from typing import Final, LiteralString

from msgspec import Struct
from psycopg import Connection
from psycopg.errors import ForeignKeyViolation

from infra.event_store.fence import Fence
from infra.faults import Fault
from infra.projecting.builds import DIFFERS, UNFINISHED, Build, Registry
from infra.projecting.holding import locked_together
from infra.projecting.leaving import parked_owners
from infra.projecting.readers import only_knowing
from infra.projecting.shards import LEASE_SECONDS, change_shards, known_as
from infra.projecting.verify import Verdict, differing_advice, verify

_READERS_SECONDS: Final = 5.0  # after an exchange, before the tables that readers may still know are dropped


class NotEqual(Fault):
    """The new build differs from the one that is read."""

    def __init__(self, verdict: Verdict) -> None:
        differing = [f"{table.name} ({table.buckets} of 256 buckets)" for table in verdict.compared if table.buckets]
        names = ", ".join(differing)
        super().__init__(
            f"{verdict.new} differs from {verdict.old}: {names}. It stays as it is; reads are untouched. "
            f"What to do: {verdict.advice}."
        )
        self.verdict = verdict


class RowsMissing(Fault):
    """The new build was folded without what cannot be read any more, and what is read may have been folded with it."""

    def __init__(self, build: Build, streams: int, users: int) -> None:
        super().__init__(
            f"{streams} streams of {users} users cannot be read, so that {build} lacks rows of theirs that are read "
            f"now, and these were not compared: cairn projections quarantine list names the streams, and cairn events "
            f"show STREAM says why. Once that is mended, cairn projections heal makes these users' rows anew, and "
            f"cutover goes on; cutover {build.name} --although-it-differs reads the new build without them."
        )


class Exchanged(Struct, frozen=True):
    """Which build was read before, and which one is now."""

    name: str
    before: str | None
    now: str
    position: int


class Lifecycle:
    """One connection, in autocommit."""

    def __init__(self, connection: Connection, registry: Registry, database_url: str) -> None:
        self._connection = connection
        self._registry = registry
        self._database_url = database_url
        self._fence = Fence(connection)

    def candidate(self, name: str) -> Build:
        """The build that would be cut over to: the newest that is not read yet. `Fault` when there is none."""
        self._registry.named(name)
        pointer = self._registry.pointers().get(name)
        read = () if pointer is None else (pointer.active, pointer.standby)
        builds = self._registry.builds(name)
        found = [build for build in builds if build.schema_name not in read and build.state != "retired"]
        if found:
            return found[-1]
        if pointer is not None and builds[-1].schema_name == pointer.standby:
            return builds[-1]  # after a rollback
        raise Fault(f"{name} has no build but the one that is read: run cairn projections rebuild {name} first.")

    def active(self, name: str) -> Build | None:
        """The build that is read."""
        pointer = self._registry.pointers().get(name)
        return None if pointer is None else self._build(pointer.active)

    def _build(self, schema: str) -> Build:
        return next(build for build in self._registry.builds() if build.schema_name == schema)

    def catch_up(self, build: Build, told: Callable[[int], None], timeout_seconds: float) -> None:
        """Wait until workers have brought the build to the end of the log as it is now. `Fault`."""
        target = self._fence.last_event()
        until = time.monotonic() + timeout_seconds
        unknown_until = time.monotonic() + LEASE_SECONDS
        while (behind := target - self._position(build)) > 0:
            told(behind)
            if not self._is_known(build):
                if time.monotonic() > unknown_until:
                    raise Fault(
                        f"no worker runs whose code declares {build}: start one, or deploy this code to the workers. "
                        f"Then run the same command again."
                    )
                time.sleep(0.1)
                continue
            if time.monotonic() > until:
                raise Fault(
                    f"{build} is {behind:,} positions behind and does not come closer: is a worker running? "
                    f"See cairn projections status; then run the same command again."
                )
            before = behind
            time.sleep(0.1)
            if target - self._position(build) < before:
                until = time.monotonic() + timeout_seconds  # it goes on

    def _is_known(self, build: Build) -> bool:
        row = self._connection.execute(
            "SELECT EXISTS (SELECT FROM projection_workers WHERE %s = ANY(knows) "
            "AND seen_at > now() - make_interval(secs => %s))",
            (known_as(build.name, build.version), LEASE_SECONDS),
        ).fetchone()
        return row == (True,)

    def _position(self, build: Build) -> int:
        row = self._connection.execute(
            "SELECT min(position) FROM projection_shards WHERE schema_name = %s AND stopped IS NULL",
            (build.schema_name,),
        ).fetchone()
        if row is None or row[0] is None:
            raise Fault(f"{build} is stopped: see cairn projections status.")
        return int(row[0])

    def verify(self, build: Build) -> Verdict | None:
        """Compare with the build that is read, at one position; then it is ready. None: there is nothing to compare.

        `NotEqual` with what differs.
        """
        if build.state not in {"catching up", "verifying", "ready", "standby"}:
            raise Fault(f"{build} is {build.state}: run cairn projections rebuild {build.name} until it is caught up.")
        old = self.active(build.name)
        if build.state != "standby":
            self._registry.set_state(build, "verifying")
        if old is None:
            self._registry.set_state(build, "ready", verified_at=self._position(build))
            return None
        verdict = verify(self._database_url, self._registry, old, build)
        if not verdict.equal:
            if build.state != "standby":
                self._registry.set_state(build, "verifying", reason=DIFFERS)
            raise NotEqual(verdict)
        if build.state != "standby":
            self._registry.set_state(build, "ready", verified_at=verdict.position)
        return verdict

    def cutover(self, name: str, *, although_it_differs: bool = False) -> Exchanged:
        """Read the candidate from now on; what was read is on standby, and filled on.

        `Fault` unless it is verified: found equal, or compared at least, if it may differ. `RowsMissing` while streams
        cannot be read, unless it may differ. `Fault` where somebody can read nothing but what is on standby until then.
        """
        build = self.candidate(name)
        if build.state == "active":
            raise _exchanged_meanwhile(name)
        differs = build.state == "verifying" and build.reason == DIFFERS
        parked = parked_owners(self._connection)
        streams = sum(map(len, parked.values()))
        if build.state not in {"ready", "standby"} and not (differs and although_it_differs):
            advice = f" It differs: {differing_advice(name, streams)}." if differs else ""
            raise Fault(
                f"{build} is {build.state} and not verified: run cairn projections verify {name} first, or rebuild it."
                f"{advice}"
            )
        if streams and not although_it_differs and self.active(name) is not None:
            raise RowsMissing(build, streams, len(parked))
        if differs:
            return self._exchange(name, build, "read although it differed from what was read before")
        return self._exchange(name, build, f"read although {streams} streams could not be read" if streams else None)

    def rollback(self, name: str) -> Exchanged:
        """Read again what was read before the last cutover. Twice: the newer one again. `Fault` when it is gone."""
        self._registry.named(name)
        pointer = self._registry.pointers().get(name)
        if pointer is None or pointer.standby is None:
            raise Fault(f"{name} has nothing on standby to go back to.")
        return self._exchange(name, self._build(pointer.standby))

    def _exchange(self, name: str, build: Build, reason: str | None = None) -> Exchanged:
        pointer = self._registry.pointers().get(name)
        if pointer is None:
            with self._connection.transaction():
                self._connection.execute(_FIRST, (name, build.schema_name))
                self._registry.set_state(build, "active")
            return Exchanged(name, None, str(build), self._position(build))
        old = self._build(pointer.active)
        if pointer.standby not in {None, build.schema_name}:  # it is filled no more
            self._refuse_needed(self._build(str(pointer.standby)), [build, old])
        with locked_together(self._connection, (old.schema_name, build.schema_name)) as position:
            moved = self._connection.execute(_EXCHANGE, (build.schema_name, old.schema_name, name, old.schema_name))
            if moved.rowcount != 1:
                raise _exchanged_meanwhile(name)
            if pointer.standby not in {None, build.schema_name}:
                self._registry.set_state(self._build(str(pointer.standby)), "retired")
            self._registry.set_state(old, "standby")
            self._registry.set_state(build, "active", reason=reason)
        return Exchanged(name, str(old), str(build), position)

    def shadow(self, name: str, percent: int) -> Build | None:
        """Let a share of the users read the candidate, and compare what it answers. 0: nobody. `Fault`."""
        self._registry.named(name)
        if percent == 0:
            self._connection.execute(_NO_SHADOW, (name,))
            return None
        build, old = self.candidate(name), self.active(name)
        if old is None:
            raise Fault(f"{name} is not read yet, so that there is nothing to try {build} against: cut it over.")
        if build.state not in {"ready", "standby"}:
            raise Fault(f"{build} is {build.state}, not ready: verify it first (cairn projections verify {name}).")
        with locked_together(self._connection, (old.schema_name, build.schema_name)):
            self._connection.execute(_COUNT_FROM_ZERO, (build.schema_name,))
            self._connection.execute(_SHADOW, (build.schema_name, percent, name))
        return build

    def pause(self, name: str, *, paused: bool) -> int:
        """Let workers fill no build of it, or go on, also with those that were stopped; how many shards that were."""
        self._registry.named(name)
        schemas = [build.schema_name for build in self._registry.builds(name)]
        return change_shards(self._connection, schemas, "paused = true" if paused else "paused = false, stopped = NULL")

    def collect(self, name: str | None) -> list[Build]:
        """Drop builds that nobody reads any more: those on standby and those that were retired.

        `Fault` where this code, or that of a process that runs, reads what is on standby since it does not know more.
        """
        if name is not None:
            self._registry.named(name)
        unread = [build for build in self._registry.builds(name) if build.state in {"standby", "retired"}]
        for build in unread:
            if build.state == "standby":
                self._refuse_needed(build, [read for read in [self.active(build.name)] if read is not None])
        return self._drop(unread)

    def _refuse_needed(self, standby: Build, left: Sequence[Build]) -> None:
        """`left`: what is read once this is gone, and what is on standby then. `Fault` where somebody's code can read
        none of these.
        """
        if not left or standby.version in {build.version for build in left}:
            return
        if self._registry.defined(standby) and not any(map(self._registry.defined, left)):
            raise Fault(
                f"{left[0]} is to be read, and this code does not declare it, but {standby} alone: run this "
                f"command with the code that was deployed last. Nothing was done."
            )
        if hosts := only_knowing(self._connection, standby, left):
            raise Fault(
                f"{standby} is read by API processes whose code does not declare {left[0]} (at {', '.join(hosts)}): "
                f"deploy the code that does to them, or stop them; then repeat this command. Nothing was done."
            )

    def abandon(self, name: str) -> list[Build]:
        """Drop builds that were never read: planned, half filled, differing from what is read, or ready. `Fault`."""
        self._registry.named(name)
        self._registry.claim(name)
        try:
            unwanted = {*UNFINISHED, "ready"}
            return self._drop([build for build in self._registry.builds(name) if build.state in unwanted])
        finally:
            self._registry.release(name)

    def _drop(self, unread: Sequence[Build]) -> list[Build]:
        self._registry.refuse_tried(unread)
        for build in unread:
            self._wait_for_readers(build)
            try:
                with self._connection.transaction():
                    self._connection.execute(_FORGET_STANDBY, (build.schema_name,))
                    self._registry.drop(build)
            except ForeignKeyViolation:  # it is read by now
                raise _exchanged_meanwhile(build.name) from None
        return list(unread)

    def _wait_for_readers(self, build: Build) -> None:
        """Readers look at the pointers once a second: some may still know a build that was read a moment ago."""
        row = self._connection.execute(
            "SELECT extract(epoch FROM now() - changed_at)::float8 FROM projection_builds WHERE schema_name = %s",
            (build.schema_name,),
        ).fetchone()
        if row is not None:
            time.sleep(max(0.0, _READERS_SECONDS - row[0]))


def note_action(connection: Connection, operator: str, action: str, arguments: str) -> int:
    """Begin a row in the operators' log; its id."""
    row = connection.execute(_NOTE, (operator, action, arguments)).fetchone()
    return int(row[0]) if row else 0


def note_outcome(connection: Connection, action_id: int, outcome: str) -> None:
    """How it ended."""
    connection.execute("UPDATE operator_actions SET outcome = %s WHERE action_id = %s", (outcome, action_id))


def _exchanged_meanwhile(name: str) -> Fault:
    return Fault(f"{name} was exchanged by another operator meanwhile: see cairn projections status.")


_FIRST: Final[LiteralString] = "INSERT INTO projection_pointers (name, active) VALUES (%s, %s)"
_EXCHANGE: Final[LiteralString] = """
    UPDATE projection_pointers SET active = %s, standby = %s, shadow = NULL, shadow_percent = 0, changed_at = now()
    WHERE name = %s AND active = %s
"""
_NO_SHADOW: Final[LiteralString] = """
    UPDATE projection_pointers SET shadow = NULL, shadow_percent = 0, changed_at = now() WHERE name = %s
"""
_SHADOW: Final[LiteralString] = """
    UPDATE projection_pointers SET shadow = %s, shadow_percent = %s, changed_at = now() WHERE name = %s
"""
_COUNT_FROM_ZERO: Final[LiteralString] = """
    INSERT INTO shadow_counts (schema_name) VALUES (%s) ON CONFLICT DO NOTHING
"""
_FORGET_STANDBY: Final[LiteralString] = "UPDATE projection_pointers SET standby = NULL WHERE standby = %s"
_NOTE: Final[LiteralString] = """
    INSERT INTO operator_actions (operator, action, arguments) VALUES (%s, %s, %s) RETURNING action_id
"""
