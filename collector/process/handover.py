"""What does the supervisor hand to a child, and how does the child take it?

By inherited descriptors, each named in the environment; nothing secret is in the environment or the arguments:

    COLLECTOR_CONFIG_FD   a sealed memory file with the configuration, without the secrets of other processes
    COLLECTOR_LISTEN_FD   the bound socket (edge and console)
    COLLECTOR_READY_FD    a pipe: the child writes "1\\n" when it answers
    COLLECTOR_LIFE_FD     a pipe that ends when the supervisor does, even by kill -9: no orphan is left
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from collector.config import Config
from collector.config_loader import Role, for_role
from collector.process import hardening

CONFIG_FD, LISTEN_FD, READY_FD, LIFE_FD = (f"COLLECTOR_{name}_FD" for name in ("CONFIG", "LISTEN", "READY", "LIFE"))
LAST_SECONDS = 5.0  # that an orphan has for its drain before it is ended


class Given(NamedTuple):
    """What a child was given."""

    config: Config
    fd: int | None
    ready: Callable[[], None]


def is_child(env: Mapping[str, str]) -> bool:
    return CONFIG_FD in env


def config_file(config: Config, role: Role) -> int:
    """A descriptor of the configuration as this role may see it."""
    raw = msgspec.json.encode(for_role(config, role))
    if sys.platform == "linux":
        fd = os.memfd_create(f"collector-{role}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    with open(os.dup(fd), "wb") as out:
        out.write(raw)
    if sys.platform == "linux":  # what was checked is what every child reads
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
    return fd


def child_environment(env: Mapping[str, str], fds: Mapping[str, int]) -> dict[str, str]:
    """The environment without any setting or secret of ours, and with the descriptors."""
    kept = {name: value for name, value in env.items() if not name.startswith("COLLECTOR_")}
    return {**kept, **{name: str(fd) for name, fd in fds.items()}}


def take(env: Mapping[str, str]) -> Given:
    """Take what was handed over; from here on this process ends with its supervisor."""
    hardening.die_with_parent()
    if LIFE_FD in env:
        threading.Thread(target=_watch, args=(int(env[LIFE_FD]),), name="life", daemon=True).start()
    with open(int(env[CONFIG_FD]), "rb") as file:
        file.seek(0)
        config = msgspec.json.decode(file.read(), type=Config)
    listen = int(env[LISTEN_FD]) if LISTEN_FD in env else None
    return Given(config, listen, _ready(int(env[READY_FD])))


def _ready(fd: int) -> Callable[[], None]:
    """Tell the supervisor, once."""
    left = [fd]

    def ready() -> None:
        if left:
            with contextlib.suppress(OSError), open(left.pop(), "wb") as pipe:
                pipe.write(b"1\n")

    return ready


def _watch(fd: int) -> None:
    """Wait for the supervisor's end; drain then, and end at the latest after LAST_SECONDS."""
    with contextlib.suppress(OSError):
        os.read(fd, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(LAST_SECONDS)
    os._exit(1)
