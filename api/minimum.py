"""Apps that are too old are told so, and may still hand in what they recorded."""

from typing import Final

from fastapi import Request

from api.clients import Client, ClientTooOld
from api.dependencies import AskingClient, ServicesDep
from api.services import ClientSettingsSource

# Whatever version an app is of: a run that was recorded is taken, which needs a token; and it can read what to do.
ALWAYS: Final = frozenset(
    {
        ("PUT", "/v1/activities/{activity_id}"),
        ("GET", "/v1/activities/{activity_id}/upload"),
        ("PUT", "/v1/activities/{activity_id}/chunks/{seq}"),
        ("GET", "/v1/activities/{activity_id}/chunks"),
        ("POST", "/v1/activities/{activity_id}/finish"),
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/refresh"),
        ("DELETE", "/v1/sessions"),
        ("GET", "/v1/client-config"),
    }
)


class Minimum:
    """Which versions of apps are answered."""

    def __init__(self, settings: ClientSettingsSource) -> None:
        self._settings = settings

    def check(self, client: Client, template: str, method: str) -> None:
        """`ClientTooOld`. Apps that do not say what they are, or of which nothing was set, are answered."""
        upgrade = self._settings.current.settings.upgrade(client.app, client.version)
        if upgrade is not None and upgrade.level == "required" and (method, template) not in ALWAYS:
            raise ClientTooOld(client.app, upgrade)


async def not_too_old(request: Request, client: AskingClient, services: ServicesDep) -> None:
    """As a dependency of every route."""
    Minimum(services.client_settings).check(client, request.scope["route"].path, request.method)
