"""A small client, as an app would have it: it knows the HTTP contract and nothing of the server."""

from api.client.client import PATIENCE_SECONDS, Client
from api.client.handing_in import hand_in
from api.client.live import LiveRecording, upload_in_chunks
from api.client.pacing import WATCHED, Pacing
from api.client.phone import Phone
from api.client.syncing import Synced, send_waiting, sync
from api.client.verdicts import Refused, Unreachable

__all__ = [
    "PATIENCE_SECONDS",
    "WATCHED",
    "Client",
    "LiveRecording",
    "Pacing",
    "Phone",
    "Refused",
    "Synced",
    "Unreachable",
    "hand_in",
    "send_waiting",
    "sync",
    "upload_in_chunks",
]
