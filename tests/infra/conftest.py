"""The object store, both kinds."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from moto.server import ThreadedMotoServer

from infra.object_store import Objects, objects_at


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 API on this machine."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new store."""
    if request.param == "folder":
        return f"file://{tmp_path}/objects%20of%20ours"
    endpoint, bucket = request.getfixturevalue("s3"), f"bucket-{uuid4().hex}"
    for name, value in {
        "AWS_ENDPOINT": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    httpx.put(f"{endpoint}/{bucket}").raise_for_status()
    return f"s3://{bucket}/of/ours"


@pytest.fixture
def objects(url: str) -> Objects:
    objects = objects_at(url)
    objects.begin("of this test")
    return objects
