"""Which database is it that [storage] names, and do its settings go together? It is not asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, unquote, urlsplit

from collector.config import Config
from collector.config_loader.faults import Fault

PORT: Final = 5432
_EXAMPLE: Final = "postgresql://collector@db1,db2/collector?sslmode=verify-full"

Host = tuple[str, int]  # a name, an address or the folder of a socket; the port


def check(config: Config, *, needs_dsn: bool) -> Iterator[Fault]:
    """`needs_dsn`: whether this process would open it. A fault never holds the dsn: there may be a password in it."""
    storage = config.storage
    if storage.engine == "sqlite" and storage.dsn:
        yield Fault(("storage", "dsn"), 'names a database, and engine is "sqlite"; set engine = "postgres"')
        yield Fault(("storage", "engine"), '"sqlite" keeps all in data_dir; set "postgres", or take dsn out')
    if storage.engine == "sqlite" and storage.read_dsn:
        yield Fault(("storage", "read_dsn"), 'names a database, and engine is "sqlite"; set engine = "postgres"')
    if storage.engine == "postgres" and not storage.dsn and needs_dsn:
        yield Fault(("storage", "engine"), '"postgres" needs a database, and dsn names none')
        yield Fault(("storage", "dsn"), f"missing; give dsn_file, or COLLECTOR_STORAGE__DSN: {_EXAMPLE}")
    for name, dsn in (("dsn", storage.dsn), ("read_dsn", storage.read_dsn)):
        if dsn and not is_whole(dsn):
            yield Fault(("storage", name), f"expected user, hosts and database, as in {_EXAMPLE}")
    if storage.engine == "postgres" and config.backup.dir:
        yield Fault(("backup", "dir"), "PostgreSQL's backups are its own (pg_basebackup); take it out")


def is_whole(dsn: str) -> bool:
    """Whether it names a user, hosts and a database."""
    try:
        way, hosts = urlsplit(dsn), hosts_of(dsn)
    except ValueError:
        return False
    named = way.username and len(way.path) > 1 and hosts and all(host and 0 < port < 65_536 for host, port in hosts)
    return way.scheme in ("postgresql", "postgres") and bool(named) and dsn.isprintable()


def hosts_of(dsn: str) -> list[Host]:
    """`postgresql://u@db1:5433,[::1]/d` to db1 and 5433, ::1 and 5432, in their order. ValueError: a port is none."""
    way = urlsplit(dsn)
    given = parse_qs(way.query)
    named = way.netloc.rpartition("@")[2] or ",".join(given.get("host", []))
    ports = given.get("port", [str(PORT)])[-1].split(",")
    return [_host(text, ports[n] if n < len(ports) else ports[-1]) for n, text in enumerate(named.split(",")) if named]


def _host(text: str, port: str) -> Host:
    host, colon, own = text.rpartition(":")
    if not colon or own.endswith("]"):
        host, own = text, port
    return unquote(host.strip("[]")), int(own)


def files_of(dsn: str) -> list[str]:
    """Files that it names: certificates, a key, passwords."""
    given = parse_qs(urlsplit(dsn).query)
    return [name for key in ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile") for name in given.get(key, [])]


def user_of(dsn: str) -> str:
    """Who logs in, for a sentence."""
    return unquote(urlsplit(dsn).username or "")


def database_of(dsn: str) -> str:
    """The database's name, for a sentence."""
    return unquote(urlsplit(dsn).path.removeprefix("/"))
