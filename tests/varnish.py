"""A real shared cache: Varnish with the VCL that operators are given, from the system or from Debian's packages."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from infra.processes import child_command, child_environ

VCL = Path(__file__).parents[1] / "docs/operators/cairn.vcl"
_PACKAGES = ("varnish", "libvarnishapi3", "libjemalloc2", "tcc", "libtcc-dev")  # tcc: VCL is compiled to C first
_UNPACKED = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cairn-tests" / "varnish"


class Programs(Struct, frozen=True):
    """Where Varnish is, and what it needs to run there."""

    varnishd: str
    varnishstat: str
    environ: Mapping[str, str]
    arguments: tuple[str, ...]


class Varnish(Struct):
    """A running one."""

    url: str
    purge_url: str
    _programs: Programs
    _folder: Path

    def counters(self) -> dict[str, int]:
        """What it counts itself: `MAIN.cache_hit` and many more."""
        argv = [self._programs.varnishstat, "-1", "-n", str(self._folder)]
        told = subprocess.run(argv, env=self._programs.environ, capture_output=True, text=True, check=True).stdout
        return {name: int(value) for name, value, *_ in (line.split() for line in told.splitlines() if line)}


def programs() -> Programs:
    """Of the system; else downloaded once, without being installed. The test is skipped where neither can be."""
    found = shutil.which("varnishd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found:
        stat = shutil.which("varnishstat") or "varnishstat"
        return Programs(found, stat, {**child_environ(), "PATH": os.environ.get("PATH", "")}, ())
    try:
        root = _unpacked()
        libraries = next(root.glob("usr/lib/*/varnish")).parent
    except (OSError, subprocess.SubprocessError, StopIteration) as reason:
        pytest.skip(f"no varnishd on the PATH, and Debian's packages cannot be had: {reason}")
    compiler = f"{root}/usr/bin/tcc -B{libraries}/tcc -shared -w -o %o %s"
    environ = {**child_environ(), "LD_LIBRARY_PATH": f"{libraries}:{libraries}/varnish"}
    arguments = ("-p", f"vmod_path={libraries}/varnish/vmods", "-p", f"cc_command=exec {compiler}")
    return Programs(f"{root}/usr/sbin/varnishd", f"{root}/usr/bin/varnishstat", environ, arguments)


def _unpacked() -> Path:
    """Debian's packages, unpacked in the user's cache folder: whole or not at all, also when two do it."""
    if _UNPACKED.exists():
        return _UNPACKED
    own = _UNPACKED.with_name(f"varnish-{os.getpid()}")
    shutil.rmtree(own, ignore_errors=True)
    (own / "debs").mkdir(parents=True)
    try:
        _download(own / "debs")
        for package in (own / "debs").glob("*.deb"):
            _run(own, "dpkg-deb", "-x", str(package), "root")
        if not _UNPACKED.exists():
            (own / "root").rename(_UNPACKED)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return _UNPACKED


def _download(folder: Path) -> None:
    """By apt-get, which checks signatures; no root is needed. With own lists where the system's are of no use."""
    try:
        _run(folder, "apt-get", "download", "-qq", *_PACKAGES)
    except subprocess.CalledProcessError:
        for missing in ("lists/partial", "cache/archives/partial"):
            (folder / missing).mkdir(parents=True)
        own = ["-qq", "-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        _run(folder, "apt-get", *own, "update")
        _run(folder, "apt-get", *own, "download", *_PACKAGES)


def _run(folder: Path, program: str, *arguments: str) -> None:
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"there is no {program}")
    subprocess.run([found, *arguments], cwd=folder, check=True, timeout=90, capture_output=True)


@contextmanager
def varnish(folder: Path, origin: str, edit: Callable[[str], str] = str) -> Iterator[Varnish]:
    """In front of this origin. `edit` changes the VCL first, for what would take too long as it is."""
    found = programs()
    port = urlsplit(origin).port
    vcl = VCL.read_text()
    assert '.port = "8000"' in vcl
    (folder / "test.vcl").write_text(edit(vcl.replace('.port = "8000"', f'.port = "{port}"')))
    public, purge = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    argv = [found.varnishd, "-F", "-j", "none", "-n", str(folder / "work"), "-f", str(folder / "test.vcl")]
    argv += ["-a", f"public={public}", "-a", f"purge={purge}", "-s", "malloc,64m", "-T", "none", *found.arguments]
    with (folder / "log").open("wb") as log:
        command = child_command(argv, on_death=signal.SIGTERM)
        process = subprocess.Popen(command, env=found.environ, stdout=log, stderr=subprocess.STDOUT)
        try:
            until = time.monotonic() + 30
            while not _answers(public):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.05)
            yield Varnish(f"http://{public}", f"http://{purge}/", found, folder / "work")
        finally:
            process.terminate()
            process.wait(10)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _answers(address: str) -> bool:
    host, _, port = address.partition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True
