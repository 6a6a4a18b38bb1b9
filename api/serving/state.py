"""What the connections of one server share."""

from uvicorn.server import ServerState

from api.serving.limits import Limits
from api.telemetry import Telemetry


class State(ServerState):
    """uvicorn's, with the limits, and where it is counted why connections were ended."""

    def __init__(self, limits: Limits, telemetry: Telemetry) -> None:
        super().__init__()
        self.limits = limits
        self.telemetry = telemetry
        self.leaving = False  # the server is about to stop: each connection's next answer is its last

    def count(self, why: str) -> None:
        """A connection was ended by the server."""
        self.telemetry.ended.labels(why).inc()
