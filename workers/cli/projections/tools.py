"""What the commands of projections work with."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from psycopg import Connection

from infra.bootstrap import open_changes
from infra.keys import MasterKeys
from infra.projecting.builds import Registry
from infra.projecting.healing import Healer, healing
from infra.projecting.lifecycle import Lifecycle
from infra.settings import Settings, load_settings
from workers.cli.connecting import connected
from workers.cli.noting import noted

name_argument = click.argument("name")


class Tools:
    """What the commands work with: one checked connection to the instance's database."""

    def __init__(self, connection: Connection, settings: Settings) -> None:
        self.connection = connection
        self.settings = settings
        self.url = settings.database_url
        self.master = MasterKeys(settings.master_keys)
        self.registry = Registry(connection)
        self.registry.register()
        self.lifecycle = Lifecycle(connection, self.registry, self.url)

    @contextmanager
    def healer(self) -> Iterator[Healer]:
        """For what is made anew in live tables."""
        with healing(self.url, self.registry, self.master) as healer:
            yield healer


@contextmanager
def tools_for(data: Path, action: str = "", **arguments: object) -> Iterator[Tools]:
    """With an action: it is noted in the operators' log, and how it ended."""
    settings = load_settings(data, os.environ)
    with connected(settings) as connection:
        tools = Tools(connection, settings)
        if not action:
            yield tools
            return
        try:
            with noted(connection, action, arguments):
                yield tools
        finally:
            open_changes(settings).all_of_it()  # other rows are read now, and no event says so
