"""An app that keeps a copy of all that is its runner's own, by `/bootstrap` and `/changes`."""

from typing import Any

import httpx
from msgspec import Struct, field

from tests.api.conftest import Runner

Thing = tuple[str, str]  # a kind and an id


class Mirror(Struct):
    """The copy."""

    runner: Runner
    cursor: str | None = None
    things: dict[Thing, Any] = field(default_factory=dict)
    told: list[Thing] = field(default_factory=list)  # each time

    async def sync(self, after: str | None = None, limit: int = 100) -> None:
        """Pages of changes until there are no more."""
        more = True
        while more:
            page = await self._page(f"/changes?limit={limit}", after)
            self.keep(page["items"])
            self.cursor, more = page["next_cursor"], page["has_more"]

    async def launch(self, after: str | None = None) -> Any:
        """As an app that was here before; what `/bootstrap` says."""
        page = await self._page("/bootstrap?", after)
        self.keep(page["changes"])
        self.cursor = page["cursor"]
        if page["has_more"]:
            await self.sync(after)
        return page

    async def _page(self, path: str, after: str | None) -> Any:
        query = f"&since={self.cursor}" if self.cursor else ""
        return await self.runner.get(f"{path}{query}", after=after)

    def keep(self, items: list[Any]) -> None:
        """Take over what is told."""
        for item in items:
            thing = (item["kind"], item["id"])
            self.told.append(thing)
            if item["deleted"]:
                assert item.keys() == {"kind", "id", "deleted"}
                self.things.pop(thing, None)
            else:
                self.things[thing] = item[item["kind"]]

    async def refused(self) -> httpx.Response:
        """What is said to the cursor."""
        return await self.runner("GET", f"/changes?since={self.cursor}")


async def on_the_server(runner: Runner, after: str) -> dict[Thing, Any]:
    """What a mirror of this runner holds when it is right, by the lists."""
    lists = {
        ("activity", "activity_id"): f"/users/{runner.user_id}/activities?limit=100",
        ("goal", "goal_id"): "/me/goals",
        ("following", "user_id"): f"/users/{runner.user_id}/following?limit=100",
    }
    found: dict[Thing, Any] = {}
    for (kind, name), path in lists.items():
        for item in (await runner.get(path, after=after))["items"]:
            found[kind, item[name]] = item
    found["profile", str(runner.user_id)] = await runner.get("/me")
    return found


def settled(things: dict[Thing, Any]) -> dict[Thing, Any]:
    """Without what moves by itself: progress goes on with every run, and counts of followers with what others do."""
    moving = {"progress", "fraction", "on_pace", "followers", "following", "since"}
    return {
        place: {name: value for name, value in thing.items() if name not in moving} for place, thing in things.items()
    }
