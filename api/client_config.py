"""What apps should know before they ask for anything else."""

from fastapi import APIRouter, Request, Response
from msgspec import Struct

from api.codec import answer
from api.dependencies import CurrentUser, ServicesDep
from api.openapi import answers

router = APIRouter(tags=["client"])


class ReadModel(Struct, frozen=True):
    """Which version of a read model answers this runner; `trial`: before it does so for everybody."""

    version: int
    trial: bool


class ClientConfig(Struct, frozen=True):
    """For the app of the runner who asks."""

    read_models: dict[str, ReadModel]


@router.get("/client-config", responses=answers(401, ok=ClientConfig))
async def get_client_config(request: Request, user_id: CurrentUser, services: ServicesDep) -> Response:
    """By version, so that an app can drop what it cached of an older one, and report which one it saw."""
    standings = await services.read_models.versions(user_id)
    return answer(request, ClientConfig({name: ReadModel(*standing) for name, standing in sorted(standings.items())}))
