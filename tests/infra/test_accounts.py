import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest
from argon2 import PasswordHasher
from psycopg import AsyncConnection, Connection

from domain.accounts import EmailTaken, SignInRefused, TokenRefused, UserIdTaken
from domain.measures import UserId
from domain.streams import StreamContended
from domain.user import User, user_stream_id
from infra.accounts import PostgresAccounts
from infra.away import Impatient
from infra.event_store.postgres import PostgresLog
from infra.event_store.streams import EventStore
from infra.keys import MasterKeys, UserKeys
from infra.vault import Vault, WrongMasterKey
from infra.views import ReadModels
from tests.scenarios import ANNA, BEN, MAY_1

EMAIL, PASSWORD = "anna@example.com", "correct horse"


class ReadsApart(ReadModels):
    """In which nothing can be changed but over `changing`, where changes that hang are counted."""

    @asynccontextmanager
    async def connection(self, *, hurried: bool = False) -> AsyncIterator[Impatient]:
        async with super().connection(hurried=hurried) as connection:
            await connection.execute("SET default_transaction_read_only = on")
            yield connection

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[AsyncConnection]:
        async with super().changing() as connection:
            await connection.execute("SET default_transaction_read_only = off")
            yield connection


class Opened:
    """Accounts with what they stand on."""

    def __init__(self, database_url: str) -> None:
        self.read_models = ReadsApart(database_url, connections=4)
        self.streams = EventStore(PostgresLog(database_url), UserKeys(self.read_models, MasterKeys([b"m" * 32])))
        self.accounts = PostgresAccounts(self.read_models, self.streams, Vault([b"m" * 32]), b"t" * 32)

    async def register(self, user_id: UserId | None = ANNA, email: str = EMAIL, password: str = PASSWORD) -> UserId:
        holder = await self.accounts.claim(email, password, user_id)
        await self.streams.transact(User, user_stream_id(holder), holder, lambda user: user.register("Anna", MAY_1))
        return holder


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Opened]:
    made = Opened(database_url)
    await made.read_models.open()
    yield made
    await made.accounts.close()
    await made.streams.close()
    await made.read_models.close()


async def test_who_registered_can_sign_in_however_the_address_is_written(opened: Opened) -> None:
    await opened.register()
    assert await opened.accounts.authenticate(" Anna@Example.com ", PASSWORD) == ANNA
    assert await opened.accounts.email(ANNA) == EMAIL


async def test_the_same_letters_are_the_same_however_a_keyboard_composes_them(opened: Opened) -> None:
    composed, apart = "ren\xe9@example.com", "rene\u0301@example.com"
    await opened.register(email=apart, password="caf\xe9 au lait")
    assert await opened.accounts.authenticate(composed, "cafe\u0301\xa0au lait") == ANNA
    assert await opened.accounts.authenticate(apart.upper(), "caf\xe9 au lait") == ANNA
    with pytest.raises(EmailTaken):
        await opened.register(BEN, email=composed)


async def test_accounts_from_when_letters_were_taken_as_they_came_go_on(opened: Opened) -> None:
    """Two of them may have addresses that are the same today."""
    composed, apart = "ren\xe97@example.com", "rene\u03017@example.com"  # by its hash, Anna's comes behind Ben's
    password, before = "cafe\u0301 au lait", Vault([b"m" * 32]).email_hashes(apart)[0]
    await opened.register(ANNA, email=apart)
    async with opened.read_models.changing() as connection:
        kept = PasswordHasher().hash(password)
        await connection.execute("UPDATE credentials SET email_hash = %s, password_hash = %s", (before, kept))
    await opened.register(BEN, email=composed)
    async with opened.read_models.changing() as connection:  # so that the table has Anna's behind Ben's
        await connection.execute("UPDATE credentials SET created_at = created_at WHERE user_id = %s", (ANNA,))
    assert await opened.accounts.authenticate(apart, password) == ANNA
    assert await opened.accounts.authenticate(composed, PASSWORD) == BEN


