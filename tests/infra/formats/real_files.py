"""Recordings of real devices, beside the repository when they are there."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = Path(__file__).parents[4] / "shared" / "data" / "activities"


def paths(suffix: str) -> list[Path]:
    """The files of one kind; none when the folder is not there."""
    return sorted(FOLDER.glob(f"*.{suffix}"))


def index() -> list[Mapping[str, str]]:
    """What is known of each file from elsewhere; devices' totals among it."""
    path = FOLDER / "INDEX.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as rows:
        return list(csv.DictReader(rows))
