import socket
from contextlib import closing

import pytest

from infra.faults import Fault
from workers.cli.addresses import (
    answers,
    http_url,
    psql_address,
    require_free,
    require_postgres,
    require_valkey,
    without_password,
)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),  # noqa: S104 - nothing is bound
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_the_address_told_is_one_that_can_be_opened(host: str, url: str) -> None:
    assert http_url(host, 80) == url


def test_a_port_in_use_is_named_with_the_way_out() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        told = rf"port {port} on 127.0.0.1 cannot be used \([^()]*\): choose another with --port"
        with pytest.raises(Fault, match=told):
            require_free("127.0.0.1", port)
    require_free("127.0.0.1", port)


def test_a_host_that_is_not_of_this_machine_is_refused() -> None:
    with pytest.raises(Fault, match=r"port 8000 on 192\.0\.2\.1 cannot be used"):
        require_free("192.0.2.1", 8000)


def test_nothing_answers_where_nothing_listens() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    assert not answers("127.0.0.1", port, "/readyz")
    with pytest.raises(Fault, match="the Postgres of DATABASE_URL does not answer") as fault:
        require_postgres(f"postgresql://u:hidden@127.0.0.1:{port}/d")
    assert "hidden" not in str(fault.value)
    with pytest.raises(Fault, match="the Valkey or Redis of REDIS_URL does not answer") as fault:
        require_valkey(f"redis://:hidden@127.0.0.1:{port}")
    assert "hidden" not in str(fault.value)


def test_servers_that_answer_are_accepted(postgres_url: str, redis_url: str) -> None:
    require_postgres(postgres_url)
    require_valkey(redis_url)


def test_passwords_are_left_out_of_what_is_printed() -> None:
    assert psql_address("postgresql://u:hidden@h:1/d?sslpassword=hidden") == "user=u dbname=d host=h port=1"
    assert without_password("redis://user:hid@den@h:1/0") == "redis://user@h:1/0"
    assert without_password("rediss://h:1/0?ssl_password=hidden") == "rediss://h:1/0"
    assert without_password("unix:///run/valkey.sock") == "unix:///run/valkey.sock"
