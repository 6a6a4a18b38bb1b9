import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.streams import MalformedPosition
from infra.positions import from_token, to_token


@given(st.integers(0, 2**63 - 1))
def test_a_token_leads_back_to_its_position(position: int) -> None:
    assert from_token(to_token(position)) == position


@pytest.mark.parametrize("token", ["", "p1-", "12", "p1-xyz", "p2-5", "p1-+5", "p1-ffffffffffffffff", "p1-" + "0" * 99])
def test_anything_else_is_refused(token: str) -> None:
    with pytest.raises(MalformedPosition):
        from_token(token)
