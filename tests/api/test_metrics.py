from uuid import uuid4

from prometheus_client.parser import text_string_to_metric_families

from tests.api.conftest import Runner, World


async def test_the_queue_is_measured(world: World, anna: Runner) -> None:
    await anna("PUT", f"/activities/{uuid4()}", content=b"<gpx/>", headers={"Prefer": "wait=20"})
    answer = await world.http.get("/metrics")
    assert answer.status_code == 200
    found = {
        sample.name: (sample.labels, sample.value)
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["cairn_uploads_failed"][1] >= 1
    for name in ("waiting", "oldest_age_seconds"):
        assert 0 <= found[f"cairn_uploads_{name}"][1] < 100
    assert found["cairn_upload_hints"][1] >= 0
    assert found["process_resident_memory_bytes"][1] > 10_000_000
