"""Connections that run prepared statements on the event loop, each one at a time.

psycopg's cursors convert each value and wait by way of a generator: for a single append that took longer than the
server did (docs/decisions/0005). Values go and come here in Postgres' binary form, and libpq is asked directly.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic
from typing import Final

import psycopg
from psycopg import AsyncConnection, OperationalError
from psycopg.errors import ReadOnlySqlTransaction, error_from_result
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from domain.errors import StoreUnavailable
from infra.away import LETTING_GO
from infra.durability import DURABLE
from infra.futures import settle
from infra.hung_up import OWN_SESSION, THOSE_THERE, HungUp
from infra.processes import cores

_CONNECT_SECONDS: Final = 2.0
_PROMPT_SECONDS: Final = 200e-6  # from a statement to its answer
_SEVERAL_CORES: Final = cores() > 1  # where there is one, the server needs it
_BINARY: Final = 1
_FINE: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_FORMATS: Final = [[_BINARY] * count for count in range(20)]  # by how many values there are
_SETTINGS: Final = (
    b"SET idle_in_transaction_session_timeout = '30s'",
    b"SET plan_cache_mode = force_generic_plan",  # planning costs what running does
    # All that runs here goes by an index from few rows to few. Of a table that was never analysed, as after a restore
    # or a fast start, the planner guesses that reading all of it is better: twenty times slower.
    b"SET enable_seqscan = off",
    b"SET enable_mergejoin = off",
    # Below what each step of connecting may take: Postgres speaks first, and its session is free again. One that was
    # hung up on would wait on for its lock.
    b"SET lock_timeout = '1500ms'",
    LETTING_GO.encode(),
    DURABLE.encode(),
)

Told = Callable[[PGresult | psycopg.Error], None]


class Channel:
    """`OperationalError` means that the connection is gone, and that nobody knows whether the statement was done; but
    `LockNotAvailable` that it waited for others for too long, and was not.
    """

    def __init__(self, connection: AsyncConnection, hung_up: HungUp) -> None:
        self._connection = connection
        self._hung_up = hung_up
        self._session = b""
        self._pgconn: PGconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._told: Told | None = None
        self._result: PGresult | None = None
        self._sent = 0.0  # when the statement whose answer is waited for went out
        self._prompt = False  # whether the last answer came so soon that sleeping meanwhile is not worth it
        self._deadline = 0.0  # of the answer that is waited for
        self._timer: asyncio.TimerHandle | None = None  # due at the deadline or before it
        self._unsent = False
        self._closed = False
        self._lost = False
        self._pgconn.nonblocking = 1
        self._loop.add_reader(self._socket, self._readable)

    @classmethod
    async def open(
        cls,
        database_url: str,
        statements: Mapping[bytes, bytes],
        timeout_seconds: float,
        hung_up: HungUp | None = None,
    ) -> "Channel":
        """Connect and prepare the statements, each step within this time; `OperationalError`, also where too many were
        hung up on.
        """
        hung_up = hung_up or HungUp()
        asked = hung_up.asked_for()
        try:
            async with asyncio.timeout(timeout_seconds):
                connection = await AsyncConnection.connect(database_url, autocommit=True, client_encoding="utf8")
        except TimeoutError:
            raise OperationalError(f"Postgres did not answer in {timeout_seconds} s") from None
        channel = cls(connection, hung_up)
        try:
            settings = b";".join((*_SETTINGS, OWN_SESSION))
            found = await channel._answer(partial(channel._pgconn.send_query, settings), timeout_seconds)
            channel._session = value_of(found, 0, 0)
            if asked:  # before anything that may hang as they do
                hung_up.found(asked, await channel._those_there(asked, timeout_seconds))
            for name, text in statements.items():
                await channel._answer(partial(channel._pgconn.send_prepare, name, text), timeout_seconds)
        except BaseException:
            channel.close()  # as where the tables are not there yet: the loop would hold it for good
            raise
        return channel

    @property
    def closed(self) -> bool:
        """Whether it can run nothing more."""
        return self._closed

    @property
    def lost(self) -> bool:
        """Whether it was closed because the server went away, or takes no writes."""
        return self._lost

    async def run(self, statement: bytes, values: Sequence[bytes | None], timeout_seconds: float) -> PGresult:
        """Run a prepared statement. What the server refuses is raised as psycopg's error for it."""
        return await self._answer(self._sending(statement, values), timeout_seconds)

    def begin(self, statement: bytes, values: Sequence[bytes | None], timeout_seconds: float, told: Told) -> None:
        """The same for who is told, once, instead of waiting: no future, no turn of the event loop in between.

        While answers come promptly the loop does not sleep until this one is there: being woken takes a quarter of a
        lone save's time.
        """
        self._begin(self._sending(statement, values), timeout_seconds, told)
        if self._prompt:
            self._stay_awake(self._sent)

    def _stay_awake(self, sent: float) -> None:
        if self._told is not None and self._sent == sent and monotonic() - sent < _PROMPT_SECONDS:
            self._loop.call_soon(self._stay_awake, sent)

    def _sending(self, statement: bytes, values: Sequence[bytes | None]) -> Callable[[], None]:
        return partial(self._pgconn.send_query_prepared, statement, values, _FORMATS[len(values)], _BINARY)

    async def _answer(self, send: Callable[[], None], timeout_seconds: float) -> PGresult:
        answer: asyncio.Future[PGresult] = self._loop.create_future()
        self._begin(send, timeout_seconds, partial(settle, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            self.close()  # cut off in the middle: what is still to come would be taken for the next answer
            raise

    async def _those_there(self, sessions: Set[bytes], timeout_seconds: float) -> Set[bytes]:
        values = [b" ".join(sessions)]
        found = await self._answer(partial(self._pgconn.send_query_params, THOSE_THERE, values), timeout_seconds)
        return {value_of(found, at, 0) for at in range(found.ntuples)}

    def _begin(self, send: Callable[[], None], timeout_seconds: float, told: Told) -> None:
        self._told = told
        self._deadline = self._loop.time() + timeout_seconds
        if self._timer is None or self._deadline < self._timer.when():
            self._look_at(self._deadline)
        try:
            send()
        except OperationalError as lost:
            self._fail(lost)
        else:
            self._sent = monotonic()
            self._flush()

    def _flush(self) -> None:
        try:
            unsent = self._pgconn.flush() == 1
        except OperationalError as lost:
            self._fail(lost)
            return
        if unsent != self._unsent:
            self._unsent = unsent
            if unsent:
                self._loop.add_writer(self._socket, self._flush)
            else:
                self._loop.remove_writer(self._socket)

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            while not self._pgconn.is_busy():
                result = self._pgconn.get_result()
                if result is None:
                    break
                self._result = result
            else:
                return  # there is more to come
        except OperationalError as lost:
            self._fail(lost)
            return
        if self._pgconn.status != ConnStatus.OK:
            self._fail(OperationalError("the connection was lost"))
            return
        result, self._result = self._result, None
        if result is None:
            return
        if result.status in _FINE:
            self._tell(result)
            return
        error = error_from_result(result)
        if isinstance(error, ReadOnlySqlTransaction):  # whoever takes the writes now, it is not at this end
            self._fail(error)
        else:
            self._tell(error)

    def _tell(self, answer: PGresult | psycopg.Error) -> None:
        told, self._told = self._told, None
        if told is not None:
            self._prompt = _SEVERAL_CORES and monotonic() - self._sent < _PROMPT_SECONDS
            told(answer)

    def _look_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._look)

    def _look(self) -> None:
        """One timer serves many answers: setting one for each would cost as much as reading it."""
        self._timer = None
        if self._told is None:
            return
        if self._loop.time() < self._deadline:
            self._look_at(self._deadline)
        else:
            self._fail(OperationalError("Postgres did not answer in time"))

    def _fail(self, error: psycopg.Error) -> None:
        self._lost = True
        self.close()
        self._tell(error)

    def close(self) -> None:
        """Close the connection. Closing twice changes nothing."""
        if not self._closed:
            self._closed = True
            if self._told is not None and self._session:
                self._hung_up.add(self._session)
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            if self._timer is not None:
                self._timer.cancel()
            self._pgconn.finish()


class Channels:
    """As many as are wanted at the same time, opened when they first are, for these statements."""

    def __init__(self, database_url: str, statements: Mapping[bytes, bytes]) -> None:
        self._database_url = database_url
        self._statements = statements
        self._idle: list[Channel] = []
        self._hung_up = HungUp()

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Channel]:
        """One for the caller alone. `StoreUnavailable` when there is none to be had: nothing was sent."""
        channel = self.idle() or await self._opened()
        try:
            yield channel
        finally:
            self.give_back(channel)

    def idle(self) -> Channel | None:
        """One that nobody has, for the caller alone, who gives it back; None when there is none."""
        while self._idle:
            channel = self._idle.pop()
            if not channel.closed:
                return channel
        return None

    def give_back(self, channel: Channel) -> None:
        """Others may have it, unless it is closed. Where one was lost, so are the others: each would be waited for."""
        if channel.lost:
            self.close()
        elif not channel.closed:
            self._idle.append(channel)

    async def _opened(self) -> Channel:
        try:
            return await Channel.open(self._database_url, self._statements, _CONNECT_SECONDS, self._hung_up)
        except psycopg.Error as error:
            raise StoreUnavailable from error

    def close(self) -> None:
        """Let go of those that nobody has."""
        while self._idle:
            self._idle.pop().close()


def value_of(found: PGresult, row: int, column: int) -> bytes:
    """A value that cannot be NULL, as it came."""
    value = found.get_value(row, column)
    if value is None:
        raise psycopg.DataError(f"column {column} is NULL")
    return value


def number_of(found: PGresult, row: int, column: int) -> int:
    """A whole number, of any width."""
    return int.from_bytes(value_of(found, row, column), signed=True)
