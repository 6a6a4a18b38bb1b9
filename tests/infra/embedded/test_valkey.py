import stat
import tempfile
from pathlib import Path

import pytest
from redis import Redis

from infra.embedded.places import remove_socket_folder
from infra.embedded.valkey import EmbeddedValkey
from tests.servers import running, start


def test_it_starts_empty_whatever_a_power_cut_left(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    server.make()
    log = tmp_path / "valkey" / "appendonlydir"
    log.mkdir()
    (log / "appendonly.aof.manifest").write_text("")
    (tmp_path / "valkey" / "dump.rdb").write_bytes(bytes(4096))
    for _ in range(2):
        process = start(server)
        with Redis.from_url(server.url) as redis:
            assert redis.dbsize() == 0
            redis.xadd("queue", {"id": "1"})
        process.kill()
        process.wait()
    assert list((tmp_path / "valkey").iterdir()) == []


def test_nothing_is_evicted_when_memory_is_short(redis_url: str) -> None:
    with Redis.from_url(redis_url) as redis:
        assert redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_only_the_owner_may_use_the_socket(tmp_path: Path) -> None:
    with running(EmbeddedValkey, tmp_path):
        assert stat.S_IMODE((tmp_path / "run" / "valkey.sock").stat().st_mode) == 0o700


@pytest.mark.parametrize("name", ["a, 'b' %c", "deep" * 30])
@pytest.mark.usefixtures("place_for_sockets")
def test_any_data_folder_will_do(tmp_path: Path, name: str) -> None:
    with running(EmbeddedValkey, tmp_path / name) as server, Redis.from_url(server.url) as redis:
        assert redis.ping()
    remove_socket_folder(tmp_path / name)
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
