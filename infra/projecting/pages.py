"""One page of the log into the tables of one build: rows are read by key in sets, folded, and written in sets."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import Connection

from domain.events.event import Recorded
from domain.measures import UserId
from infra.projecting.folding import NOTHING, Fault, Folder, Held, LeftOut, Rows, Step, erased
from infra.projecting.quarantine import held_keys, note_faults, note_held
from infra.projecting.tables import Store, stores
from projections.projection import Change, Key, Projection

_COPIED: Final = 50  # new rows from which on a COPY is faster than an INSERT


class Pages:
    """Of some partitions of a build; None: all. Made anew whenever another may have changed the build's quarantine."""

    def __init__(
        self,
        rows: Connection,
        projection: Projection,
        schema: str,
        partitions: frozenset[int] | None,
        skipped: LeftOut = NOTHING,
    ) -> None:
        self._rows = rows
        self._projection = projection
        self._schema = schema
        self._folder: Final = Folder(projection, partitions, skipped)
        self._stores = [stores(projection, schema)[fold.table.name] for fold in projection.folds]
        self._held: Held | None = None

    def take(self, page: Sequence[Recorded], *, row_by_row: bool = False) -> set[UUID]:
        """Within the caller's transaction; the owners of rows that are others now. `row_by_row` finds which rows the
        server does not take, and leaves those.
        """
        steps = self._folder.steps(page)
        if not steps:
            return set()
        if self._held is None:
            self._held = held_keys(self._rows, self._projection, self._schema)
        held = dict.fromkeys(self._held, 0)
        touched: list[dict[Key, Recorded]] = [{} for _ in self._stores]  # each with its last event
        for number, key, _, recorded in steps:
            if number >= 0:
                touched[number][key] = recorded
        rows, before = self._loaded(touched)
        faults = self._folder.run(steps, rows, held)
        changes, owners = self._write(steps, touched, before, rows, faults, row_by_row=row_by_row)
        if self._projection.derived is not None:
            owners.update(self._projection.derived.update(changes, self._rows, self._schema))
        if held:
            note_held(self._rows, self._schema, held)
        if faults:
            note_faults(self._rows, self._schema, faults)
            owners.update(fault.owner_id for fault in faults)  # their rows are others than they should be from now on
        self._held = dict.fromkeys([*held, *((fault.table, fault.key) for fault in faults)], 0)
        return owners

    def _loaded(self, touched: Sequence[Mapping[Key, Recorded]]) -> tuple[Rows, list[dict[Key, Any]]]:
        rows, before = self._folder.none(), []
        for store, keys, owned in zip(self._stores, touched, rows, strict=True):
            found = store.find(self._rows, list(keys)) if keys else {}
            for key, row in found.items():
                owned.setdefault(UserId(store.owner_of(row)), {})[key] = row
            before.append(found)
        return rows, before

    def _write(
        self,
        steps: Sequence[Step],
        touched: Sequence[Mapping[Key, Recorded]],
        before: Sequence[Mapping[Key, Any]],
        rows: Rows,
        faults: list[Fault],
        *,
        row_by_row: bool,
    ) -> tuple[dict[str, list[Change]], set[UUID]]:
        """What is written, by table, and the owners of it."""
        gone, changes = erased(steps), dict[str, list[Change]]()
        owners = set[UUID](gone)
        for store, keys, old, owned in zip(self._stores, touched, before, rows, strict=True):
            changed = _changed(store, old, owned, owners)
            if gone:
                erased_rows = store.of_owners(self._rows, gone)
                changed += [(row, None) for row in erased_rows if store.key_of(row) not in keys]
            store.delete(self._rows, [store.key_of(was) for was, now in changed if now is None and was is not None])
            written = [now for _, now in changed if now is not None]
            if row_by_row:
                refused = self._write_singly(store, written, keys, faults)
                changed = [(was, now) for was, now in changed if now is None or store.key_of(now) not in refused]
            else:
                fresh = [now for was, now in changed if was is None and now is not None]
                if len(fresh) >= _COPIED:  # the rows are ours alone, so that nobody can have added one of them
                    store.copy(self._rows, fresh)
                    written = [now for was, now in changed if was is not None and now is not None]
                store.upsert(self._rows, written)
            changes[store.table.name] = changed
        return changes, owners

    def _write_singly(
        self, store: Store, written: Sequence[Any], keys: Mapping[Key, Recorded], faults: list[Fault]
    ) -> set[Key]:
        refused = set()
        for row in written:
            try:
                with self._rows.transaction():
                    store.upsert(self._rows, [row])
            except (psycopg.DataError, psycopg.IntegrityError) as error:
                key = store.key_of(row)
                refused.add(key)
                reason = f"{type(error).__name__}: {str(error).strip()}"
                faults.append(Fault(store.table.name, key, UserId(store.owner_of(row)), keys[key], reason))
        return refused


def _changed(
    store: Store, before: Mapping[Key, Any], rows: Mapping[UserId, Mapping[Key, Any]], owners: set[UUID]
) -> list[Change]:
    """The rows that are others now, are new, or are gone; whose they are is added to `owners`."""
    changed: list[Change] = []
    count = fresh = 0
    for owner, owned in rows.items():
        others = len(changed)
        for key, row in owned.items():
            was = before.get(key) if before else None
            if was is not row:
                changed.append((was, row))
                fresh += was is None
        if len(changed) > others:
            owners.add(owner)
        count += len(owned)
    if count - fresh < len(before):
        for key, was in before.items():
            owner = UserId(store.owner_of(was))
            if key not in rows.get(owner, ()):
                changed.append((was, None))
                owners.add(owner)
    return changed
