"""What somebody waits for on the event loop."""

import asyncio
from typing import TypeVar

R = TypeVar("R")


def settle(future: asyncio.Future[R], found: R | Exception) -> None:
    """Give whoever waits the result, or raise the exception there. Nothing, when they have gone."""
    if future.done():
        return
    if isinstance(found, Exception):
        future.set_exception(found)
    else:
        future.set_result(found)
