"""Bytes by key: a folder that keeps its promises, or S3. Objects are written once; few are ever replaced."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from infra.object_store.bucket import BucketObjects
from infra.object_store.folder import FolderObjects
from infra.object_store.objects import MARK, Draft, Objects

__all__ = ["MARK", "BucketObjects", "Draft", "FolderObjects", "Objects", "objects_at"]


def objects_at(url: str) -> Objects:
    """The store behind `file:///folder` or `s3://bucket/prefix`; settings have checked the form."""
    parts = urlsplit(url)
    return FolderObjects(Path(unquote(parts.path))) if parts.scheme == "file" else BucketObjects(url)
