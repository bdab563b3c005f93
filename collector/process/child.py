"""What does a supervisor know of each process that it keeps alive, and when does one that ended start again?"""

from __future__ import annotations

import signal
import socket
import subprocess

from collector.config_loader import Role

STABLE_SECONDS = 30.0  # a child that lived so long starts again without delay
FIRST_DELAY, LONGEST_DELAY = 0.1, 10.0  # seconds


def delay_after(failures: int) -> float:
    """Seconds to wait before the next start: none after the first end, then doubling up to LONGEST_DELAY."""
    return 0.0 if failures <= 1 else min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 2, 20))


class Child:
    """One process to be kept alive: what it is, whether it runs, when it may start again."""

    def __init__(self, role: Role, name: str) -> None:
        self.role: Role = role
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self.pipe: int | None = None  # where it says that it is ready
        self.control: socket.socket | None = None  # where an edge asks for the keeper, and both are given connections
        self.asks = False
        self.ready = False
        self.failures = 0
        self.replaced = False  # asked to end, to start again with new settings
        self.told_to_end = False
        self.wanted = True
        self.started = 0.0
        self.due: float | None = 0.0  # when to start it; None while it runs


def cause(code: int) -> dict[str, int | str]:
    return {"signal": signal.Signals(-code).name} if code < 0 else {"exit_code": code}
