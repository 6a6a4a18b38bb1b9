"""What was brought in already, a line for each entry, so that the next run does not read it again.

Only speed hangs on it: without it, the server still knows the same bytes again. It is believed as far as the account
has what it names: a server may have been put back to what it was before, and what a duplicate was of may be deleted.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Self
from uuid import UUID

from infra.faults import Fault

# of a row; of activities only the ids: what they are is the server's
_KEPT: Final = ("verdict", "note", "activities", "duplicate_of", "duplicate_activities")


class Journal:
    """A file that only grows. A line that was cut off is no line, and its entry is brought again.

    Once a line cannot be written, as on a disk that is full, none is any more, and `why_not` says what was the matter:
    hours of an import are not ended by what is only for the next one's speed.
    """

    def __init__(self, file: IO[str], account: str, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._file = file
        self._account = account
        self._known = known
        self.why_not = ""

    @classmethod
    def open(cls, path: Path, user_id: UUID) -> Self:
        """The journal at a path, with what it holds of this account; `Fault` when it cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise Fault(
                f"the journal {path} cannot be written ({error.strerror}): choose another with --journal."
            ) from None
        file = os.fdopen(handle, "r+", encoding="utf-8", errors="replace")
        lines = file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            file.write("\n")
        account = str(user_id)
        return cls(file, account, dict(found for line in lines if (found := _parsed(line, account)) is not None))

    def close(self) -> None:
        """Done."""
        with self._writing():
            self._file.close()

    @property
    def is_empty(self) -> bool:
        """Whether nothing was done for this account yet."""
        return not self._known

    def doubt(self, there: Collection[str]) -> None:
        """Forget the entries of whose activities, or of what they are duplicates of, none is among these."""
        self._known = {key: row for key, row in self._known.items() if _is_there(row, there)}

    def row(self, key: str) -> dict[str, Any] | None:
        """What came of the entry, if it is done."""
        found = self._known.get(key)
        return None if found is None else dict(found)

    def add(self, key: str, row: Mapping[str, Any]) -> None:
        """Note that the entry is done."""
        kept = {name: row[name] for name in _KEPT if row.get(name)}
        kept["activities"] = [{"activity_id": seen["activity_id"]} for seen in row.get("activities", ())]
        if not self.why_not:
            with self._writing():
                self._file.write(json.dumps({"account": self._account, "key": key, **kept}) + "\n")
                self._file.flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.why_not = self.why_not or error.strerror or str(error)


def _is_there(row: Mapping[str, Any], there: Collection[str]) -> bool:
    named = [seen["activity_id"] for seen in row.get("activities", ())]
    named += [row["duplicate_of"], *row.get("duplicate_activities", ())] if "duplicate_of" in row else []
    return not named or any(one in there for one in named)


def _parsed(line: str, account: str) -> tuple[str, dict[str, Any]] | None:
    try:
        found = json.loads(line)
        if found.pop("account") != account:
            return None
        return found.pop("key"), {"verdict": str(found["verdict"]), **found}
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
