"""How does a child of the supervisor get its configuration, its socket, and word of the supervisor's end?

A child is this program again (`collector edge`). What it is to have, the supervisor opens before it starts the child,
which inherits the open descriptors; environment variables tell their numbers. So no secret is in the environment or
the arguments, where others could read it. The supervisor calls `config_file` and `child_environment`, the child `take`.

    COLLECTOR_CONFIG_FD   a file in memory: the configuration as JSON, with no secret but this child's own
    COLLECTOR_TLS_FD      the same of an edge's certificate and key, where it speaks TLS itself
    COLLECTOR_LISTEN_FD   the listening socket, bound by the supervisor (edge and console)
    COLLECTOR_CONTROL_FD  the socket over which connections between edge and keeper come (exchange/links.py)
    COLLECTOR_READY_FD    a pipe into which the child writes "1\\n" as soon as it answers requests
    COLLECTOR_LIFE_FD     a pipe into which nobody writes: reading it returns when the supervisor has ended, even by
                          kill -9, and then the child ends too
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from collector.certificate import Pair
from collector.config import Config
from collector.guard import memory
from collector.process import hardening

if TYPE_CHECKING:
    from collector.config_loader import Role

CONFIG_FD, TLS_FD, LISTEN_FD, CONTROL_FD, READY_FD, LIFE_FD = (
    f"COLLECTOR_{name}_FD" for name in ("CONFIG", "TLS", "LISTEN", "CONTROL", "READY", "LIFE")
)
LAST_SECONDS = 5.0  # from the supervisor's end to the child's, if it has not drained by then


class Given(NamedTuple):
    """What a child was given. `fd`: its listening socket; `ready` is to be called once it answers requests.

    `pair`: the certificate of an edge that speaks TLS itself.
    """

    config: Config
    fd: int | None
    control: socket.socket | None
    ready: Callable[[], None]
    pair: Pair | None = None


def is_child(env: Mapping[str, str]) -> bool:
    """Whether a supervisor started this process; else a person did."""
    return CONFIG_FD in env


def files(config: Config, role: Role, pair: Pair | None) -> dict[str, int]:
    """New descriptors by the name of their variable: what this role may see. The caller closes them."""
    made = {CONFIG_FD: config_file(config, role)}
    if role == "edge" and pair is not None:
        made[TLS_FD] = _file_of("tls", msgspec.msgpack.encode(pair))
    return made


def config_file(config: Config, role: Role) -> int:
    """A new descriptor for COLLECTOR_CONFIG_FD: the configuration as this role may see it. The caller closes it."""
    from collector.config_loader import for_role  # the supervisor has it; a child does without

    return _file_of(role, msgspec.json.encode(for_role(config, role)))


def _file_of(name: str, raw: bytes) -> int:
    """A file in memory that holds this, for ever."""
    if sys.platform == "linux":
        fd = os.memfd_create(f"collector-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        import tempfile

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    with open(os.dup(fd), "wb") as out:
        out.write(raw)
    if sys.platform == "linux":  # sealed: no process can change any more what was checked
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def child_environment(env: Mapping[str, str], fds: Mapping[str, int]) -> dict[str, str]:
    """The environment for a child: `env` without any setting or secret of ours, and with the descriptors' numbers."""
    kept = {name: value for name, value in env.items() if not name.startswith("COLLECTOR_")}
    return {**kept, **{name: str(fd) for name, fd in fds.items()}}


def take(env: Mapping[str, str]) -> Given:
    """In the child: take what was handed over."""
    hardening.die_with_parent()
    config = msgspec.json.decode(_read(int(env[CONFIG_FD])), type=Config)
    pair = msgspec.msgpack.decode(_read(int(env[TLS_FD])), type=Pair) if TLS_FD in env else None
    listen = int(env[LISTEN_FD]) if LISTEN_FD in env else None
    control = socket.socket(fileno=int(env[CONTROL_FD])) if CONTROL_FD in env else None
    return Given(config, listen, control, _ready(int(env[READY_FD])), pair)


def _read(fd: int) -> bytes:
    with open(fd, "rb") as file:
        file.seek(0)
        return file.read()


def end_with_supervisor(env: Mapping[str, str]) -> None:
    """From here on this process ends when its supervisor does. It starts a thread, so confine.py comes before."""
    if LIFE_FD in env:
        threading.Thread(target=_end_with_supervisor, args=(int(env[LIFE_FD]),), name="life", daemon=True).start()


def _ready(fd: int) -> Callable[[], None]:
    """What tells the supervisor that this child answers; a second call does nothing."""
    left = [fd]

    def ready() -> None:
        if left:
            with contextlib.suppress(OSError), open(left.pop(), "wb") as pipe:
                pipe.write(b"1\n")
            memory.settle()

    return ready


def _end_with_supervisor(fd: int) -> None:
    """In a thread: wait until the supervisor has ended, then drain as on SIGTERM, for LAST_SECONDS at most."""
    with contextlib.suppress(OSError):
        os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os._exit(1)
