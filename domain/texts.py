"""What texts show."""

import re
from typing import Final

# Characters that show nothing: white space, controls, fillers, and marks that only steer others. Named one by one, as
# `\s` is another set in each language that reads the patterns.
BLANK: Final = (
    r"\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f"
    r"\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0"
)
_SEEN: Final = re.compile(rf"[^{BLANK}]")
_NO_CHARACTER: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, production 2


def of_characters(text: str) -> str:
    """Without what no document in XML or HTML may hold, not even escaped."""
    return _NO_CHARACTER.sub("", text)


def is_blank(text: str) -> bool:
    """Whether nothing of the text is seen."""
    return _SEEN.search(text) is None
