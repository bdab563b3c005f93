"""Who takes what is imported: the keeper of a running collector over its socket, else the journal in this process."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from msgspec import structs

from collector import release
from collector.config import Config
from collector.core.ids import PublicIds
from collector.core.keyed import KeyedHash
from collector.errors import CollectorError, StorageError
from collector.exchange import frames, links
from collector.exchange.clock import Clock
from collector.exchange.frames import Frames, Hello, Submitted, ToEdge, ToKeeper
from collector.exchange.operations import Operation, Submission
from collector.exchange.stores import Store
from collector.process import hardening
from collector.storage import engine
from collector.storage.ground import lock
from collector.storage.ground.database import DATABASE

_PATIENCE_SECONDS: Final = 30.0  # a keeper that is replaced is back within a second or two
_AGAIN_SECONDS: Final = 0.2
_RECEIVED: Final = 1 << 20
_CACHE_MB: Final = 8  # of each database file
_LOST: Final = "the event could not be stored"


class Taker(Protocol):
    """Takes operations: a result of each once all are on disk; an ApiError is one. StorageError: nothing was taken."""

    stores: dict[str, Store]
    names: KeyedHash
    public: PublicIds
    clock: Clock

    def take(self, operations: Sequence[Operation]) -> list[Any]: ...
    def count(self, store: int, name: str) -> None: ...


@contextmanager
def opened(config: Config) -> Iterator[Taker]:
    """The running keeper, or our own journal, which nobody else can have meanwhile."""
    data_dir = config.storage.data_dir
    if (end := links.connect(data_dir)) is not None:
        with contextlib.closing(Remote(data_dir, end)) as remote:
            yield remote
        return
    is_file = config.storage.engine == "sqlite"
    if is_file and config.path is None and not (Path(data_dir) / DATABASE).is_file():  # the folder may be mistyped
        raise StorageError(f"no database at {data_dir}; give --config, or the --data-dir of a collector")
    with hardening.for_the_owner(data_dir):
        held = lock.hold(data_dir)
        try:
            with contextlib.closing(Local(config)) as local:
                yield local
        finally:
            os.close(held)


class Local:
    """The journal in this process."""

    def __init__(self, config: Config) -> None:
        self.clock = Clock()
        # New rows are written at the end and few are read again: the usual 64 MB of each file only fill up (174 MB of
        # this process became 303 MB over 10⁶ rows) and gain nothing (28 s and 25 s for 60,000).
        storage = structs.replace(config.storage, cache_mb=min(config.storage.cache_mb, _CACHE_MB))
        self._journal = journal = engine.journal(structs.replace(config, storage=storage), self.clock)
        journal.start()
        self.stores, self.names, self.public = journal.stores, journal.names, journal.public

    def take(self, operations: Sequence[Operation]) -> list[Any]:
        waiting = deque([Submission(operations)])
        (done,) = self._journal.commit(waiting)
        if isinstance(done.results, Exception) or self._journal.distrusted:
            raise done.results if isinstance(done.results, StorageError) else StorageError(_LOST)
        self._journal.rest()
        return list(done.results)

    def count(self, store: int, name: str) -> None:
        self._journal.count([(store, name, 1)], {})

    def close(self) -> None:
        self._journal.close()


class Remote:
    """An edge's part of the conversation with the keeper, one submission at a time."""

    def __init__(self, data_dir: str, end: socket.socket) -> None:
        self._data_dir = data_dir
        self.clock = Clock()
        self._number = 0
        self._figures: Counter[tuple[int, str]] = Counter()
        hello = self._greet(end)
        self.stores, self.names = hello.stores, KeyedHash(hello.pepper)
        self.public = PublicIds(self.names.subkey("public ids"))

    def _greet(self, end: socket.socket) -> Hello:
        end.setblocking(True)
        end.settimeout(_PATIENCE_SECONDS)
        self._end, self._frames = end, Frames()
        while True:
            for told in self._heard():
                if told.hello is not None:
                    if told.hello.release != release.name():
                        raise CollectorError("the running collector is of another release: use its own `collector`")
                    return told.hello

    def _heard(self) -> Iterator[ToEdge]:
        data = self._end.recv(_RECEIVED)
        if not data:
            raise ConnectionError
        for content in self._frames.feed(data):
            told = frames.decode_to_edge(content)
            if told.state is not None:
                self.clock.take(told.state.mark)
            yield told

    def take(self, operations: Sequence[Operation]) -> list[Any]:
        """A keeper that goes is asked again: what it may have stored already is only told once more."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                return self._ask(operations)
            except OSError:
                if time.monotonic() > deadline:
                    raise StorageError("the keeper is away; is the collector still running?") from None
                time.sleep(_AGAIN_SECONDS)
                self._connect_again()

    def _ask(self, operations: Sequence[Operation]) -> list[Any]:
        self._number += 1
        figures = [(store, name, n) for (store, name), n in self._figures.items()]
        asked = Submitted(self._number, [frames.asking(operation) for operation in operations])
        self._end.sendall(frames.frame(ToKeeper([asked], figures=figures)))
        self._figures.clear()
        while True:
            for told in self._heard():
                for one in told.committed:
                    if one.number == self._number:
                        if one.fault:
                            raise StorageError(_LOST)
                        return [frames.value_of(result) for result in one.results]

    def _connect_again(self) -> None:
        self._end.close()
        if (end := links.connect(self._data_dir)) is not None:
            with contextlib.suppress(OSError):
                self._greet(end)

    def count(self, store: int, name: str) -> None:
        self._figures[store, name] += 1

    def close(self) -> None:
        self._end.close()
