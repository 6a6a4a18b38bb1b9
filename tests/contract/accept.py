"""Make today's document the released one: `python -m tests.contract.accept`, at a release, or when something is new.

It tells what is new. What breaks apps is refused; `--breaking` takes it: for what nobody can have built on yet.
"""

import sys

from tests.contract.differences import additions, breaks
from tests.contract.document import RELEASED, keep, released, todays


def main() -> None:
    """Compare, tell, keep."""
    document = todays()
    if RELEASED.exists():
        before = released()
        for what in additions(before, document):
            sys.stdout.write(f"new: {what}\n")
        if (broken := breaks(before, document)) and "--breaking" not in sys.argv:
            sys.exit("\n".join(["this breaks apps (--breaking takes it nevertheless):", *broken]))
    keep(document)


if __name__ == "__main__":
    main()
