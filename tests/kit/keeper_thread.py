"""A keeper in a thread of this process, for tests that look at the edge or plant faults in both at one stroke."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

from collector.config import Config
from collector.exchange import links
from collector.exchange.clock import Clock
from collector.keeper.app import Keeper
from collector.storage.journal.journal import Journal


@contextlib.contextmanager
def keeping(config: Config, clock: Clock | None = None) -> Iterator[socket.socket]:
    """An edge's control socket, over which its connection to the keeper has been sent already."""
    kept, keepers = links.control()
    given, edges = links.control()
    end, other = links.pair()
    links.give(kept, end)
    links.give(given, other)
    opened = threading.Event()
    made: list[Keeper] = []

    def keep() -> None:
        own = Journal(config, clock or Clock())  # opened and closed by the thread that uses it
        made.append(Keeper(own, keepers))
        own.start()
        opened.set()
        try:
            made[0].serve()
        finally:
            own.close()

    thread = threading.Thread(target=keep, name="keeper", daemon=True)
    thread.start()
    assert opened.wait(30), "the keeper did not open the database"
    try:
        with kept, given, edges:
            yield edges
    finally:
        made[0].end()
        thread.join(15)
        keepers.close()
