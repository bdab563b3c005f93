"""PostgreSQL itself: servers made with initdb in a folder of their own, as a user who is not root; a standby; faults.

A folder is `pg.<process id>.…`, in memory where there is room: whoever makes the next one ends and removes what a
killed run has left. A server ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest

from tests.kit.program import free_port

_WITHIN_S: Final = 60.0
USER: Final = "collector"  # what our tests log in as: no superuser, as in an installation
SUPERUSER: Final = "postgres"
STANDBY: Final = "standby1"
_PR_SET_PDEATHSIG: Final = 1
_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
dynamic_shared_memory_type = mmap
max_connections = 100
shared_buffers = 32MB
max_wal_size = 256MB
wal_level = replica
hot_standby = on
wal_receiver_status_interval = 1s
wal_retrieve_retry_interval = 200ms
autovacuum_naptime = 5s
log_min_messages = warning
"""


def programs() -> Path | None:
    """The folder of initdb and its kin, of the newest release that is installed; None: there is none."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    here = found[-1] if found else shutil.which("initdb")
    return Path(here).parent if here else None


def needed() -> Path:
    """As `programs`; without it the test is skipped, or fails where everything is to run."""
    found = programs()
    if found is None and os.environ.get("CI") == "true":
        pytest.fail("PostgreSQL is not installed (apt-get install postgresql)")
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    return found


class Node:
    """One server. `port` is of the loopback address and of the socket in `folder`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.programs = needed()
        self.name, self.folder = name, folder
        self.data = folder / name
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None

    # -- making and running ----------------------------------------------------------------------------------------

    def make(self) -> None:
        """An empty server with our user in it."""
        self._run("initdb", "-D", self.data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self.configure(_SETTINGS)
        self.start()
        self.sql(f"CREATE ROLE {USER} LOGIN PASSWORD 'secret' IN ROLE pg_read_all_stats")

    def copy_of(self, primary: Node) -> None:
        """A standby of a running server."""
        source = f"host={primary.folder} port={primary.port} user={SUPERUSER} application_name={self.name}"
        self._run("pg_basebackup", "-D", self.data, "-d", source, "-R", "-X", "stream", "-c", "fast", "--no-sync")
        self.start()

    def configure(self, lines: str) -> None:
        """Add settings; a running server takes them by `reload`, some at its next start."""
        with open(self.data / "postgresql.conf", "a") as file:
            file.write(lines)

    def put(self, name: str, text: str) -> None:
        """A file of its own in the data folder, for nobody else."""
        path = self.data / name
        path.write_text(text)
        path.chmod(0o600)
        if who := _other_user():
            os.chown(path, who["user"], who["group"])

    def reload(self) -> None:
        self.sql("SELECT pg_reload_conf()")

    def start(self) -> None:
        """Return once it answers; where another program has taken the port meanwhile, on another one."""
        for _ in range(5):
            self.port = self.port or free_port()
            command = (self.programs / "postgres", "-D", self.data, "-k", self.folder, "-p", str(self.port))
            with open(self.folder / f"{self.name}.log", "ab") as log:
                self.process = subprocess.Popen(
                    command, stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_us, **_other_user()
                )
            assert _once(self._has_begun), self.log()[-2000:]
            if self.process.poll() is None:
                return
            self.port = 0
        raise AssertionError(self.log()[-2000:])

    def _has_begun(self) -> bool:
        """Whether its own note says that it takes connections, or it has ended."""
        assert self.process is not None
        if self.process.poll() is not None:
            return True
        with suppress(FileNotFoundError):
            lines = (self.data / "postmaster.pid").read_text().split("\n")
            mine = lines[0] == str(self.process.pid)
            return mine and len(lines) > 7 and lines[7].strip() in ("ready", "standby")
        return False

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text(errors="replace")

    def _run(self, program: str, *words: Any) -> str:
        command = [self.programs / program, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, **_other_user())
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run_shell(self, line: str) -> None:
        """A command as a person types it, with PostgreSQL's programs in the path."""
        env = {**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"}
        done = subprocess.run(
            line, shell=True, capture_output=True, text=True, cwd=self.folder, env=env, **_other_user()
        )
        assert done.returncode == 0, done.stderr

    # -- asking ----------------------------------------------------------------------------------------------------

    def sql(self, statement: str, database: str = "postgres") -> str:
        """What psql prints of it, as the superuser: a row a line, columns parted by |."""
        where = ("-h", self.folder, "-p", str(self.port), "-U", SUPERUSER, "-d", database)
        return self._run("psql", *where, "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement).strip()

    def dsn(self, database: str, user: str = USER) -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    # -- faults ----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """kill -9 of all its processes at once, and no word to anybody."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # or it would mend what its children's end breaks
        children = _children(self.process.pid)
        for pid in [self.process.pid, *children]:
            _signal(pid, signal.SIGKILL)
        self.process.wait()
        assert _once(lambda: all(map(_is_gone, children)))
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.process = None

    def pause(self) -> None:
        """SIGSTOP to all its processes: the machine stands still."""
        self._all(signal.SIGSTOP)

    def resume(self) -> None:
        self._all(signal.SIGCONT)

    def _all(self, number: signal.Signals) -> None:
        assert self.process is not None
        for pid in [self.process.pid, *_children(self.process.pid)]:
            _signal(pid, number)

    def promote(self) -> None:
        """Make a standby the primary; returns once it takes writes."""
        self.sql("SELECT pg_promote(true, 60)")

    def stop(self) -> None:
        """End at once, as a test needs nothing of it any more."""
        if self.process is not None and self.process.poll() is None:
            self.resume()
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None


class Database:
    """A database of its own in a server: `dsn` is what our program is given."""

    def __init__(self, node: Node, name: str) -> None:
        self.node, self.name = node, name
        self.dsn = node.dsn(name)

    def sql(self, statement: str) -> str:
        return self.node.sql(statement, self.name)


class Pair:
    """A primary that waits for its standby at each commit."""

    def __init__(self, folder: Path) -> None:
        self.primary, self.standby = Node(folder, "primary"), Node(folder, STANDBY)
        self.primary.make()
        self.standby.copy_of(self.primary)
        self.require()
        assert _once(self._is_in_sync)

    def require(self) -> None:
        """Have each commit wait for the standby."""
        self.primary.configure(f"synchronous_standby_names = '{STANDBY}'\n")
        self.primary.reload()

    def fail_over(self) -> None:
        """The primary is killed, the standby is promoted, and alone: no commit waits for another."""
        self.primary.kill()
        self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.primary.configure("synchronous_standby_names = ''\n")
        self.primary.reload()

    def rejoin(self) -> None:
        """What was killed comes back as the standby, made anew, and each commit waits for it."""
        shutil.rmtree(self.standby.data)
        self.standby.copy_of(self.primary)
        self.primary.configure("synchronous_standby_names = '*'\n")
        self.primary.reload()
        assert _once(self._is_in_sync)

    def _is_in_sync(self) -> bool:
        return self.primary.sql("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"

    def dsn(self, database: str) -> str:
        """Both hosts: whichever takes writes."""
        return f"postgresql://{USER}@127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}/{database}"

    def stop(self) -> None:
        self.standby.stop()
        self.primary.stop()


def kill_server(data: Path) -> None:
    """kill -9 of all processes of the server in this folder, whoever started it."""
    pid = int((data / "postmaster.pid").read_text().split("\n")[0])
    _signal(pid, signal.SIGSTOP)  # or it would mend what its children's end breaks
    gone = [pid, *_children(pid)]
    for one in gone:
        _signal(one, signal.SIGKILL)
    assert _once(lambda: all(map(_is_gone, gone)))


def as_server() -> dict[str, Any]:
    """Arguments of Popen: as the user that PostgreSQL runs as."""
    return _other_user()


def make_database(node: Node, name: str) -> Database:
    node.sql(f"CREATE DATABASE {name} OWNER {USER}")
    return Database(node, name)


@contextmanager
def server() -> Iterator[Node]:
    """A server alone, for as long as this lasts."""
    with folder_for_servers() as folder:
        node = Node(folder, "primary")
        try:
            node.make()
            yield node
        finally:
            node.stop()


@contextmanager
def pair() -> Iterator[Pair]:
    """A primary and its synchronous standby."""
    with folder_for_servers() as folder:
        made: list[Pair] = []
        try:
            made.append(Pair(folder))
            yield made[0]
        finally:
            for one in made:
                one.stop()
            _end_what_runs_in(folder)


# -- folders and processes -----------------------------------------------------------------------------------------


@contextmanager
def folder_for_servers() -> Iterator[Path]:
    """An empty folder, gone afterwards with whatever server runs in it."""
    needed()
    memory = Path("/dev/shm")
    roomy = os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30
    parent = memory if roomy else Path("/tmp")  # a socket's path has 107 bytes at most
    for left in parent.glob("pg.*"):
        if not _lives(left.name.split(".")[1]):
            _end_what_runs_in(left)
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"pg.{os.getpid()}.", dir=parent))
    if (other := _other_user()) != {}:
        os.chown(folder, other["user"], other["group"])
    try:
        yield folder
    finally:
        _end_what_runs_in(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _once(happened: Callable[[], bool]) -> bool:
    """Whether it happened within a minute."""
    until = time.monotonic() + _WITHIN_S
    while not (so := happened()) and time.monotonic() < until:
        time.sleep(0.02)
    return so


def _lives(pid: str) -> bool:
    return pid.isdigit() and Path("/proc", pid).exists()


def _end_what_runs_in(folder: Path) -> None:
    for note in folder.glob("*/postmaster.pid"):
        pid = int(note.read_text().split("\n")[0] or 0)
        if pid and str(folder).encode() in _command_of(pid):
            for one in [*_children(pid), pid]:
                _signal(one, signal.SIGKILL)


def _other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {one.pw_name: one for one in pwd.getpwall()}
    who = names.get("postgres") or names["nobody"]
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _end_with_us() -> None:
    """SIGQUIT when the thread that started it is gone, whatever ended that."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT, 0, 0, 0)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_gone(pid: int) -> bool:
    """Whether it has ended; nobody may have asked for its exit code yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""
