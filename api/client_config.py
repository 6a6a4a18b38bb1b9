"""What apps should know before they ask for anything else."""

from typing import Final
from uuid import UUID

from fastapi import APIRouter, Response
from msgspec import Struct

from api.clients import Client
from api.codec import answer
from api.dependencies import AskingClient, CurrentUser, ServicesDep
from api.front.request import Request
from api.openapi import answers
from api.services import Services
from domain.client_settings import Purpose, Upgrade
from domain.measures import UserId

router = APIRouter(tags=["client"])

# `Cairn-Client` decides on what is in it
VARY: Final = {"Vary": "Authorization, Accept-Encoding, Cairn-Client"}


class ReadModel(Struct, frozen=True):
    """Which version of a read model answers this runner; `trial`: before it does so for everybody."""

    version: int
    trial: bool


class Poll(Struct, frozen=True):
    """When to ask again: whenever the Unix time, modulo `interval_s`, is `phase_s`. Each device has its own phase."""

    interval_s: int
    phase_s: float


class ClientConfig(Struct, frozen=True, kw_only=True):
    """For the app of the runner who asks. Apps leave names out that they do not know."""

    version: int  # of what operators set; 0: nothing yet, or it is not known here at the moment
    read_models: dict[str, ReadModel]
    polls: dict[Purpose, Poll]
    features: dict[str, bool]
    switched_off: list[str]
    upgrade: Upgrade | None


@router.get("/client-config", responses=answers(401, ok=ClientConfig))
async def get_client_config(
    request: Request, user_id: CurrentUser, client: AskingClient, services: ServicesDep
) -> Response:
    """How often to ask, what is on and off, whether to upgrade; answered to every version, whatever is away.

    `read_models` is by version, so that an app can drop what it cached of an older one, and report which one it saw.
    """
    return answer(request, await read_config(services, user_id, client), VARY)


async def read_config(services: Services, user_id: UserId, client: Client) -> ClientConfig:
    """What this app is told. An app that names no device has the phases of its user."""
    told, unit = services.client_settings.current, unit_of(user_id, client)
    settings = told.settings
    standings = await services.read_models.versions(user_id)
    return ClientConfig(
        version=told.version,
        read_models={name: ReadModel(*standing) for name, standing in sorted(standings.items())},
        polls={one: Poll(settings.interval_s(one), settings.phase_s(one, unit)) for one in Purpose},
        features={name: one.is_on(name, user_id, client.device) for name, one in sorted(settings.features.items())},
        switched_off=settings.switched_off,
        upgrade=settings.upgrade(client.app, client.version),
    )


def unit_of(user_id: UserId, client: Client) -> UUID:
    """What has a phase."""
    return client.device or user_id
