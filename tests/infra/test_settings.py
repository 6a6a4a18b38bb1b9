import base64
from pathlib import Path

import pytest
from msgspec.structs import replace

from infra.away import watched
from infra.faults import Fault
from infra.instance import Instance, announce, hold
from infra.secrets import make_secrets
from infra.settings import Cdn, load_settings

KEY = base64.b64encode(b"k" * 32).decode()
ENVIRON = {
    "DATABASE_URL": "postgresql://cairn:hidden@db1:5432,db2:5432/cairn",
    "REDIS_URL": "redis://:hidden@cache:6379/0",
    "OBJECT_STORE_URL": "s3://runs/prefix",
    "CAIRN_MASTER_KEY": KEY,
    "CAIRN_TOKEN_KEYS": f"new:{KEY}, old:{KEY}",
    "CAIRN_CURSOR_KEY": KEY,
}
INSTANCE = Instance(
    pid=1, api_url="http://d", database_url="postgresql:///a", redis_url="redis://b", object_store_url="file:///c"
)


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    settings = load_settings(tmp_path, ENVIRON)
    assert settings.database_url == watched(ENVIRON["DATABASE_URL"])
    assert settings.master_keys == (b"k" * 32,)
    assert [key.kid for key in settings.token_keys] == ["new", "old"]
    assert settings.log_level == "INFO"


def test_an_empty_setting_is_one_that_is_not_set(tmp_path: Path) -> None:
    names = ("CAIRN_LOG_LEVEL", "CAIRN_PUBLIC_URL", "CAIRN_CDN_PURGE_URL", "CAIRN_CDN_PURGE_HEADER")
    assert load_settings(tmp_path, {**ENVIRON, **dict.fromkeys(names, " ")}) == load_settings(tmp_path, ENVIRON)


def test_a_cdn_and_a_site_are_told_of_or_not_there(tmp_path: Path) -> None:
    without = load_settings(tmp_path, ENVIRON)
    assert (without.cdn, without.public_url) == (None, None)
    told = {
        "CAIRN_CDN_PURGE_URL": "http://varnish1:6082/, http://varnish2:6082/",
        "CAIRN_CDN_PURGE_HEADER": "Fastly-Key: hidden",
        "CAIRN_PUBLIC_URL": "https://runs.example/",
    }
    settings = load_settings(tmp_path, {**ENVIRON, **told})
    assert settings.cdn == Cdn(("http://varnish1:6082/", "http://varnish2:6082/"), ("Fastly-Key", "hidden"))
    assert settings.public_url == "https://runs.example"


@pytest.mark.parametrize(
    "url",
    [
        "redis://:secret@h:6379/2",
        "unix://user:secret@/run/valkey.sock?db=2",
        "rediss://h?ssl_ca_certs=/ca.pem&ssl_cert_reqs=required&health_check_interval=5&client_name=cairn",
        "rediss://h?ssl_min_version=771",
        "rediss://h?ssl_min_version=772",
    ],
)
def test_a_valkey_may_be_named_with_what_does_not_change_how_it_is_asked(tmp_path: Path, url: str) -> None:
    assert load_settings(tmp_path, {**ENVIRON, "REDIS_URL": url}).redis_url == url


def test_a_running_instance_and_its_secrets_are_enough(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    with hold(tmp_path):
        announce(tmp_path, INSTANCE)
        settings = load_settings(tmp_path, {})
        found = (settings.database_url, settings.redis_url, settings.object_store_url)
        assert found == (watched(INSTANCE.database_url), INSTANCE.redis_url, INSTANCE.object_store_url)
        assert load_settings(tmp_path, {"REDIS_URL": "redis://mine"}).redis_url == "redis://mine"


def test_without_an_instance_the_first_thing_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fault, match=r"DATABASE_URL is not set, and no instance runs in .*: start \./cairn up there"):
        load_settings(tmp_path, {})


@pytest.mark.parametrize("name", ["CAIRN_MASTER_KEY", "CAIRN_TOKEN_KEYS", "CAIRN_CURSOR_KEY"])
def test_without_secrets_the_missing_key_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(Fault, match=f"{name} is not set, and there are no secrets in"):
        load_settings(tmp_path, {**ENVIRON, name: " "})


