"""What every page stands on: templates that escape everything, the store's reader and totals, and the notes on top."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from litestar import Response
from markupsafe import Markup, escape

from collector import __version__
from collector.config import Config
from collector.console import glossary
from collector.console.hub import Hub
from collector.core.capi.states import CapiState
from collector.core.days import COMPARISONS, RANGES
from collector.core.event_names import STANDARD
from collector.core.ids import PublicIds
from collector.errors import TooSlow
from collector.storage.reports.delivery import Requests
from collector.storage.reports.kept import CUSTOM
from collector.storage.reports.names import public_ids
from collector.storage.reports.questions import Reading, named
from collector.storage.reports.totals import Totals

PLACES: Final = (
    ("/", "Today"),
    ("/orders", "Orders"),
    ("/campaigns", "Campaigns"),
    ("/reconcile", "Reconcile"),
    ("/delivery", "Delivery"),
    ("/trust", "Trust"),
    ("/left-out", "Left out"),
    ("/live", "Live"),
    ("/system", "System"),
)
EVENTS: Final = ("Purchase", *sorted(STANDARD - {"Purchase"}), CUSTOM)
# Of the request's session, set by the gate: the log-out button carries it.
FORM_TOKEN: Final[ContextVar[str]] = ContextVar("form_token", default="")
_STORES: Final = named("stores by name", "SELECT id, name FROM store ORDER BY name")
# A page waits this long for totals that are not counted yet, then shows what there is.
_PATIENCE_SECONDS: Final = 1.5

templates = Environment(
    loader=PackageLoader("collector.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@cache
def asset_bytes(name: str) -> bytes:
    """One of the files in assets/, which a process reads once."""
    return resources.files("collector.console").joinpath("assets", name).read_bytes()


def asset_address(name: str) -> str:
    """The file's address, which changes with its content: it may be cached for long."""
    return f"/assets/{name}?v={sha256(asset_bytes(name)).hexdigest()[:12]}"


_TICKED: Final = re.compile(r"`([^`]+)`")


def ticked(text: str) -> Markup:
    """A sentence of ours, escaped, with what stands in backticks as code."""
    return Markup(_TICKED.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  escaped before


def meant(word: str, bar: Any = None) -> str:
    """A figure's title: what it counts, and over which days where it counts days."""
    return glossary.title(word, bar.said if bar else "")


templates.filters["ticked"] = ticked
templates.globals["asset"] = asset_address
templates.globals["meant"] = meant
templates.globals["keys"] = (
    *(("t", "today"), ("w", "7 days"), ("m", "28 days"), ("x", "compare, or not")),
    *(("/", "find an order"), ("?", "this list"), ("Esc", "close it")),
)
templates.globals["ranges"] = RANGES
templates.globals["comparisons"] = COMPARISONS
templates.globals["events"] = EVENTS


class Note(NamedTuple):
    """A sentence on top of a page: what is, and the mend."""

    level: str  # good, warn, bad or empty
    what: str
    mend: str = ""
    way: str = ""  # the page that has more of it, by its address


class Word(NamedTuple):
    """A state as a word with a tone."""

    word: str
    level: str = ""


# What a merchant calls a state, where the API's word is another.
_SAID: Final = {
    CapiState.REJECTED: "refused",
    CapiState.SKIPPED: "left out",
    CapiState.DISABLED: "not sent",
    CapiState.QUEUED: "waiting",
    CapiState.RETRYING: "tried again",
}


def delivery_word(state: int) -> Word:
    """A delivery state for people."""
    tones = {
        CapiState.SENT: "good",
        CapiState.REJECTED: "bad",
        CapiState.EXPIRED: "bad",
        CapiState.RETRYING: "warn",
        CapiState.HELD: "warn",
    }
    try:
        known = CapiState(state)
    except ValueError:
        return Word(f"state {state}")
    return Word(_SAID.get(known, known.name.lower().replace("_", " ")), tones.get(known, ""))


@dataclass(slots=True)
class Desk:
    """What pages are made from. `clock` gives ms."""

    config: Config
    reader: Reading
    clock: Callable[[], int]
    counter: Reading | None = None  # a connection of its own for counting, so that no page waits behind it
    totals: Totals = field(default_factory=Totals)
    requests: Requests = field(default_factory=Requests)
    _counting: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tallying: asyncio.Lock = field(default_factory=asyncio.Lock)
    _ids: PublicIds | None = None
    _hub: Hub | None = None

    @property
    def hub(self) -> Hub:
        """What is happening, for the pages that follow it."""
        self._hub = self._hub or Hub(self.reader, self.config, self.clock)
        return self._hub

    async def ids(self) -> PublicIds:
        """The public ids, read at first use: the edge makes the pepper, perhaps after our start."""
        if self._ids is None:
            self._ids = await public_ids(self.reader, self.config)
        return self._ids

    async def fresh_totals(self) -> Totals:
        """The totals, brought up to date as far as a page may wait."""
        if (
            self.totals.complete or not self.totals.slices
        ):  # else the background is at it, and a page shows what there is
            with suppress(TooSlow):  # a slow disk: the figures are those of the last count
                await self.count(budget_seconds=_PATIENCE_SECONDS, again=False)
        return self.totals

    async def count(self, *, budget_seconds: float, again: bool = True) -> bool:
        """Count on for a while; one at a time, so that two pages do not read the same slices."""
        async with self._counting:
            return await self.totals.refresh(
                self.counter or self.reader, self.clock(), budget_seconds=budget_seconds, again=again
            )

    async def last_success(self) -> dict[str, int]:
        """When each pixel last took events (ms), by its name."""
        async with self._tallying:
            await self.requests.refresh(self.reader)
        return self.requests.last_success

    async def stores(self) -> dict[int, str]:
        """Row number -> store id, for every store that has rows."""
        return {row[0]: row[1] for row in await self.reader.rows(_STORES)}


def page(
    template: str,
    *,
    title: str,
    here: str = "",
    refresh: int = 0,
    notes: Iterable[Note] = (),
    status: int = 200,
    **view: Any,
) -> Response[bytes]:
    """One page as a response; everything in it is escaped by the templates."""
    shared = {
        "places": PLACES,
        "bar": None,
        "here": here,
        "title": title,
        "refresh": refresh,
        "notes": list(notes),
        "version": f"collector {__version__}",
    }
    text = templates.get_template(template).render({"form_token": FORM_TOKEN.get(), **shared, **view})
    return Response(text.encode(), media_type="text/html", status_code=status)
