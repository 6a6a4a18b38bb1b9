"""Loops beside the API: ingest, projection, and the `cairn` command."""
