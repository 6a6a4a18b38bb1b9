from uuid import UUID

from api.admission.gcra import LocalLimits
from api.admission.kinds import Kind
from api.admission.rates import Rates

ANNA = UUID(int=1)
QUOTAS = {**{str(kind): (3, 600) for kind in Kind}, "anonymous": (3, 600)}


def test_whoever_uses_many_devices_is_told_the_limit_of_them_all() -> None:
    rates, local, told = Rates(QUOTAS, b"secret"), LocalLimits(lambda: 0), list[bytes]()
    for number in range(5):
        counted = rates.of_user(Kind.READ, ANNA, UUID(int=number))
        for _ in range(3):
            told.append(counted.told(local.take(counted.claims)).lines[0][1])
    # four devices' worth: the fifth has all of its own limit left
    assert told == [b'"read";q=3;w=600'] * 12 + [b'"read-all-devices";q=12;w=600'] * 3


def test_addresses_are_known_by_hashes_under_a_secret() -> None:
    mine, same, others = (
        Rates(QUOTAS, secret).of_other("anonymous", "203.0.113.9").claims for secret in (b"secret", b"secret", b"other")
    )
    assert mine == same
    assert mine[0][0] != others[0][0]
    assert "203.0.113.9" not in mine[0][0]
