from uuid import UUID, uuid4, uuid5

from domain.measures import derived_id

NAMESPACE = UUID("6e7b0a52-2f0c-5a37-9c55-0c3a8f6f1d00")


def test_ids_of_streams_never_change() -> None:
    assert derived_id("goal", UUID(int=1), UUID(int=2)) == UUID("32882afc-37cb-8fe0-812a-99ea2282c8ff")
    assert derived_id("user", UUID(int=3)) == UUID("2e9e1919-3458-8458-a92b-ff90034a6a7d")
    assert derived_id("registration", "ä@example.com", "k") == UUID("570aea0d-be45-85e8-9d21-351ce5f04783")


def test_they_are_hashes_of_names_marked_as_version_8() -> None:
    for _ in range(100):
        user, goal = uuid4(), uuid4()
        found, hashed = derived_id("goal", user, goal), uuid5(NAMESPACE, f"goal/{user}/{goal}")
        assert (found.version, found.variant) == (8, hashed.variant)
        assert found.int | 0xF << 76 == hashed.int | 0xF << 76
