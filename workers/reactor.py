"""Reactors: what happens once for each event, and never again because read models are rebuilt."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol

from domain.events.event import Recorded
from domain.events.user import UserErased
from domain.measures import UserId
from domain.notices import Notice, Reaction

_log = logging.getLogger(__name__)

PAGE: Final = 500  # events

Page = tuple[Sequence[Recorded], int]  # events, and the position up to which they are all there is
Told = tuple[Recorded, Sequence[Notice], str | None]  # an event, what is told, or why that failed
Step = tuple[Sequence[Told], Sequence[UserId], int]  # what came of a page, who is erased in it, and its ceiling


class Outbox(Protocol):
    """Where notices wait for their readers, and how far each reaction is."""

    def advance(self, name: str, step: Callable[[int], Step]) -> int | None:
        """Take a step from where the reaction is: notices and the new position in one transaction.

        How far it came; None while another process has the reaction, or when there was nothing to do.
        """
        ...


class Reactor:
    """Takes every reaction to the end of the log. Any number of these may run: one at a time has a reaction."""

    def __init__(self, read: Callable[[int, int], Page], outbox: Outbox, reactions: Mapping[str, Reaction]) -> None:
        self._read = read
        self._outbox = outbox
        self._reactions = reactions

    def turn(self) -> bool:
        """One page for each reaction; whether there was one."""
        moved = [self._outbox.advance(name, self._step(reaction)) for name, reaction in self._reactions.items()]
        return any(position is not None for position in moved)

    def _step(self, reaction: Reaction) -> Callable[[int], Step]:
        def step(position: int) -> Step:
            page, ceiling = self._read(position, PAGE)
            erased = [recorded.owner_id for recorded in page if isinstance(recorded.event, UserErased)]
            return list(_told(reaction, page)), erased, ceiling

        return step


def _told(reaction: Reaction, page: Sequence[Recorded]) -> Iterator[Told]:
    for recorded in page:
        if not isinstance(recorded.event, reaction.events):
            continue
        try:
            yield recorded, tuple(reaction.tell(recorded)), None
        except Exception as error:  # noqa: BLE001 - a wrong reaction may raise anything: the others go on
            place = f"stream {recorded.stream_id} version {recorded.version} (position {recorded.position})"
            _log.exception("%s: nothing is told of %s", reaction.name, place, exc_info=error)
            yield recorded, (), f"{type(error).__name__}: {error}".rstrip(": ")