@pytest.mark.parametrize(
    ("embedded", "url", "dropped"),
    [
        (True, "", True),
        (True, " ", True),
        (True, "postgresql://db/cairn", False),
        (False, "", False),  # an instance over a Postgres of the operator's, which its address alone may not reach
        (False, "postgresql://db/cairn", False),
    ],
)
def test_what_is_said_of_other_servers_is_dropped_for_the_embedded_postgres_alone(
    tmp_path: Path, url: str, *, embedded: bool, dropped: bool
) -> None:
    environ = {**ENVIRON, "PGHOST": "db9", "PGSSLMODE": "verify-full", "PATH": "/bin", "DATABASE_URL": url}
    with hold(tmp_path):
        announce(tmp_path, replace(INSTANCE, embedded_postgres=embedded))
        load_settings(tmp_path, environ)
    assert {"PGHOST", "PGSSLMODE"} & environ.keys() == (set() if dropped else {"PGHOST", "PGSSLMODE"})
    assert environ["PATH"] == "/bin"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASE_URL", "mysql://u:hidden@h/d", "must begin with postgresql:// or postgres://"),
        ("DATABASE_URL", "postgresql://u:hidden@[::1/d", "is not an address"),
        ("DATABASE_URL", "postgresql://u:hidden@h/d?colour=red", "is not an address"),
        ("REDIS_URL", "localhost:6379", "must begin with redis:// or rediss:// or unix://"),
        ("REDIS_URL", "redis://:hidden@h:port", "is not an address"),
        ("REDIS_URL", "redis://h:6379/hidden", "must name a database by its number"),
        ("REDIS_URL", "redis://h:6379?hidden", "may have these options alone: client_name, db,"),
        ("REDIS_URL", "redis://h?decode_responses=true", "may have these options alone: client_name, db,"),
        ("REDIS_URL", "redis://h?ssl_ca_certs=/ca.pem", "may have these options alone: client_name, db,"),
        ("REDIS_URL", "redis://h?health_check_interval=hidden", "has an option that is not valid"),
        ("REDIS_URL", "rediss://h?ssl_cert_reqs=maybe", "has an option that is not valid"),
        ("REDIS_URL", "rediss://h?ssl_min_version=TLSv1_2", "has an option that is not valid"),
        ("REDIS_URL", "rediss://h?ssl_min_version=1", "names no version of TLS by ssl_min_version: 771 is TLS 1.2"),
        ("REDIS_URL", f"rediss://h?ssl_min_version={1 << 64}", "names no version of TLS by ssl_min_version: 771"),
        ("OBJECT_STORE_URL", "file://objects", "must name an absolute folder"),
        ("OBJECT_STORE_URL", "s3:///prefix", "must name a bucket"),
        ("OBJECT_STORE_URL", "https://bucket", "must begin with file:// or s3://"),
        ("CAIRN_MASTER_KEY", "hidden", "must be the base64 of 32 bytes"),
        ("CAIRN_CURSOR_KEY", base64.b64encode(b"hidden").decode(), "must be the base64 of 32 bytes"),
        ("CAIRN_TOKEN_KEYS", KEY, "must be KEY_ID:BASE64"),
        ("CAIRN_TOKEN_KEYS", f"a:{KEY},b:{KEY}, a:{KEY}", "has the id a twice"),
        ("CAIRN_TOKEN_KEYS", "k:hidden", "must be the base64 of 32 bytes"),
        ("CAIRN_CDN_PURGE_URL", "varnish:6082", "must be an address"),
        ("CAIRN_CDN_PURGE_URL", "http://varnish:6082/, http://hidden:port/", "must be an address"),
        ("CAIRN_CDN_PURGE_HEADER", "hidden", "must be a header"),
        ("CAIRN_CDN_PURGE_HEADER", "Key: hidden\r\nMore: b", "must be a header"),
        ("CAIRN_CDN_PURGE_HEADER", "Key: hidden", "is of no use without CAIRN_CDN_PURGE_URL"),
        ("CAIRN_PUBLIC_URL", "runs.example/hidden", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://[::1/hidden", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://runs.example/?hidden=1", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://runs.example/hidden#", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://runs.example/#hidden", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://runs.example/hidden#/", "must be an address"),
        ("CAIRN_PUBLIC_URL", "https://user:hidden@runs.example", "must be an address"),
        ("CAIRN_LOG_LEVEL", "loud", "must be one of DEBUG, INFO, WARNING, ERROR"),
    ],
)
def test_a_wrong_value_is_named_and_not_repeated(tmp_path: Path, name: str, value: str, told: str) -> None:
    with pytest.raises(Fault) as fault:
        load_settings(tmp_path, {**ENVIRON, name: value})
    assert str(fault.value).startswith(f"{name} {told}")
    assert "hidden" not in str(fault.value)
