import base64
import json
import stat
from pathlib import Path

import pytest

from infra.faults import Fault
from infra.secrets import load_secrets, make_secrets


def test_there_are_none_before_they_are_made(tmp_path: Path) -> None:
    assert load_secrets(tmp_path) == {}


def test_they_are_made_whole_different_and_for_the_owner_alone(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "secrets").iterdir()} == {0o600}
    assert [path.name for path in tmp_path.iterdir()] == ["secrets"]
    found = load_secrets(tmp_path)
    keys = {base64.b64decode(value.rpartition(":")[2]) for value in found.values()}
    assert {len(key) for key in keys} == {32}
    assert len(keys) == 3


def test_they_are_never_written_over(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    before = load_secrets(tmp_path)
    with pytest.raises(Fault, match="move it away"):
        make_secrets(tmp_path)
    assert load_secrets(tmp_path) == before


def test_the_first_token_key_stays_first(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    file = tmp_path / "secrets" / "tokens.json"
    keys = {"new": base64.b64encode(b"n" * 32).decode(), **json.loads(file.read_text())}
    file.write_text(json.dumps(keys))
    assert load_secrets(tmp_path)["CAIRN_TOKEN_KEYS"].startswith("new:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    make_secrets(tmp_path)
    (tmp_path / "secrets" / "master.key").unlink()
    with pytest.raises(Fault, match=r"secrets lacks master\.key: put back"):
        load_secrets(tmp_path)


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "my data"
    data.mkdir()
    make_secrets(data)
    (data / "secrets" / "cursor.key").chmod(0o640)
    with pytest.raises(Fault, match=r"cursor\.key can be read by others: run chmod 600 '/.*/my data/.*\.key'\."):
        load_secrets(data)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("master.key", ""),
        ("master.key", "c2hvcnQ="),
        ("master.key", "c2VjcmV0 and more"),
        ("tokens.json", "{}"),
        ("tokens.json", "[]"),
        ("tokens.json", '{"k": 1}'),
        ("tokens.json", '{"k": "c2hvcnQ="}'),
    ],
)
def test_a_damaged_file_is_named_and_not_repeated(tmp_path: Path, file: str, content: str) -> None:
    make_secrets(tmp_path)
    (tmp_path / "secrets" / file).write_text(content)
    with pytest.raises(Fault, match=f"{file} is not as it was made") as fault:
        load_secrets(tmp_path)
    assert not content or content not in str(fault.value)
