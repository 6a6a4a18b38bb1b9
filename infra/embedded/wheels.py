"""Where the servers' programs are inside their wheels, found without importing the packages."""

import importlib.util
import os
from pathlib import Path

from infra.faults import Fault


def program(package: str, pattern: str) -> Path:
    """The one executable in a wheel that matches; `Fault` when the wheel has none for this machine."""
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    for root in roots:
        for found in sorted(Path(root).glob(pattern)):
            if os.access(found, os.X_OK):
                return found
    raise Fault(
        f"the package {package} has no server for this machine: set DATABASE_URL and REDIS_URL to servers of yours."
    )