@pytest.mark.parametrize(("email", "password"), [(EMAIL, "wrong horse"), ("ben@example.com", PASSWORD)])
async def test_a_wrong_password_and_an_unknown_address_are_refused_alike(
    opened: Opened, email: str, password: str
) -> None:
    await opened.register()
    with pytest.raises(SignInRefused):
        await opened.accounts.authenticate(email, password)


async def test_registering_again_with_the_same_id_is_the_same_account(opened: Opened) -> None:
    assert await opened.register() == await opened.register()


@pytest.mark.parametrize(
    ("user_id", "password"), [(BEN, PASSWORD), (None, PASSWORD), (ANNA, "another one"), (None, "another one")]
)
async def test_an_address_belongs_to_its_first_account(opened: Opened, user_id: UserId | None, password: str) -> None:
    await opened.register()
    with pytest.raises(EmailTaken):
        await opened.accounts.claim(EMAIL, password, user_id)


async def test_a_registration_that_was_cut_off_can_be_finished_or_taken_over(opened: Opened) -> None:
    holder = await opened.accounts.claim(EMAIL, PASSWORD, None)
    with pytest.raises(SignInRefused):
        await opened.accounts.authenticate(EMAIL, PASSWORD)
    assert await opened.accounts.claim(EMAIL, PASSWORD, None) == holder
    with pytest.raises(StreamContended):  # it may be about to register
        await opened.register(BEN, password="another one")
    async with opened.read_models.changing() as connection:
        await connection.execute("UPDATE credentials SET created_at = now() - interval '61 seconds'")
    assert await opened.register(BEN, password="another one") == BEN
    assert await opened.accounts.authenticate(EMAIL, "another one") == BEN


async def test_a_registration_that_is_finished_late_is_not_taken_over_meanwhile(opened: Opened) -> None:
    holder = await opened.accounts.claim(EMAIL, PASSWORD, ANNA)
    async with opened.read_models.changing() as connection:
        await connection.execute("UPDATE credentials SET created_at = now() - interval '61 seconds'")
    assert await opened.accounts.claim(EMAIL, PASSWORD, ANNA) == holder  # about to register
    with pytest.raises(StreamContended):
        await opened.register(BEN, password="another one")


async def test_of_two_who_register_with_one_address_at_once_one_gets_it(opened: Opened) -> None:
    for number in range(5):
        email = f"{number}@example.com"
        outcomes = await asyncio.gather(
            *(opened.register(UserId(uuid4()), email) for _ in range(2)), return_exceptions=True
        )
        (holder,) = [one for one in outcomes if isinstance(one, UUID)]
        assert await opened.accounts.authenticate(email, PASSWORD) == holder
        assert {type(one) for one in outcomes} <= {UUID, EmailTaken, StreamContended}


async def test_nobody_registers_under_anothers_user_id(opened: Opened) -> None:
    await opened.register()
    with pytest.raises(UserIdTaken):
        await opened.accounts.claim("ben@example.com", PASSWORD, ANNA)


async def test_a_refresh_token_leads_to_the_next(opened: Opened) -> None:
    first = await opened.accounts.sign_in(ANNA)
    second = await opened.accounts.refresh(first.refresh_token)
    third = await opened.accounts.refresh(second.refresh_token)
    assert third.user_id == ANNA
    assert third.session_id == first.session_id
    assert len({first.refresh_token, second.refresh_token, third.refresh_token}) == 3


async def test_a_client_that_lost_the_answer_gets_the_same_again(opened: Opened) -> None:
    first = await opened.accounts.sign_in(ANNA)
    assert await opened.accounts.refresh(first.refresh_token) == await opened.accounts.refresh(first.refresh_token)


