import pytest

from tests.infra.formats import mutations, real_files


def test_damaged_recordings_get_a_verdict_soon_and_in_little_memory() -> None:
    sources = mutations.made_files()
    report = mutations.run(sources, seed=1, numbers=range(300))
    assert report.faults == []
    assert {"read as fit", "read as gpx", "read as tcx", "read as json"} <= report.verdicts.keys()
    assert report.files == 300


@pytest.mark.skipif(not real_files.FOLDER.exists(), reason="no folder of real recordings beside the repository")
def test_real_recordings_whole_and_damaged_do_so_too() -> None:
    report = mutations.run(mutations.files_in(real_files.FOLDER), seed=2, numbers=range(120))
    assert report.faults == []
