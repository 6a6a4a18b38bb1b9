"""Children that never outlive their parent, and children that are not root."""

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

AS_WE_ARE: Final = "-"
IN_NAMESPACE: Final = "+"  # anything else is the name of an account

_CHECKOUT: Final = Path(__file__).parents[1]
_PR_SET_PDEATHSIG: Final = 1  # prctl(2)
_CLONE_NEWUSER: Final = 0x10000000  # unshare(2)


def cores() -> int:
    """How many this process may run on; all of the machine's where the system does not tell (it is no Linux)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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


def become(account: str) -> None:
    """Be this account from now on, with nothing of root left."""
    entry = pwd.getpwnam(account)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.chdir("/")  # the folder that root was in may be closed to the account


def child_command(argv: Sequence[str], *, on_death: signal.Signals, identity: str = AS_WE_ARE) -> list[str]:
    """The command that runs `argv` as a child of this process which gets `on_death` when this process dies."""
    # -S: no packages are needed, and looking for them takes longer than all the rest
    step = [sys.executable, "-S", "-P", "-m", "infra.child"]
    return [*step, str(os.getpid()), str(int(on_death)), identity, *argv]


def child_environ() -> Mapping[str, str]:
    """An environment that `child_command` can start in, and that has nothing of the user's own."""
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "PYTHONPATH": str(_CHECKOUT)}


def can_drop_root() -> bool:
    """Whether `drop_root` works here, tried in a child."""
    if sys.platform != "linux":
        return False
    argv = child_command([sys.executable, "-S", "-c", ""], on_death=signal.SIGKILL, identity=IN_NAMESPACE)
    done = subprocess.run(argv, env=child_environ(), capture_output=True, check=False)  # noqa: S603 - Python itself
    return done.returncode == 0
