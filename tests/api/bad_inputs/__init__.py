"""The 66 bad inputs: one entry or more for each, by its number and words, and what is answered."""

from collections.abc import Mapping
from typing import Final

from tests.api.bad_inputs import files, identity, shape, values
from tests.api.bad_inputs.place import Bad, Send, call

ENTRIES: Final[list[Bad]] = [*shape.ENTRIES, *values.ENTRIES, *files.ENTRIES, *identity.ENTRIES]

# what there is nothing for to be sent to, and where it would be sent
ABSENT: Final[Mapping[int, tuple[str, Send]]] = {
    55: ("There are no photos, so no EXIF to strip either.", call("PUT", "/activities/{run}/photos/{new}", b"\x89PNG")),
    65: ("There is no search.", call("GET", "/search?q=%25")),
    66: ("There are no webhooks.", call("PUT", "/me/webhooks/{new}", b'{"url": "http://127.0.0.1/"}')),
}
