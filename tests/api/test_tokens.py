import base64
import json
from datetime import timedelta
from uuid import uuid4

import jwt
import pytest

from api.tokens import LATE_UPLOAD, LIFE, Tokens, _token_of, token_of
from domain.accounts import TokenRefused
from tests.scenarios import ANNA, MAY_1

SECRET = b"s" * 32
TOKENS = Tokens([("new", SECRET), ("old", b"o" * 32)])
SESSION = uuid4()


def forged(header: dict[str, object], claims: dict[str, object], key: bytes = SECRET) -> str:
    return jwt.encode(claims, key, str(header.pop("alg", "HS256")), headers=header)


def claims(**changes: object) -> dict[str, object]:
    return {"sub": str(ANNA), "sid": str(SESSION), "aud": "cairn", "iat": MAY_1, "exp": MAY_1 + LIFE, **changes}


def test_a_token_says_who_until_it_expires() -> None:
    token = TOKENS.issue(ANNA, SESSION, MAY_1)
    assert TOKENS.read(token, MAY_1 + LIFE) == (ANNA, SESSION)
    with pytest.raises(TokenRefused):
        TOKENS.read(token, MAY_1 + LIFE + timedelta(minutes=2))


def test_a_header_too_long_for_a_token_of_ours_has_none_and_is_not_remembered() -> None:
    ours = TOKENS.issue(ANNA, SESSION, MAY_1)
    assert token_of(f"bearer  {ours} ".encode()) == ours
    remembered = _token_of.cache_info().currsize
    assert token_of(b"Bearer " + b"x" * 1_024) == ""
    assert _token_of.cache_info().currsize == remembered


def test_of_the_tokens_that_were_checked_the_last_ones_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.tokens._KNOWN", 2)
    tokens, at = Tokens([("new", SECRET)]), MAY_1.timestamp()
    given = [tokens.issue(ANNA, uuid4(), MAY_1) for _ in range(3)]
    for token in given:
        tokens.read(token, MAY_1)
    assert [tokens.known(token, at) is not None for token in given] == [False, True, True]


def test_a_token_of_the_key_before_is_still_read() -> None:
    before = Tokens([("old", b"o" * 32)])
    assert TOKENS.read(before.issue(ANNA, SESSION, MAY_1), MAY_1).user_id == ANNA


def test_a_phone_that_was_offline_for_a_month_may_hand_in_its_runs() -> None:
    token = TOKENS.issue(ANNA, SESSION, MAY_1)
    assert TOKENS.read(token, MAY_1 + timedelta(days=29), late=LATE_UPLOAD).user_id == ANNA
    with pytest.raises(TokenRefused):
        TOKENS.read(token, MAY_1 + timedelta(days=31), late=LATE_UPLOAD)


def test_runs_come_in_also_where_the_server_s_clock_is_behind_the_one_that_gave_the_token() -> None:
    token = TOKENS.issue(ANNA, SESSION, MAY_1)
    behind = MAY_1 - timedelta(minutes=5)
    assert TOKENS.read(token, behind, late=LATE_UPLOAD).user_id == ANNA
    with pytest.raises(TokenRefused):
        TOKENS.read(token, behind)


def unsigned() -> str:
    parts = [{"alg": "none", "kid": "new"}, {**claims(), "iat": 0, "exp": 2**40}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@pytest.mark.parametrize(
    "token",
    [
        "",
        "a.b.c",
        "x" * 1_000_000,
        unsigned(),
        forged({"kid": "new"}, claims(), b"another key of thirty-two bytes!"),
        forged({"kid": "unheard of"}, claims()),
        forged({}, claims()),
        forged({"kid": "new", "alg": "HS384"}, claims(), b"s" * 48),
        forged({"kid": "new"}, claims(aud="another service")),
        forged({"kid": "new"}, claims(sub="not a uuid")),
        forged({"kid": "new"}, claims(iat=MAY_1 + timedelta(hours=1))),
        forged({"kid": "new", "crit": ["exp"]}, claims()),
        forged({"kid": "new"}, {"sub": str(ANNA)}),
        forged({"kid": "new"}, claims(exp=10**400)),
        forged({"kid": "new"}, claims(sid=5)),
        forged({"kid": "new"}, claims(sid=["a"])),
    ],
    ids=range(16),
)
def test_what_we_did_not_sign_is_refused(token: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(token, MAY_1)
