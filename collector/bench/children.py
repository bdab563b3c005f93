"""A process for each thing that is measured, so that none inherits another's memory, threads or caches."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, NamedTuple

from collector.errors import CollectorError

# Forked: the frozen binary cannot spawn, and the parent holds no thread, loop or database that a child could inherit.
_FORK: Final = multiprocessing.get_context("fork")
_START_SECONDS: Final = 120.0
_END_SECONDS: Final = 15.0


def apart(work: Callable[..., Any], *args: Any) -> Any:
    """What `work(*args)` returns, from a process of its own."""
    ours, theirs = _FORK.Pipe()
    child = _FORK.Process(target=_work, args=(theirs, work, args))
    child.start()
    theirs.close()
    try:
        good, result = ours.recv()
    except EOFError:
        good, result = False, "it ended without a word"
    child.join()
    if not good:
        raise CollectorError(f"{work.__name__} failed: {result}")
    return result


def _work(pipe: Connection, work: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        pipe.send((True, work(*args)))
    except BaseException as error:
        pipe.send((False, "".join(traceback.format_exception(error))))


class Child(NamedTuple):
    """A process that serves until the block ends, and what it said when it was ready."""

    pid: int
    said: Any


@contextlib.contextmanager
def serving(serve: Callable[..., Any], *args: Any) -> Iterator[Child]:
    """Run `serve(ready, *args)`, which calls `ready(what)` once, until the block ends; then SIGTERM."""
    ours, theirs = _FORK.Pipe()
    child = _FORK.Process(target=_serve, args=(theirs, serve, args))
    child.start()
    theirs.close()
    try:
        if not ours.poll(_START_SECONDS):
            raise CollectorError(f"{serve.__name__} did not become ready")
        try:
            said = ours.recv()
        except EOFError:
            raise CollectorError(f"{serve.__name__} ended before it was ready") from None
        assert child.pid is not None
        yield Child(child.pid, said)
    finally:
        if child.is_alive():
            child.terminate()
            child.join(_END_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


def _serve(pipe: Connection, serve: Callable[..., Any], args: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the server sets its own
    try:
        serve(pipe.send, *args)
    except KeyboardInterrupt:
        pass
    finally:
        os._exit(0)


def cpu_seconds(pid: int) -> list[float]:
    """Seconds on a processor of each thread of a process, the oldest first; [] where /proc is not Linux's."""
    seconds = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):
            seconds.append(int((task / "schedstat").read_text().split()[0]) / 1e9)
    return seconds


def children_of(pid: int) -> list[int]:
    """The processes that a process has started; [] where /proc is not Linux's."""
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def children_seconds(pid: int) -> float:
    """Seconds on a processor of the processes that a process has started."""
    return sum(sum(cpu_seconds(child)) for child in children_of(pid))


def tree_seconds(pid: int) -> float:
    """Seconds on a processor of a process and of all below it."""
    return sum(cpu_seconds(pid)) + sum(tree_seconds(child) for child in children_of(pid))


def tree_mb(pid: int) -> float:
    """Memory of a process and of all below it, a shared page counted once (PSS); 0 where /proc is not Linux's."""
    own = 0.0
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                own = int(line.split()[1]) / 1024
    return own + sum(tree_mb(child) for child in children_of(pid))


def resident_mb(pid: int) -> float:
    """Memory of a process that is in RAM; 0 where /proc is not Linux's."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0
