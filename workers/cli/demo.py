"""`cairn demo`: everything started, with a few runners, their runs, follows and goals in it."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click

from api.client import Refused, Unreachable
from infra.faults import Fault
from infra.instance import find
from infra.processes import child_command
from workers.cli.options import CHECKOUT, data_option
from workers.cli.story import tell_story

_START_SECONDS: Final = 120.0


@click.command("demo")
@click.option("--exit", "stop_after", is_flag=True, help="Stop everything after the tables are printed.")
@click.option(
    "--from",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Bring in the recordings of this folder instead of made-up runs.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="The API's port.")
@data_option
def demo_command(stop_after: bool, folder: Path | None, port: int, data: Path) -> None:
    """Start everything, with runners in it who follow each other, their runs and their goals.

    It prints each runner's feed, summaries and goals as the API gives them, and stays up until Ctrl-C. An instance
    that runs in --data already is used. A second demo adds nothing.
    """
    try:
        asyncio.run(_demo(data, port, folder, stop_after=stop_after))
    except (Refused, Unreachable) as fault:
        raise Fault(f"the demo could not go on: {fault}") from None


async def _demo(data: Path, port: int, folder: Path | None, *, stop_after: bool) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with _instance(data, port, stopping) as (address, ended):
        telling = asyncio.create_task(tell_story(address, folder))
        waiting = asyncio.create_task(stopping.wait())
        try:
            await _first(telling, waiting, ended)
            if telling.done():
                telling.result()
                if not stop_after:
                    click.echo("Ctrl-C stops everything.")
                    await _first(waiting, ended)
            if ended.done() and not stopping.is_set():
                raise Fault("everything has stopped by itself: see above.")
        finally:
            telling.cancel()
            waiting.cancel()
            await asyncio.gather(telling, waiting, return_exceptions=True)


async def _first(*endings: "asyncio.Future[Any]") -> None:
    await asyncio.wait(endings, return_when=asyncio.FIRST_COMPLETED)


@asynccontextmanager
async def _instance(data: Path, port: int, stopping: asyncio.Event) -> AsyncIterator[tuple[str, "asyncio.Future[int]"]]:
    """The address of the instance in this folder, started if none runs, and stopped again if it was."""
    running = find(data)
    if running is not None:
        click.echo(f"using the instance that runs in {data}")
        yield running.api_url, asyncio.get_running_loop().create_future()
        return
    up = [sys.executable, "-P", "-m", "workers.cli.main", "up", "--port", str(port), "--data", str(data)]
    process = await asyncio.create_subprocess_exec(
        *child_command(up, on_death=signal.SIGTERM),
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        start_new_session=True,  # Ctrl-C is for us, who then stop it
    )
    ended = asyncio.ensure_future(process.wait())
    try:
        yield await _address(data, ended, stopping), ended
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _address(data: Path, ended: "asyncio.Future[int]", stopping: asyncio.Event) -> str:
    for _ in range(int(_START_SECONDS / 0.1)):
        if (found := find(data)) is not None:
            return found.api_url
        if ended.done() or stopping.is_set():
            break
        await asyncio.sleep(0.1)
    raise Fault("everything was to be started, and was not: see above.")
