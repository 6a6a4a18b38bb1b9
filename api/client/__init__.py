"""A small client, as an app would have it: it knows the HTTP contract and nothing of the server."""

from api.client.client import PATIENCE_SECONDS, Client, Refused, Unreachable

__all__ = ["PATIENCE_SECONDS", "Client", "Refused", "Unreachable"]
