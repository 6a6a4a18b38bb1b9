"""Children that never outlive their parent, and children that are not root."""

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path
from typing import Final

from infra.faults import Fault

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_CLONE_NEWUSER: Final = 0x10000000  # unshare(2)


def end_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Ask Linux to send this process a signal when its parent dies, however it dies. Elsewhere: nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number))


def drop_root() -> None:
    """Stop being root, as seen from inside, while files stay root's own (user_namespaces(7)).

    For servers that refuse to run as root, on machines where all there is is root: the process sees itself as the
    user `nobody`, and what it writes belongs to root as before, so that no folder need be opened or handed over.
    Raises OSError where user namespaces are not allowed.
    """
    nobody = pwd.getpwnam("nobody")  # a name is needed: Postgres looks its own user up
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "user namespaces are not allowed here")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")


def can_drop_root() -> bool:
    """Whether `drop_root` works here, tried in a child."""
    child = os.fork()
    if child == 0:
        try:
            drop_root()
        except (OSError, KeyError):
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def require_droppable_root() -> None:
    """`Fault` where an embedded Postgres cannot run: as root without user namespaces."""
    if os.geteuid() == 0 and not (sys.platform == "linux" and can_drop_root()):
        raise Fault(
            "Postgres refuses to run as root, and this system allows no user namespaces: "
            "run cairn as an ordinary user, or set DATABASE_URL to a Postgres of yours."
        )
