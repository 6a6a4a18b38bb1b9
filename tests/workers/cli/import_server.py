"""A server that a test plays for `cairn import`, and the command beside it."""

import asyncio
from collections.abc import Callable

import click.testing

from tests.network import Answer, Request, tokens
from workers.cli.importing.command import import_command

SESSION = tokens(1)  # always the same runner
READY = {"status": "ready", "activities": []}
ACCOUNT = ("--email", "anna@example.com", "--password", "a long password")
RUN_1, RUN_2 = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


async def run(*arguments: object) -> click.testing.Result:
    """The command, beside the server that this test plays."""
    runner = click.testing.CliRunner(env={"COLUMNS": "140"})
    return await asyncio.to_thread(runner.invoke, import_command, [str(one) for one in arguments])


def activity(activity_id: str, sport: str, *warnings: str) -> dict[str, object]:
    return {
        "activity_id": activity_id,
        "sport": sport,
        "started_at": "2026-05-01T07:00:00Z",
        "distance_m": 1234.5,
        "distance_source": "recorded",
        "elapsed_s": 3725.0,
        "moving_s": 3600.0,
        "points": 10,
        "device": {},
        "warnings": list(warnings),
    }


def server(upload: Callable[[Request], Answer], /, **activities: Answer) -> Callable[[Request], Answer]:
    """Signs everybody in, knows nothing before, and answers uploads as told."""

    def answer(request: Request) -> Answer:
        method, path = request.line.split(" ")
        if path.startswith("/v1/sessions"):
            return SESSION
        if method == "PUT":
            return upload(request)
        return activities.get(path.rpartition("/")[2], Answer(404, {"code": "not-found"}))

    return answer
