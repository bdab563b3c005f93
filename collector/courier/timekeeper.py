"""Who keeps the trusted now (C1)? Reads the clocks, hears Meta's, writes the mark down, tells of a held jump."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from collector.core import trusted
from collector.core.trusted import AGREED_MS, TOLERANCE_MS, Mark, State
from collector.exchange.clock import Clock
from collector.storage.delivery import Kept
from collector.telemetry import logger

log = logger("courier")

_KEPT_MS: Final = 15_000  # a step where nothing happens: as old the mark may be after a power cut
_ONE_CLOCK_MS: Final = 60_000  # answers take their time, and a Date has whole seconds

Tell = Callable[[str], None]


class Timekeeper:
    """The courier's clocks. `step` is to be called every few seconds, on the thread that owns what is kept."""

    def __init__(self, kept: Kept, system: Callable[[], int], boot: Callable[[], int]) -> None:
        self._kept = kept
        self.clock = Clock(system, boot)
        self._changing = threading.Lock()  # answers come on the loop's thread
        self._heard: tuple[int, int] | None = None  # the last Date, and the boot-time clock at that moment
        self._agreed_since: int | None = None
        self._stepped: int | None = None  # the boot-time clock at the last step; None: there is something to write down
        before, now = kept.read(), self.clock.reading()
        self._acceptances = before.acceptances if before else 0
        self._held_since = before.held_since if before else None
        self._mark = trusted.carried(before.mark, now) if before else trusted.first(now)
        kept.change(lambda _: self._state(now.system))
        self.clock.take(self._mark)

    def heard(self, date: int) -> None:
        """Meta's clock shows this (ms). It is believed once two answers show one clock: one Date may be anybody's."""
        with self._changing:
            now, before = self.clock.reading(), self._heard
            self._heard = (date, now.boot)
            if before is not None and abs(date - before[0] - (now.boot - before[1])) <= _ONE_CLOCK_MS:
                self._mark = replace(trusted.carried(self._mark, now), date=date)
                self.clock.take(self._mark)
                self._stepped = None

    @property
    def is_disputed(self) -> bool:
        """Whether the system's clock is contradicted, if only by the last answer."""
        now = self.clock.reading()
        off = 0 if self._heard is None else now.system - self._heard[0] - (now.boot - self._heard[1])
        return abs(off) > TOLERANCE_MS or self.is_doubtful

    @property
    def is_doubtful(self) -> bool:
        """Whether the system's clock is contradicted."""
        now = self.clock.reading()
        return trusted.is_doubtful(trusted.carried(self._mark, now), now)

    @property
    def is_held(self) -> bool:
        """Whether a jump was held when it was last looked at; one that was set right since then still is."""
        return self._held_since is not None

    @property
    def knows_metas(self) -> bool:
        """Whether Meta's clock is believed."""
        return self._mark.date is not None

    @property
    def is_due(self) -> bool:
        """Whether to step though nobody has written anything: for the time that has passed, or for what it brought."""
        now, last = self.clock.reading().boot, self._stepped
        return last is None or not 0 <= now - last < _KEPT_MS or self.is_held or self.is_doubtful

    def step(self, tell: Tell) -> None:
        """Carry the mark on, take a person's word, and write down what is believed, where there is any news of it."""
        kept = self._kept.read()
        if not self.is_due and kept is not None and kept.acceptances == self._acceptances:
            return
        now = self.clock.reading()

        def change(kept: State | None) -> State:
            with self._changing:
                if kept is not None and kept.acceptances > self._acceptances:
                    self._mark, self._acceptances = kept.mark, kept.acceptances
                    log.info("a person says that the clock is right")
                self._mark = self._agreed(trusted.carried(self._mark, now), now)
                self._note_hold(now, tell)
                self._stepped = now.boot
                return self._state(now.system)

        try:
            self._kept.change(change)
        except BaseException:
            self._stepped = None
            raise
        self.clock.take(self._mark)

    def _agreed(self, mark: Mark, now: trusted.Reading) -> Mark:
        if not trusted.agrees(mark, now):
            self._agreed_since = None
            return mark
        if self._agreed_since is None:
            self._agreed_since = now.boot
        return trusted.vouched(mark, now) if now.boot - self._agreed_since >= AGREED_MS else mark

    def _note_hold(self, now: trusted.Reading, tell: Tell) -> None:
        held = trusted.held_ms(self._mark, now)
        if held and self._held_since is None:
            self._held_since = now.system
            log.warning("the clock jumped ahead and is held", seconds=held // 1000)
            tell(trusted.advice(self._mark, now))
        elif not held and self._held_since is not None:
            self._held_since = None
            log.info("the clock is trusted again")

    def _state(self, system: int) -> State:
        return State(self._mark, system, self._held_since, self._acceptances)
