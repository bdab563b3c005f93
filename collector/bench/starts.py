"""How long from the command to the first answered request, from source and from the one file."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from msgspec import Struct

from collector.errors import CollectorError

BINARY: Final = Path("dist/collector")
_READY: Final = re.compile(r"^ready edge=")
_LOOPBACK: Final = {"COLLECTOR_EDGE__LISTEN": "127.0.0.1:0", "COLLECTOR_CONSOLE__LISTEN": "127.0.0.1:0"}


class Start(Struct, frozen=True):
    """Seconds until `serve` has said that edge and console answer: the median of `times`."""

    program: str
    seconds: float
    times: int


def programs() -> list[list[str]]:
    """What there is to start: this program itself, and the built file beside it."""
    own = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "collector"]
    built = BINARY.is_file() and not getattr(sys, "frozen", False)
    return [own, [str(BINARY.resolve())]] if built else [own]


def measure(program: list[str], times: int) -> Start:
    """Start `serve` so often, each on a new data directory."""
    return Start(" ".join(Path(part).name for part in program), median(_once(program) for _ in range(times)), times)


def _once(program: list[str]) -> float:
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        child = subprocess.Popen(
            [*program, "serve", "--data-dir", folder],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | _LOOPBACK,
        )
        with child:
            try:
                return _ready(child, began)
            finally:
                child.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.communicate(timeout=15)
                child.kill()


def _ready(child: subprocess.Popen[str], began: float) -> float:
    assert child.stderr is not None
    for line in child.stderr:
        if _READY.match(line):
            return time.monotonic() - began
    raise CollectorError("`serve` ended before it was ready")
