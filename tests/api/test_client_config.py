"""What apps are told by operators, and apps that are too old."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import psycopg
import pytest

from api.minimum import ALWAYS
from domain.client_settings import AppVersions, ClientSettings, Feature, Purpose
from infra.client_settings import CachedClientSettings, read_settings, write_settings
from infra.views import ReadModels
from tests.api.conftest import Runner, World
from tests.api.test_kept_reads import until_kept
from tests.recordings import fit

OLD, NEW = {"Cairn-Client": "ios/8.1"}, {"Cairn-Client": "ios/9.0.0"}
STORE = "https://store.example/cairn"


async def told(world: World, settings: ClientSettings) -> None:
    with psycopg.connect(world.settings.database_url) as connection:
        write_settings(connection, settings, read_settings(connection).version, "tester")
    await world.parts.client_settings.look()


@pytest.fixture
async def old_ones_refused(world: World) -> AsyncIterator[None]:
    await told(world, ClientSettings(apps={"ios": AppVersions("9.0", None, STORE)}))
    yield
    await told(world, ClientSettings())


async def test_without_settings_there_are_defaults(anna: Runner) -> None:
    config = await anna.get("/client-config")
    assert {name: poll["interval_s"] for name, poll in config["polls"].items()} == {
        "sync": 900, "feed": 300, "notifications": 300, "config": 21_600,
    }  # fmt: skip
    assert (config["features"], config["switched_off"], config["upgrade"]) == ({}, [], None)


async def test_what_operators_set_is_told_to_the_device_that_asks(world: World, anna: Runner) -> None:
    await told(
        world,
        ClientSettings(
            polls={Purpose.SYNC: 3_600},
            features={"maps": Feature(100), "chat": Feature(0)},
            switched_off=["live-tracking"],
            apps={"ios": AppVersions(None, "9.4", STORE)},
        ),
    )
    phones = [UUID(int=number, version=4) for number in (1, 2)]
    configs = [
        await anna.get("/client-config", headers={"Cairn-Client": f"ios/9.3; device={phone}"}) for phone in phones
    ]
    assert configs[0]["features"] == {"chat": False, "maps": True}
    assert configs[0]["switched_off"] == ["live-tracking"]
    assert configs[0]["upgrade"] == {"level": "recommended", "version": "9.4", "url": STORE}
    assert {config["polls"]["sync"]["interval_s"] for config in configs} == {3_600}
    assert configs[0]["polls"]["sync"]["phase_s"] != configs[1]["polls"]["sync"]["phase_s"]
    assert configs[0]["version"] > 0
    await told(world, ClientSettings())


@pytest.mark.usefixtures("old_ones_refused")
async def test_an_app_that_is_too_old_is_told_where_there_is_a_newer_one(anna: Runner) -> None:
    for method, path in (("GET", "/feed"), ("GET", "/me"), ("GET", "/bootstrap"), ("PUT", f"/me/goals/{uuid4()}")):
        answer = await anna(method, path, headers=OLD)
        assert (answer.status_code, answer.json()["code"]) == (403, "client-too-old")
        assert answer.json()["upgrade"] == {"level": "required", "version": "9.0", "url": STORE}
    for headers in (NEW, {}, {"Cairn-Client": "web/1"}, {"Cairn-Client": "who knows"}):
        assert (await anna("GET", "/feed", headers=headers)).status_code == 200


@pytest.mark.usefixtures("old_ones_refused")
async def test_what_is_kept_for_newer_apps_is_not_given_to_one_that_is_too_old(world: World, anna: Runner) -> None:
    await until_kept(world, anna, "/me/goals", headers=NEW)
    for headers, status in ((OLD, 403), (NEW, 200)):
        signed = {"Authorization": f"Bearer {anna.tokens['access_token']}", **headers}
        known = world.app.at_once(
            b"/v1/me/goals", [(name.lower().encode(), value.encode()) for name, value in signed.items()]
        )
        assert (known is None) == (status == 403)
        assert (await anna("GET", "/me/goals", headers=headers)).status_code == status


@pytest.mark.usefixtures("old_ones_refused")
@pytest.mark.parametrize("path", ["/livez", "/startupz", "/readyz", "/metrics"])
async def test_a_probe_is_answered_whatever_version_it_says(world: World, path: str) -> None:
    assert (await world.http.get(path, headers=OLD)).status_code == (await world.http.get(path)).status_code != 403


@pytest.mark.usefixtures("old_ones_refused")
async def test_an_old_app_still_hands_in_its_runs(world: World, anna: Runner) -> None:
    whole, sliced = uuid4(), uuid4()
    tokens = {"refresh_token": anna.tokens["refresh_token"]}
    refreshed = await world.http.post("/v1/sessions/refresh", json=tokens, headers=OLD)
    assert refreshed.status_code == 201
    body = fit(740, kilometres=1)
    sent = await anna("PUT", f"/activities/{whole}", content=body, headers={**OLD, "Prefer": "wait=20"})
    assert sent.status_code == 201
    assert (await anna("GET", f"/activities/{whole}/upload", headers=OLD)).json()["status"] == "ready"
    piece = await anna("PUT", f"/activities/{sliced}/chunks/0", content=fit(741, kilometres=1), headers=OLD)
    assert piece.status_code == 201
    assert (await anna("GET", f"/activities/{sliced}/chunks", headers=OLD)).status_code == 200
    finish = {"chunks": 1, "content_type": "application/vnd.ant.fit", "sha256": "0" * 64}
    finished = await anna("POST", f"/activities/{sliced}/finish", json=finish, headers=OLD)
    assert finished.json()["code"] == "checksum-differs"  # it is asked for what it is, not for its version
    signing_in = {"email": anna.email, "password": "correct horse"}
    assert (await world.http.post("/v1/sessions", json=signing_in, headers=OLD)).status_code == 201
    assert (await anna.get("/client-config", headers=OLD))["upgrade"]["level"] == "required"


async def test_what_is_always_answered_are_routes_that_there_are(world: World) -> None:
    paths = (await world.http.get("/openapi.json")).json()["paths"]
    assert {(method, path) for method, path in ALWAYS if method.lower() not in paths.get(path, {})} == set()


async def test_while_postgres_is_away_what_was_known_stays(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        write_settings(connection, ClientSettings(switched_off=["x"]), 0, "tester")
    database = ReadModels(database_url, connections=1)
    settings = CachedClientSettings(database)
    assert settings.current.settings == ClientSettings()  # nobody has looked yet, and nobody waits
    await database.open()
    await settings.look()
    assert settings.current.settings.switched_off == ["x"]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("INSERT INTO client_settings VALUES (2, '{\"tomorrow\": 1}', 'newer code')")
        await settings.look()
        assert settings.current.version == 1
    await database.close()
    await settings.close()


async def test_a_change_is_known_soon_though_nobody_asks(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.client_settings._SECONDS", 0.02)
    database = ReadModels(database_url, connections=1)
    await database.open()
    settings = CachedClientSettings(database)
    settings.watch()
    with psycopg.connect(database_url) as connection:
        write_settings(connection, ClientSettings(switched_off=["x"]), 0, "tester")
    await asyncio.sleep(1)
    assert settings.current.settings.switched_off == ["x"]  # at the first look
    await settings.close()
    await database.close()


async def test_whatever_a_look_fails_at_the_next_one_comes(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.client_settings._SECONDS", 0.02)
    database = ReadModels(database_url, connections=1)
    await database.open()
    settings = CachedClientSettings(database)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE client_settings RENAME TO put_by")
        connection.execute("CREATE VIEW client_settings AS SELECT 1 / 0 AS version, '' AS document")
        settings.watch()
        while "stay as they were" not in caplog.text:
            await asyncio.sleep(0.02)
        connection.execute("DROP VIEW client_settings")
        connection.execute("ALTER TABLE put_by RENAME TO client_settings")
        write_settings(connection, ClientSettings(), 0, "tester")
    while settings.current.version != 1:
        await asyncio.sleep(0.02)
    await settings.close()
    await database.close()
