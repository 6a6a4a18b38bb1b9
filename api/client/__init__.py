"""A small client, as an app would have it: it knows the HTTP contract and nothing of the server."""

from api.client.client import PATIENCE_SECONDS, Client, Refused, Unreachable
from api.client.live import LiveRecording, upload_in_chunks

__all__ = ["PATIENCE_SECONDS", "Client", "LiveRecording", "Refused", "Unreachable", "upload_in_chunks"]
