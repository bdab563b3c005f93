"""The server that is measured: one of the benchmark's own, or one that is named; what its processes take."""

from __future__ import annotations

import asyncio
import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from msgspec import Struct

from collector.bench.children import children_of, tree_seconds
from collector.config import StorageConfig
from collector.errors import CollectorError, ConfigError, StorageError
from collector.process import hardening
from collector.process.unpacked import foreign_environment
from collector.storage.postgres import faults
from collector.storage.postgres.connecting import Connection, connect, writing

T = TypeVar("T")
_NAME: Final = "collector_bench_"
_TICK: Final = os.sysconf("SC_CLK_TCK")
_START_SECONDS: Final = 60.0
# What a server of two cores and some memory is given; it syncs, as whoever acknowledges must.
_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
shared_buffers = 512MB
max_wal_size = 4GB
max_connections = 100
"""
_LOG: Final = "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"


class Server(Struct, frozen=True):
    """`dsn`: a database whose user may make others. `pid`: of its first process, None where that is not seen here."""

    dsn: str
    pid: int | None

    def storage(self, database: str, data_dir: str = "") -> StorageConfig:
        """[storage] of an installation over one of its databases."""
        dsn = urlsplit(self.dsn)._replace(path=f"/{database}").geturl() if database else self.dsn
        return StorageConfig(
            data_dir=data_dir, engine="postgres", dsn=dsn, standby="none", group_timeout_seconds=60, pool=4
        )

    def ask(self, question: Callable[[Connection], Awaitable[T]], database: str = "") -> T:
        """One question, outside of a transaction; StorageError says why there is no answer."""

        async def asked() -> T:
            connection, _ = await connect(writing(self.storage(database)), "collector bench")
            try:
                return await question(connection)
            finally:
                await connection.close()

        return asyncio.run(asked())

    def written(self) -> int:
        """Bytes of its log so far."""
        return int(self.ask(lambda c: c.fetchval(_LOG)))

    def settle(self, database: str) -> None:
        """Have it do now what a filling leaves for later, and would be counted with what comes next."""
        self.ask(lambda c: c.execute("VACUUM (ANALYZE)"), database)
        with contextlib.suppress(StorageError):
            self.ask(_checkpoint)

    def seconds(self) -> float:
        """Of a processor that all of its processes have taken; 0 where they are not seen."""
        if self.pid is None:
            return 0.0
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            own = sum(int(word) for word in words[11:15]) / _TICK  # also of those of its children that have ended
            return own + sum(tree_seconds(child) for child in children_of(self.pid))
        return 0.0


@contextlib.contextmanager
def database(server: Server, name: str) -> Iterator[str]:
    """An empty database, gone afterwards; its name."""
    called = f"{_NAME}{name}"
    server.ask(lambda c: c.execute(f"DROP DATABASE IF EXISTS {called}"))
    server.ask(lambda c: c.execute(f"CREATE DATABASE {called} ENCODING 'UTF8' TEMPLATE template0"))
    try:
        yield called
    finally:
        with contextlib.suppress(StorageError):
            server.ask(lambda c: c.execute(f"DROP DATABASE IF EXISTS {called} WITH (FORCE)"))


def named(dsn: str) -> Server:
    """The server of a dsn; its processes are seen where it runs on this machine. StorageError where it is away."""
    there = Server(dsn, None)
    return Server(dsn, there.ask(_parent_here))


async def _parent_here(connection: Connection) -> int | None:
    """The parent of the connection's own server process, if that is one of this machine."""
    return _parent_of(await _backend(connection))


def _parent_of(backend: int) -> int | None:
    with contextlib.suppress(OSError):
        name, _, rest = Path(f"/proc/{backend}/stat").read_text().rpartition(")")
        if "(postgres" in name:
            return int(rest.split()[1])
    return None


async def _checkpoint(connection: Connection) -> None:
    with faults.as_storage_errors():
        await connection.execute("CHECKPOINT")  # a right that not every user has


async def _backend(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT pg_backend_pid()"))


@contextlib.contextmanager
def own() -> Iterator[Server]:
    """A server made for this run, ended and removed with it; ConfigError where PostgreSQL is not installed."""
    programs, who = _programs(), _other_user()
    with tempfile.TemporaryDirectory(prefix="collector-bench-", dir=_open_folder() if who else None) as folder:
        if who:
            os.chmod(folder, 0o711)  # noqa: S103  # the server's user passes through, and reads nothing
        yield from _serving(Path(folder), programs, who)


def _serving(folder: Path, programs: Path, who: dict[str, Any]) -> Iterator[Server]:
    data = folder / "postgres"
    data.mkdir()
    if who:
        os.chown(data, who["user"], who["group"])
    made = subprocess.run(
        [programs / "initdb", "-D", data, "-U", "collector", "-A", "trust", "-E", "UTF8", "--no-locale"],
        capture_output=True, text=True, cwd=data, env=foreign_environment(), check=False, **who,
    )  # fmt: skip
    if made.returncode:
        raise CollectorError(f"initdb failed: {made.stderr.strip()}")
    with open(data / "postgresql.conf", "a") as file:
        file.write(_SETTINGS)
    port = _free_port()
    command = [str(word) for word in (programs / "postgres", "-D", data, "-k", data, "-p", port)]
    with open(folder / "postgres.log", "wb") as log:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=data, env=foreign_environment(),
            start_new_session=True, preexec_fn=hardening.die_with_parent, **who,
        )  # fmt: skip
    server = Server(f"postgresql://collector@127.0.0.1:{port}/postgres", process.pid)
    try:
        _await(server, process, folder / "postgres.log")
        yield server
    finally:
        process.terminate()
        try:
            process.wait(_START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            server.ask(_backend)
            return
        except StorageError as error:
            if process.poll() is not None or time.monotonic() > until:
                raise CollectorError(f"PostgreSQL did not start: {error}: {log.read_text()[-500:]}") from error
        time.sleep(0.1)


def _programs() -> Path:
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"), key=lambda path: int(path.split("/")[4]))
    here = found[-1] if found else shutil.which("initdb")
    if here is None:
        raise ConfigError(["initdb is not installed: `apt-get install postgresql`; or name a server with --dsn"])
    return Path(here).parent


def _other_user() -> dict[str, Any]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    names = {one.pw_name: one for one in pwd.getpwall()}
    who = names.get("postgres") or names["nobody"]
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _open_folder() -> str:
    """A folder for temporary files that any user may pass through."""
    for name in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  # a folder of its own is made in it
        place = Path(name).resolve()
        if all(above.stat().st_mode & 0o001 for above in (place, *place.parents)):
            return name
    raise ConfigError(["no folder for temporary files is open to other users; set TMPDIR"])


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
