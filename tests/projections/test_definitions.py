"""What all projections keep to, whatever they are about."""

import msgspec
import pytest

from domain.events.event import Recorded
from infra.projecting.columns import columns_of
from infra.projecting.folding import Folder, Rows
from projections import PROJECTIONS
from projections.projection import Fold, Projection
from tests.infra.projecting.histories import History, Made

FOLDS = [(projection, fold) for projection in PROJECTIONS for fold in projection.folds]


def rows(projection: Projection, fold: Fold[msgspec.Struct], log: list[Made]) -> Rows:
    number = projection.folds.index(fold)
    folder = Folder(projection, numbers={number})
    page = [Recorded(made.event, made.stream_id, made.version, at, made.owner_id) for at, made in enumerate(log, 1)]
    found = folder.none()
    assert folder.run(folder.steps(page), found, {}) == []
    return found


def redacted(made: Made) -> Made:
    fields = {field.name: field.default for field in msgspec.structs.fields(type(made.event))}
    defaults = {name: fields[name] for name in made.event.PRIVATE}
    return Made(made.owner_id, made.stream_id, made.version, msgspec.structs.replace(made.event, **defaults))


@pytest.mark.parametrize(("projection", "fold"), FOLDS, ids=lambda one: getattr(one, "name", type(one).__name__))
def test_a_fold_that_says_so_looks_at_nothing_private(projection: Projection, fold: Fold[msgspec.Struct]) -> None:
    """A rebuild leaves sealed what nobody reads: its rows must be the same then."""
    log = History(21).take(600)
    opened, closed = rows(projection, fold, log), rows(projection, fold, [redacted(made) for made in log])
    assert (opened == closed) is not fold.reads_private


@pytest.mark.parametrize("projection", PROJECTIONS, ids=lambda one: one.name)
def test_a_table_s_owner_is_a_column_and_foreign_rows_have_it_in_their_key(projection: Projection) -> None:
    assert projection.derived is None or projection.shards == 1
    for table in projection.tables:
        names = [column.name for column in columns_of(table.row)]
        assert {*table.key, table.owner} <= {*names}
    for fold in projection.folds:
        assert not fold.foreign or fold.table.owner in fold.table.key


@pytest.mark.parametrize(("projection", "fold"), FOLDS, ids=lambda one: getattr(one, "name", type(one).__name__))
def test_rows_belong_to_the_stream_s_owner_unless_they_are_foreign(
    projection: Projection, fold: Fold[msgspec.Struct]
) -> None:
    found = rows(projection, fold, History(22).take(600))[projection.folds.index(fold)]
    assert found
    for owner, own in found.items():
        assert {getattr(row, fold.table.owner) for row in own.values()} <= {owner}


def test_versions_are_told_apart() -> None:
    names = [(projection.name, projection.version) for projection in PROJECTIONS]
    assert len({*names}) == len(names)
