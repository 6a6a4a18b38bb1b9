"""Tables can be newer than the code: where the migration says that this code can use them, and not otherwise."""

import shutil
from importlib import import_module
from pathlib import Path

import pytest
from psycopg import Connection

from infra import migrations
from infra.server_checks import MigrationMissing, check_tables

NEWER = """
from alembic import op
revision = "9999"
down_revision = {head!r}
{oldest}
def upgrade():
    op.execute("CREATE TABLE stone (id int)")
"""
VERSIONS = Path(migrations.__file__).parent / "versions"
HEAD = max(path.name[:4] for path in VERSIONS.glob("0*.py"))


@pytest.fixture
def newer_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The migrations of this code and one more, until it is undone."""
    shutil.copytree(VERSIONS.parent, tmp_path / "migrations")
    monkeypatch.setattr(migrations, "__file__", str(tmp_path / "migrations" / "__init__.py"))
    return monkeypatch


def newer(tmp_path: Path, oldest: str) -> None:
    (tmp_path / "migrations" / "versions" / "9999_newer.py").write_text(NEWER.format(head=HEAD, oldest=oldest))


def test_newer_tables_are_used_by_the_code_that_they_name_and_left_as_they_are(
    database: Connection, database_url: str, newer_code: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer(tmp_path, f"oldest_code = {HEAD!r}")
    assert migrations.upgrade(database_url) == (HEAD, "9999")
    newer_code.undo()
    check_tables(database)
    assert migrations.upgrade(database_url) == ("9999", "9999")


def test_newer_tables_that_do_not_name_this_code_are_refused_with_what_to_run(
    database: Connection, database_url: str, newer_code: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    newer(tmp_path, "")
    migrations.upgrade(database_url)
    newer_code.undo()
    assert migrations.upgrade(database_url) == ("9999", "9999")
    with pytest.raises(MigrationMissing, match=rf"made by newer code.*of version {HEAD}, .* run code of version 9999"):
        check_tables(database)


def test_no_migration_takes_back_in_code_that_one_before_it_shut_out() -> None:
    names = sorted(path.stem for path in VERSIONS.glob("0*.py"))
    modules = [import_module(f"infra.migrations.versions.{name}") for name in names]
    oldest = [getattr(module, "oldest_code", module.revision) for module in modules]
    assert oldest == sorted(oldest)
    assert all(code <= module.revision for code, module in zip(oldest, modules, strict=True))
