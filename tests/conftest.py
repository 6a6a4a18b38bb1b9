"""Real servers for the tests: one Postgres and one Valkey for all, a database of its own for each test that asks."""

from collections.abc import Callable, Iterator
from uuid import uuid4

import hypothesis
import psycopg
import pytest
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from infra import migrations
from infra.embedded.postgres import EmbeddedPostgres
from infra.embedded.valkey import EmbeddedValkey
from infra.projecting.builds import Registry
from tests.servers import running

hypothesis.settings.register_profile("cairn", deadline=None)  # no timed assertions: others may use the machine too
hypothesis.settings.load_profile("cairn")


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(EmbeddedPostgres, tmp_path_factory.mktemp("postgres")) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running(EmbeddedValkey, tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(scope="session")
def template(postgres_url: str) -> str:
    """A migrated database to copy: a copy takes milliseconds."""
    name = f"template_{uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    url = make_conninfo(postgres_url, dbname=name)
    migrations.upgrade(url)
    with psycopg.connect(url, autocommit=True) as connection:
        Registry(connection).register()
    return name


@pytest.fixture(scope="session")
def fresh_database(postgres_url: str, template: str) -> Callable[[], str]:
    """Makes empty, migrated databases, which go with the server."""

    def make() -> str:
        name = f"test_{uuid4().hex}"
        copy = SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy").format(Identifier(name), Identifier(template))
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(copy)
        return make_conninfo(postgres_url, dbname=name)

    return make


@pytest.fixture
def database_url(fresh_database: Callable[[], str]) -> str:
    """A database of the test's own."""
    return fresh_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Connection]:
    """A connection to it."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET timezone = 'UTC'")
        yield connection
