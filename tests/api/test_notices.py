"""Notifications, and what apps are told about the read models."""

from psycopg import Connection, connect

from infra.projecting.builds import Registry
from infra.projecting.rebuild import Options, rebuilding
from tests.api.conftest import Runner, World


async def test_a_new_follower_is_told_once_and_a_rebuild_tells_nobody(world: World, anna: Runner, ben: Runner) -> None:
    followed = await ben("PUT", f"/me/following/{anna.user_id}")
    after = followed.headers["Cairn-Position"]
    page = await anna.get("/me/notifications", after=after)
    (item,) = page["items"]
    assert (item["kind"], item["user_id"], item["display_name"]) == ("new_follower", str(ben.user_id), "Ben")
    assert page["next_cursor"] is None
    assert (await ben.get("/me/notifications"))["items"] == []
    with connect(world.settings.database_url, autocommit=True) as connection:
        _rebuild(world, connection)
    assert (await anna.get("/me/notifications", after=after))["items"] == [item]


def _rebuild(world: World, connection: Connection) -> None:
    """Everything that the log says goes through the folds once more."""
    url, keys = world.settings.database_url, world.settings.master_keys
    registry = Registry(connection)
    with rebuilding(connection, registry, url, keys, lambda _progress: None) as made:
        builds = made.start(sorted(registry.pointers()), restart=False)
        made.fill(builds, Options(1, 512 * 1024**2, 60.0))
    for build in builds:
        registry.drop(build)


async def test_notifications_come_in_pages_the_latest_first(world: World, anna: Runner) -> None:
    others = [await world.runner(name) for name in ("Ben", "Cara", "Dora")]
    position = ""
    for other in others:
        position = (await other("PUT", f"/me/following/{anna.user_id}")).headers["Cairn-Position"]
    first = await anna.get("/me/notifications?limit=2", after=position)
    second = await anna.get(f"/me/notifications?limit=2&cursor={first['next_cursor']}")
    names = [item["display_name"] for item in first["items"] + second["items"]]
    assert names == ["Dora", "Cara", "Ben"]
    assert second["next_cursor"] is None


async def test_apps_are_told_which_version_answers_them(world: World, anna: Runner) -> None:
    config = await anna.get("/client-config")
    assert config["read_models"]["summaries"] == {"version": 1, "trial": False}
    assert config["read_models"].keys() == {"activities", "changes", "feed", "goals", "people", "summaries"}
    assert (await world.http.get("/v1/client-config")).status_code == 401
