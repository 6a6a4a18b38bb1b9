"""Apps that are too old are told so, and may still hand in what they recorded."""

from typing import Final

from api.admission.door import FREE
from api.clients import ClientTooOld, client_of
from api.services import ClientSettingsSource

# Whatever version an app is of: a run that was recorded is taken, which needs a token; and it can read what to do.
# Probes and scrapes ask about the process: no version of theirs makes it unwell.
ALWAYS: Final = frozenset(
    {
        ("PUT", "/v1/activities/{activity_id}"),
        ("GET", "/v1/activities/{activity_id}/upload"),
        ("GET", "/v1/uploads"),
        ("PUT", "/v1/activities/{activity_id}/chunks/{seq}"),
        ("GET", "/v1/activities/{activity_id}/chunks"),
        ("POST", "/v1/activities/{activity_id}/finish"),
        ("POST", "/v1/sessions"),
        ("POST", "/v1/sessions/refresh"),
        ("DELETE", "/v1/sessions"),
        ("GET", "/v1/client-config"),
        *(("GET", path) for path in FREE),
    }
)


class Minimum:
    """Which versions of apps are answered."""

    def __init__(self, settings: ClientSettingsSource) -> None:
        self._settings = settings

    def check(self, client_header: bytes | None, template: str, method: str) -> None:
        """`ClientTooOld`. Apps that do not say what they are, or of which nothing was set, are answered."""
        settings = self._settings.current.settings
        if not settings.apps or client_header is None or (method, template) in ALWAYS:
            return
        client = client_of(client_header)
        upgrade = settings.upgrade(client.app, client.version)
        if upgrade is not None and upgrade.level == "required":
            raise ClientTooOld(client.app, upgrade)
