"""What does the kernel keep each process to (D7)? Files by Landlock, calls by seccomp; where it cannot, the log says.

| process | files | calls refused, beside those that nobody needs |
|---|---|---|
| edge | what Python reads; neither the database nor a token | every new socket, connect, other programs |
| keeper | the data directory, and what Python reads | every new socket, connect, other programs |
| keeper over PostgreSQL | the same, certificates, what names are found with | listen, accept, other programs |
| console | the data directory, and what Python reads | connect, sockets but for streams, other programs |
| console over PostgreSQL | the same, certificates, what names are found with | other programs |
| courier | reads what it may; writes the data directory and [backup] dir | listen, accept, other programs |

Which files a process gets is `files_of`; whoever gives a process something else to open adds it there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from collector.config import Config
from collector.config_loader import engines
from collector.process import landlock, seccomp
from collector.process.landlock import Files

Part = Literal["edge", "keeper", "courier", "console"]

_PACKAGE: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_DEVICES: Final = ("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero", "/dev/tty")
# Shared libraries that are loaded late, zones, and what the C library and ours ask of the machine.
_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/localtime"),
    *("/usr/share/zoneinfo", "/usr/share/locale", "/etc/mime.types", "/proc/self", "/proc/meminfo", "/proc/cpuinfo"),
    *("/proc/sys", "/sys/devices/system/cpu"),
)

# What a server's name is looked up with, and whom its certificate may be from.
_NAMES_AND_CERTIFICATES: Final = (
    *(
        "/etc/resolv.conf",
        "/run/systemd/resolve",
        "/etc/hosts",
        "/etc/host.conf",
        "/etc/nsswitch.conf",
        "/etc/gai.conf",
    ),
    *("/etc/services", "/etc/ssl", "/etc/pki", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"),
)

_CALLS: Final[dict[Part, frozenset[str]]] = {
    "edge": seccomp.OUTGOING | seccomp.STARTING,
    "keeper": seccomp.OUTGOING | seccomp.STARTING,
    "console": frozenset({"connect"}) | seccomp.STARTING,
    "courier": seccomp.LISTENING | seccomp.STARTING,
}


class Confined(NamedTuple):
    """What is in force: None, or why not."""

    files: str | None
    calls: str | None

    def told(self) -> dict[str, str]:
        """For the log."""
        return {"files": self.files or "kept", "calls": self.calls or "kept"}


def confine(part: Part, config: Config) -> Confined:
    """Keep this process to what its part needs, from now on and for all that it starts; before a second thread is."""
    asks = part == "courier" or (part != "edge" and config.storage.engine == "postgres")
    return Confined(
        landlock.allow_only(files_of(part, config)), seccomp.refuse(_calls(part, asks=asks), datagrams=asks)
    )


def _calls(part: Part, *, asks: bool) -> frozenset[str]:
    """What is refused. `asks`: it connects to a server."""
    if not asks:
        return _CALLS[part]
    return seccomp.STARTING if part == "console" else _CALLS["courier"]


def files_of(part: Part, config: Config) -> Files:
    """The files that a part may touch."""
    if part == "courier":
        return Files(None, (*_data(config), *_backups(config), *_DEVICES))
    read = (*_python(), *_SYSTEM)
    names = (os.path.dirname(_PACKAGE),)  # Python looks there for the package
    if part == "edge":
        return Files(read, _DEVICES, names=names)
    if config.storage.engine == "postgres":
        read = (*read, *_NAMES_AND_CERTIFICATES, *_of_dsns(config), *_own_certificates())
    return Files(read, (*_data(config), *_DEVICES), names=names)


def _data(config: Config) -> Iterator[str]:
    """The data directory, where its database really lies, and the key that is read or made beside its own path."""
    folder = config.storage.data_dir
    yield folder
    yield os.path.dirname(os.path.realpath(os.path.join(folder, "collector.db")))
    if pepper := config.privacy.pepper_file:
        yield pepper if os.path.exists(pepper) else os.path.dirname(os.path.abspath(pepper))


def _of_dsns(config: Config) -> Iterator[str]:
    yield from engines.files_of(config.storage.dsn)
    yield from engines.files_of(config.storage.read_dsn)


def _own_certificates() -> Iterator[str]:
    """Where certificates and passwords of this user lie, as libpq has it."""
    yield from (os.path.expanduser(name) for name in ("~/.postgresql", "~/.pgpass"))


def _backups(config: Config) -> Iterator[str]:
    """Where the courier keeps backups; Landlock names folders that exist, so it is made before."""
    if config.backup.dir:
        with contextlib.suppress(OSError):  # the backup itself tells of it
            os.makedirs(config.backup.dir, mode=0o700, exist_ok=True)
        yield config.backup.dir


def _python() -> Iterator[str]:
    """Where this program, its libraries and Python itself are read from."""
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from (sys.executable, os.path.realpath(sys.executable), _PACKAGE, os.path.join(sys.prefix, "pyvenv.cfg"))
    yield str(sysconfig.get_config_var("LIBDIR") or "")
    yield str(getattr(sys, "_MEIPASS", ""))
    yield from (path for path in sys.path if path.endswith(("-packages", ".zip")))