async def test_a_token_that_comes_again_after_its_successor_ends_the_session(opened: Opened) -> None:
    first = await opened.accounts.sign_in(ANNA)
    second = await opened.accounts.refresh(first.refresh_token)
    third = await opened.accounts.refresh(second.refresh_token)
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh(first.refresh_token)
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh(third.refresh_token)
    assert opened.accounts.ended(first.session_id)


async def test_after_the_grace_a_used_token_ends_the_session(opened: Opened, database: Connection) -> None:
    first = await opened.accounts.sign_in(ANNA)
    second = await opened.accounts.refresh(first.refresh_token)
    database.execute("UPDATE refresh_tokens SET used_at = used_at - interval '31 s'")
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh(first.refresh_token)
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh(second.refresh_token)


async def test_signing_out_ends_the_session(opened: Opened) -> None:
    session = await opened.accounts.sign_in(ANNA)
    await opened.accounts.sign_out(session.session_id)
    await opened.accounts.sign_out(session.session_id)
    assert opened.accounts.ended(session.session_id)
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh(session.refresh_token)


@pytest.mark.parametrize(("minutes", "known"), [(17, True), (21, False)])
async def test_a_session_that_ended_is_known_until_its_last_access_token_has_expired_everywhere(
    opened: Opened, database: Connection, minutes: int, *, known: bool
) -> None:
    session = await opened.accounts.sign_in(ANNA)
    await opened.accounts.sign_out(session.session_id)
    database.execute("UPDATE sessions SET revoked_at = now() - make_interval(mins => %s)", (minutes,))
    await opened.accounts._find_ended()
    assert opened.accounts.ended(session.session_id) is known


async def test_whatever_a_look_fails_at_sessions_that_end_elsewhere_are_looked_for_again(
    opened: Opened, database: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.accounts._LOOK_SECONDS", 0.02)
    session = await opened.accounts.sign_in(ANNA)
    database.execute("ALTER TABLE sessions ALTER revoked_at TYPE text")
    opened.accounts.watch()
    while "sessions ended elsewhere" not in caplog.text:
        await asyncio.sleep(0.02)
    database.execute("ALTER TABLE sessions ALTER revoked_at TYPE timestamptz USING now()")
    while not opened.accounts.ended(session.session_id):
        await asyncio.sleep(0.02)


async def test_a_sign_out_is_not_undone_by_a_look_that_began_before_it(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await opened.accounts.sign_in(ANNA)
    connection, looked, go_on = opened.read_models.connection, asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def held_up() -> AsyncIterator[AsyncConnection]:
        async with connection() as one:
            yield one
        looked.set()
        await go_on.wait()

    with monkeypatch.context() as patch:
        patch.setattr(opened.read_models, "connection", held_up)
        look = asyncio.create_task(opened.accounts._find_ended())
        await looked.wait()
    await opened.accounts.sign_out(session.session_id)
    go_on.set()
    await look
    assert opened.accounts.ended(session.session_id)


async def test_an_unknown_token_and_session_are_refused_quietly(opened: Opened) -> None:
    with pytest.raises(TokenRefused):
        await opened.accounts.refresh("made up")
    await opened.accounts.sign_out(uuid4())


async def test_no_secret_stands_in_the_tables(opened: Opened, database: Connection) -> None:
    await opened.register()
    session = await opened.accounts.sign_in(ANNA)
    stored = str(database.execute("SELECT c::text, r::text FROM credentials c, refresh_tokens r").fetchall())
    stored += "".join(state.decode("latin-1") for (state,) in database.execute("SELECT state FROM stored_events"))
    for secret in (EMAIL, PASSWORD, session.refresh_token, EMAIL.encode().hex(), session.refresh_token.encode().hex()):
        assert secret not in stored


def test_another_master_key_is_refused(database: Connection) -> None:
    Vault([b"m" * 32]).check(database)
    Vault([b"m" * 32]).check(database)
    with pytest.raises(WrongMasterKey, match="CAIRN_MASTER_KEY"):
        Vault([b"x" * 32]).check(database)
