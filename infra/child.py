"""The last step before a server's own program: tie it to its parent, and stop being root for one that refuses root.

`python -m infra.child PARENT_PID SIGNAL IDENTITY PROGRAM [ARGUMENT...]`: `infra.processes.child_command` writes that.
A step of its own, rather than code between fork and exec, because a process with threads must not run Python there.
"""

import os
import signal
import sys
from typing import Final

from infra.processes import AS_WE_ARE, IN_NAMESPACE, become, drop_root, end_with_parent

_CANNOT: Final = 126  # what shells say of a program that cannot be run


def main(arguments: list[str]) -> None:
    """Become the program; exit code 126 with a reason when that cannot be."""
    parent, number, identity, *program = arguments
    try:
        if identity == IN_NAMESPACE:
            drop_root()
        elif identity != AS_WE_ARE:
            become(identity)
        end_with_parent(signal.Signals(int(number)))  # last: the kernel forgets it when the user changes
        if os.getppid() != int(parent):
            return  # the parent died before it could be heard of
        os.execv(program[0], program)  # noqa: S606 - a program of ours, no shell
    except (OSError, KeyError) as error:
        sys.stderr.write(f"{program[0]} cannot be started: {error}\n")
        sys.exit(_CANNOT)


if __name__ == "__main__":
    main(sys.argv[1:])
