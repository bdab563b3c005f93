"""How what is stored stands: a file by itself, or a server with its standbys and the machines over it. Shapes alone."""

from __future__ import annotations

from msgspec import Struct


class Held(Struct, frozen=True):
    """What the database takes, in bytes. `log`: of it a file's write-ahead log; None where a server keeps its own."""

    version: str
    newest_schema: int  # that this program knows
    bytes: int
    log: int | None = None
    server: Standing | None = None
    problem: str | None = None  # why the server cannot be asked how it stands


class Camel(Struct, rename="camel"):
    """Answers are in camelCase, as the API's."""


class Standby(Camel):
    """A copy of the primary; `sync` as the server says it: sync, quorum, potential, async."""

    name: str
    state: str
    sync: str
    behind_bytes: int


class EdgeSeen(Camel):
    """A keeper with its edges. `over`: it ended without a word, and its last rows are still to be looked through."""

    number: int
    owner: str
    silent_seconds: int
    over: bool


class Waiting(Camel):
    """Events of one pixel in one state that wait."""

    pixel: str
    state: str
    events: int
    oldest_seconds: int


class Pixel(Camel):
    """How delivery to one pixel stands, and which courier holds it."""

    pixel: str
    state: str
    reason: str | None
    courier: str | None


class Reads(Camel):
    """Where the console reads; `problem`: why it cannot, and then it reads where it is written."""

    at: str
    standby: bool
    behind_seconds: int
    problem: str | None = None


class Standing(Camel):
    """Everything at a glance. `schema` 0: nobody has made one yet, and then nothing below it is known."""

    engine: str
    primary: str
    version: str
    schema: int
    database_bytes: int
    connections: int
    most_connections: int
    clock_ahead_ms: int  # of the server's against this machine's
    doubts: list[str]
    standbys: list[Standby]
    reads: Reads | None = None  # where the console reads, if [storage] read_dsn names a place
    clicks: int = 0
    conversions: int = 0
    edges: list[EdgeSeen] = []
    queue: list[Waiting] = []
    pixels: list[Pixel] = []
