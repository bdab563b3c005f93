"""Commands as forks of one process that has loaded the program: a fraction of the time of an interpreter for each.

A fork runs `collector.__main__` as the interpreter would: its threads' end, flush, exit code, traceback. Unless the run
is `whole`, only the taking apart of all modules is left out, which is nine tenths of the time.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import pkgutil
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from tests.kit.program import ROOT

LONGEST_SECONDS: Final = 120
CLOSED: Final = ""
_THERE: Final = re.compile(rb"^ready\b|no keeper answers yet", re.M)


class How(msgspec.Struct, frozen=True):
    """Under which conditions of its own a process runs. A path that is "": a closed descriptor; "|": a broken pipe."""

    stdin: str = "/dev/null"
    stdout: str = "|out"  # "|out", "|err": kept for the test
    stderr: str = "|err"
    user: int = 0
    open_files: int = 0
    environment: dict[str, str] = {}
    folder: str | None = None  # to stand in; a name below the case's that is gone by then
    whole: bool = False
    breaks: str = ""  # `module:function` that raises: the control


AS_EVER: Final = How()


class Told(msgspec.Struct):
    """A line on the server's stdin. `ends_by`: the signal that ends it once it has said that it is ready."""

    words: list[str]
    folder: str
    out: str
    err: str
    how: How
    ends_by: int = 0


class Run(Protocol):
    def __call__(self, words: list[str], place: Path, how: How = AS_EVER, ends_by: int = 0) -> tuple[int, str, str]: ...


def main() -> int:
    """Answer each line of stdin with a line: the exit code (below 0: the signal that ended it)."""
    _load_all()
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        told = msgspec.convert(json.loads(line), Told)
        for name in (told.out, told.err):
            Path(name).write_bytes(b"")
        if (pid := os.fork()) == 0:
            return _run(told)
        print(_end_of(pid, told), file=answers, flush=True)
    return 0


def _load_all() -> None:
    import collector

    for module in pkgutil.walk_packages(collector.__path__, "collector."):
        import_module(module.name)
    import publicsuffixlist

    # Every command whose configuration names a domain would read the list again.
    suffixes = publicsuffixlist.PublicSuffixList(accept_unknown=False)
    publicsuffixlist.PublicSuffixList = lambda **_: suffixes  # type: ignore[assignment,misc]
    for name in ("iso4217", "iso3166", "difflib", "multiprocessing.popen_fork"):
        import_module(name)
    gc.freeze()  # or each fork would look through all of it at its end


def _end_of(pid: int, told: Told) -> int:
    """Wait for its end; one that runs on is told to end once it says that it is there."""
    while told.ends_by:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if _THERE.search(Path(told.err).read_bytes()) or os.path.getsize(told.out):
            os.kill(pid, told.ends_by)
            break
        time.sleep(0.02)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _run(told: Told) -> int:
    from collector import __main__

    signal.alarm(LONGEST_SECONDS)
    _stand(told)
    if not told.how.whole:
        _ended(_code(__main__.main))
    return __main__.main()


def _stand(told: Told) -> None:
    how = told.how
    os.chdir(told.folder)
    streams = (how.stdin, how.stdout, how.stderr)
    for number, name in enumerate(streams):
        os.dup2(_opened({"|out": told.out, "|err": told.err}.get(name, name)), number)
    os.closerange(3, 64)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if streams[number] == CLOSED:
            os.close(number)
            setattr(sys, name, None)  # as the interpreter finds it
            setattr(sys, f"__{name}__", None)
    if how.folder:
        os.mkdir(how.folder)
        os.chdir(how.folder)
        os.rmdir(Path(told.folder, how.folder))
    os.environ.update(how.environment)
    if how.open_files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (how.open_files, how.open_files))
    if how.user:
        os.setgroups([])
        os.setgid(how.user)
        os.setuid(how.user)
    if how.breaks:
        module, _, function = how.breaks.partition(":")
        setattr(import_module(module), function, lambda *_: 1 // 0)
    sys.argv[1:] = told.words


def _opened(name: str) -> int:
    if name == "|":
        reader, writer = os.pipe()
        os.close(reader)
        return writer
    return os.open(name or os.devnull, os.O_RDWR if name.startswith("/dev/") else os.O_RDWR | os.O_APPEND)


def _code(run: Any) -> int:
    """What `sys.exit(run())` is worth, and what the interpreter says of an exception that nobody took."""
    try:
        return int(run() or 0)
    except SystemExit as asked:
        if isinstance(asked.code, str):
            print(asked.code, file=sys.stderr)
            return 1
        return asked.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1


def _ended(code: int) -> None:
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def forks(folder: Path) -> Iterator[Run]:
    """Run a command's words in a folder: its exit code, stdout and stderr."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COLLECTOR_")}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.forked"],
        env={**clean, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None
    out, err = folder / "out", folder / "err"

    def run(words: list[str], place: Path, how: How = AS_EVER, ends_by: int = 0) -> tuple[int, str, str]:
        told = Told(words, str(place), str(out), str(err), how, ends_by)
        server.stdin.write(json.dumps(msgspec.to_builtins(told)) + "\n")  # type: ignore[union-attr]
        server.stdin.flush()  # type: ignore[union-attr]
        code = int(server.stdout.readline())  # type: ignore[union-attr]
        return code, out.read_text(errors="replace"), err.read_text(errors="replace")

    try:
        yield run
    finally:
        server.stdin.close()
        server.wait(LONGEST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
