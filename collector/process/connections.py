"""How does an edge come to a connection to the keeper? The supervisor makes both ends, and gives each its own."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Sequence

from collector import telemetry
from collector.config_loader import Role
from collector.errors import StorageError
from collector.exchange import links
from collector.process.child import Child

log = telemetry.logger("supervisor")


class Connections:
    """Between the edges and the keeper among `children`, whose list is the supervisor's own."""

    def __init__(
        self, selector: selectors.BaseSelector, children: list[Child], roles: Sequence[Role], data_dir: str
    ) -> None:
        self._selector, self._children, self._roles, self._data_dir = selector, children, roles, data_dir
        self._keeper_missed = False  # said once

    def of(self, child: Child) -> socket.socket | None:
        """The child's end of a new control socket; None for those that need none."""
        if child.role not in ("edge", "keeper"):
            return None
        child.control, theirs = links.control()
        if child.role == "edge":
            self._selector.register(child.control, selectors.EVENT_READ, lambda: self._asked(child))
        return theirs

    def forget(self, child: Child) -> None:
        if child.control is not None:
            if child.role == "edge":
                self._selector.unregister(child.control)
            child.control.close()
            child.control, child.asks = None, False

    def _asked(self, child: Child) -> None:
        assert child.control is not None
        if (asks := links.asked(child.control)) is None:
            self.forget(child)
            return
        child.asks = child.asks or asks
        self.give()

    def give(self) -> None:
        """Give every edge that asks for it a connection to the keeper, once there is one that stays."""
        for edge in (child for child in self._children if child.asks and child.control is not None):
            end = self._way_to_keeper()
            if end is None:
                return  # asked for again when a keeper is ready, and by the edge itself
            edge.asks = False
            links.give(edge.control, end)  # type: ignore[arg-type]  # it has one, as chosen above

    def _way_to_keeper(self) -> socket.socket | None:
        if "keeper" not in self._roles:
            return self._way_to_another_keeper()
        for keeper in self._children:
            if keeper.role == "keeper" and keeper.ready and not keeper.replaced and keeper.control is not None:
                ours, theirs = links.pair()
                if links.give(keeper.control, theirs):
                    return ours
                ours.close()
        return None

    def _way_to_another_keeper(self) -> socket.socket | None:
        """A connection to the keeper that another supervisor runs; an edge that gets none asks again."""
        end = links.connect(self._data_dir)
        if end is None and not self._keeper_missed:
            log.warning(
                "no keeper answers yet; start one: collector keeper", path=os.path.join(self._data_dir, links.SOCKET)
            )
        self._keeper_missed = end is None
        return end

    def listen(self) -> None:
        """A keeper alone has edges under another supervisor; every keeper has commands that write, such as `import`."""
        if "keeper" not in self._roles:
            return
        with contextlib.suppress(*(() if self._roles == ("keeper",) else (StorageError,))):  # a path of over 107 bytes
            listener = links.listen(self._data_dir)
            self._selector.register(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        end = links.accept(listener)
        keepers = [child for child in self._children if child.role == "keeper" and child.ready]
        keeper = next((child for child in keepers if child.control is not None and not child.replaced), None)
        if end is not None:
            if keeper is None or keeper.control is None:
                end.close()  # the edge asks again
            else:
                links.give(keeper.control, end)
