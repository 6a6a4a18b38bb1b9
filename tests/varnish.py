"""A real shared cache for tests: Varnish with the VCL that operators are given, from the system or Debian's packages."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
            subprocess.run(["dpkg-deb", "-x", package, own / "root"], check=True, timeout=60, capture_output=True)
        if not _UNPACKED.exists():
            (own / "root").rename(_UNPACKED)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return _UNPACKED


def _download(folder: Path) -> None:
    """By apt-get, which checks signatures. Where its lists are missing or old, with lists of our own: no root needed."""
    download = ["download", "-qq", *_PACKAGES]
    if subprocess.run(["apt-get", *download], cwd=folder, check=False, timeout=60, capture_output=True).returncode:
        (folder / "lists" / "partial").mkdir(parents=True)
        (folder / "cache" / "archives" / "partial").mkdir(parents=True)
        own = ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]
        own += ["-o", "APT::Sandbox::User="]
        subprocess.run(["apt-get", *own, "update", "-qq"], cwd=folder, check=True, timeout=90, capture_output=True)
        subprocess.run(["apt-get", *own, *download], cwd=folder, check=True, timeout=60, capture_output=True)


@contextmanager
def varnish(found: Programs, folder: Path, origin: str, before: str = "") -> Iterator[Varnish]:
    """In front of this origin, `HOST:PORT`. `before`: VCL that is asked before the shipped one."""
    folder.mkdir(parents=True)
    host, _, port = origin.partition(":")
    shipped = VCL.read_text()
    moved = re.sub(r'\.host = "[^"]*";\s+\.port = "[^"]*"', f'.host = "{host}"; .port = "{port}"', shipped)
    assert moved != shipped
    (folder / "test.vcl").write_text(moved.replace("import std;", f"import std;\n{before}", 1))
    public, purge = (f"127.0.0.1:{_free_port()}" for _ in range(2))
    argv = [found.varnishd, "-F", "-j", "none", "-n", str(folder / "work"), "-f", str(folder / "test.vcl")]
    argv += ["-a", f"public={public}", "-a", f"purge={purge}", "-s", "malloc,64m", "-T", "none", *found.arguments]
    with (folder / "log").open("wb") as log:
        command = child_command(argv, on_death=15)
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
