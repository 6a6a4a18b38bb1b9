"""Make today's document the released one: `python -m tests.contract.accept`, at a release, or when something is new.

It tells what is new. What breaks apps is refused; `--breaking` takes it: for what nobody can have built on yet.
"""

import sys

from api.problems import STATUSES
from tests.contract.differences import additions, breaks, lost_codes
from tests.contract.document import RELEASED, keep, released, released_codes, todays


def main() -> None:
    """Compare, tell, keep."""
    document = todays()
    if RELEASED.exists():
        before, codes = released(), released_codes()
        for what in [*additions(before, document), *sorted(STATUSES.keys() - codes.keys())]:
            sys.stdout.write(f"new: {what}\n")
        if (broken := [*breaks(before, document), *lost_codes(codes, STATUSES)]) and "--breaking" not in sys.argv:
            sys.exit("\n".join(["this breaks apps (--breaking takes it nevertheless):", *broken]))
    keep(document)


if __name__ == "__main__":
    main()
