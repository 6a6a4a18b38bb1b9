"""Events a second out of the log: decoding alone, and scanning with decoding, beside the stock library's way."""

import time
from collections.abc import Sequence
from typing import Final
from uuid import UUID

import psycopg
from psycopg import Connection

from domain.events import EVENTS
from infra.event_store.mapper import MAPPER, associated
from infra.event_store.reader import LogReader, Selection
from infra.event_store.rows import Row, partition_of
from infra.keys import MasterKeys, UserCipher
from infra.processes import cores
from workers.cli.bench.appending import MASTER
from workers.cli.bench.decoding import key_of, opened
from workers.cli.bench.events import log
from workers.cli.bench.measure import Bench, Contender, Goal
from workers.cli.bench.stock import StockLog
from workers.cli.bench.together import rate_of

_CLEAR: Final = "ours, in the clear"
_CLOSED: Final = "ours, sealed, private fields left closed"
_OPENED: Final = "ours, sealed, private fields opened"
_OPENED_BY_ALL: Final = "the same, a process for each core, as rebuilds"
_STOCK: Final = "stock mapper"
_STOCK_SEALED: Final = "stock mapper with its cipher"
_SCAN: Final = "ours, rows only"

DECODE_GOALS: Final = (
    Goal("decode", _CLEAR, None, 600_000.0),
    Goal("decode_closed", _CLOSED, None, 600_000.0),
    Goal("decode_opened", _OPENED, None, 600_000.0),
    Goal("decode_opened_by_all", _OPENED_BY_ALL, None, 600_000.0),
    Goal("decode_to_stock", _CLEAR, _STOCK, None),
    Goal("decode_opened_to_stock", _OPENED, _STOCK_SEALED, None),
)
SCAN_GOALS: Final = (
    Goal("scan_decode", _CLEAR, _STOCK, 5.0),
    Goal("scan_decode_closed", _CLOSED, _STOCK_SEALED, 5.0),
    Goal("scan_decode_opened", _OPENED, _STOCK_SEALED, 5.0),
)


class Logs:
    """The same events four times: ours in the clear and sealed, in databases of their own, and the library's."""

    def __init__(self, stock_url: str, clear_url: str, sealed_url: str, events: int) -> None:
        self._clear = psycopg.connect(clear_url, autocommit=True)
        self._sealed = psycopg.connect(sealed_url, autocommit=True)
        self._sealed_url = sealed_url
        self._stock = StockLog(stock_url, "stock_clear")
        self._stock_sealed = StockLog(stock_url, "stock_sealed", encrypted=True)
        fill(self._clear, events, sealed=False)
        self._ciphers = fill(self._sealed, events, sealed=True)
        self._stock.fill(log(events))
        self._stock_sealed.fill(log(events))
        for connection in (self._clear, self._sealed):
            connection.execute("VACUUM (ANALYZE) stored_events")

    def close(self) -> None:
        """Let go of the connections."""
        for connected in (self._clear, self._sealed, self._stock, self._stock_sealed):
            connected.close()

    def decode(self) -> Bench:
        """In memory, of the mix that a log has."""
        clear = [row for page in _reader(self._clear).scan() for row in page]
        sealed = [row for page in _reader(self._sealed).scan() for row in page]
        stock, stock_sealed = self._stock.stored(), self._stock_sealed.stored()
        return Bench(
            name="decode",
            unit="events/s",
            contenders=[
                Contender(_CLEAR, lambda: _decode(clear)),
                Contender(_CLOSED, lambda: _decode(sealed)),
                Contender(_OPENED, lambda: opened(sealed, self._ciphers)),
                Contender(_OPENED_BY_ALL, lambda: rate_of("workers.cli.bench.decoding", [self._sealed_url], cores())),
                Contender(_STOCK, lambda: self._stock.map(stock)),
                Contender(_STOCK_SEALED, lambda: self._stock_sealed.map(stock_sealed)),
            ],
            goals=DECODE_GOALS,
        )

    def scan(self) -> Bench:
        """From the server to events with their places, as a rebuild takes them."""
        return Bench(
            name="scan",
            unit="events/s",
            contenders=[
                Contender(_SCAN, lambda: _scan(self._clear, None)),
                Contender(_CLEAR, lambda: _scan(self._clear, _CLEAR)),
                Contender(_CLOSED, lambda: _scan(self._sealed, _CLOSED)),
                Contender(_OPENED, lambda: _scan(self._sealed, _OPENED)),
                Contender(_STOCK, self._stock.read_and_map),
                Contender(_STOCK_SEALED, self._stock_sealed.read_and_map),
            ],
            goals=SCAN_GOALS,
        )


def _reader(connection: Connection) -> LogReader:
    return LogReader(connection, MasterKeys([MASTER]))


def _decode(rows: Sequence[Row]) -> float:
    began = time.perf_counter()
    for row in rows:
        MAPPER.decode(row.topic, row.state)
    return len(rows) / (time.perf_counter() - began)


def scan_opened(connection: Connection) -> float:
    """Events a second of reading the whole log, with what is private in it."""
    return _scan(connection, _OPENED)


def _scan(connection: Connection, how: str | None) -> float:
    reader, began = _reader(connection), time.perf_counter()
    if how is None:
        return sum(map(len, reader.scan())) / (time.perf_counter() - began)
    opened = {event.TOPIC for event in EVENTS if event.PRIVATE} if how == _OPENED else ()
    pages = reader.replay(0, reader.decided(), Selection(), opened)
    return sum(len(events) for events, *_ in pages) / (time.perf_counter() - began)


def fill(connection: Connection, events: int, *, sealed: bool) -> dict[UUID, UserCipher]:
    """The made-up log, and the users' keys, which are stored wrapped."""
    master, ciphers = MasterKeys([MASTER]), dict[UUID, UserCipher]()
    with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        copy.set_types(["uuid", "int8", "text", "bytea", "uuid", "int2"])
        for made in log(events):
            owner = made.owner_id
            if sealed and owner not in ciphers:
                ciphers[owner] = UserCipher(key_of(owner))
            topic, state = MAPPER.encode(
                made.event, ciphers.get(owner), associated(owner, made.stream_id, made.version)
            )
            copy.write_row((made.stream_id, made.version, topic, state, owner, partition_of(owner)))
    with connection.cursor() as cursor:
        wrapped = [(owner, master.current, master.wrap(owner, key_of(owner)).wrapped) for owner in ciphers]
        cursor.executemany("INSERT INTO user_keys (owner_id, master_id, wrapped) VALUES (%s, %s, %s)", wrapped)
    return ciphers


_COPY: Final = """
    COPY stored_events (originator_id, originator_version, topic, state, owner_id, partition_id)
    FROM STDIN (FORMAT BINARY)
"""
