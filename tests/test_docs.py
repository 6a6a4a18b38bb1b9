"""What the documents say about the code, and whether what they link to is there."""

import re
import subprocess
from pathlib import Path

import pytest

from api.problems import STATUSES

CHECKOUT = Path(__file__).parents[1]
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CHANGELOG.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]


def test_every_problem_code_is_explained_with_its_status() -> None:
    rows = [line.split("|") for line in (CHECKOUT / "docs/problems.md").read_text().splitlines() if "`" in line]
    told = {code: row[2] for row in rows if len(row) > 3 for code in re.findall(r"`([a-z-]+)`", row[1])}
    assert {code for code, status in STATUSES.items() if str(status) not in told.get(code, "")} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_what_a_page_links_to_is_there(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_change_of_the_migration_guide_fits_the_code_of_today() -> None:
    change = ["git", "apply", "--check", "docs/operators/summaries-2.diff"]
    told = subprocess.run(change, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert told.stderr == "", "make it anew: git apply --3way, resolve, git diff --cached"
