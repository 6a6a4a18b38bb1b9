from ipaddress import ip_network

import pytest

from api.admission.addresses import Addresses

BEHIND = Addresses([ip_network("10.0.0.0/8"), ip_network("::1/128")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "counts"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # the peer is nobody's proxy: it made that up
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.1.1.1, 198.51.100.1, 10.2.3.4", "198.51.100.1"),  # the first was told by the client
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.2"),
        ("::1", "nonsense", "nonsense"),
        ("::1", "x" * 900, "x" * 64),  # which is all that is remembered
        ("10.0.0.1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("", "", ""),
    ],
)
def test_the_address_that_counts(peer: str, forwarded: str, counts: str) -> None:
    assert BEHIND.of(peer, forwarded) == counts


def test_nobody_is_believed_when_nobody_is_trusted() -> None:
    assert Addresses([]).of("127.0.0.1", "198.51.100.1") == "127.0.0.1"
