"""Rows that are not as the log has them are found, by command and by the hour."""

from pathlib import Path

import pytest

from infra.projecting.auditing import audit
from infra.settings import Settings
from tests.infra.projecting.conftest import Operator
from tests.infra.projecting.histories import MASTER, MASTER_KEY
from workers.cli.worker import audit_once


@pytest.mark.usefixtures("history")
def test_each_kind_of_drift_is_named(operator: Operator) -> None:
    database = operator.connection
    database.execute("UPDATE summaries_v1.days SET count = 99 WHERE ctid = (SELECT min(ctid) FROM summaries_v1.days)")
    database.execute("DELETE FROM goals_v1.goals WHERE ctid = (SELECT min(ctid) FROM goals_v1.goals)")
    database.execute("INSERT INTO people_v1.degrees VALUES (gen_random_uuid(), 1, 1)")
    found = {one.build: one.differences for one in audit(operator.url, operator.registry, MASTER, None, percent=100)}
    told = {(build, drift.table, drift.what) for build, drifts in found.items() for drift in drifts}
    assert told == {
        ("summaries v1", "days", "differs in count"),
        ("goals v1", "goals", "is missing"),
        ("people v1", "degrees", "should not be there"),
    }


@pytest.mark.usefixtures("history")
def test_the_hourly_audit_looks_at_one_partition(operator: Operator) -> None:
    settings = Settings(
        data=Path("/nowhere"),
        database_url=operator.url,
        redis_url="",
        object_store_url="",
        master_keys=(MASTER_KEY,),
        token_keys=(),
        cursor_key=b"",
        log_level="ERROR",
    )
    assert audit_once(settings) == []
    operator.connection.execute(
        "INSERT INTO people_v1.degrees SELECT gen_random_uuid(), 1, 1 FROM generate_series(1, 9999)"
    )
    assert "people v1: degrees" in audit_once(settings)[0]
