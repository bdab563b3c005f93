"""What time is it, where being wrong cannot be undone? (C1, C2)

One clock's word is not enough to expire an order or to delete a row. What time can have come is also known from a mark:
a moment that was believed once, carried on by the boot-time clock, which nobody sets. The trusted now is the least of
the system's clock, the mark and Meta's Date. A clock that jumps ahead of it is held until Meta has agreed with it for
an hour, or a person has said that it is right.

    mark ── time of the boot-time clock, moved to the better clock by at most 2 minutes an hour ──▶ the latest it can be

A stop over a reboot is told by no clock that runs: what it may have lasted (`gap`) is believed where an order is given
its time, and is not where something ends. Milliseconds throughout.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from collector.core import times
from collector.core.times import AHEAD_MS

TOLERANCE_MS: Final = AHEAD_MS  # clocks differ, and answers take their time
AGREED_MS: Final = 3_600_000  # so long two witnesses must agree
_SLACK: Final = 30  # 2 minutes an hour: one of 30


class Reading(Struct, frozen=True):
    """The clocks of this machine, read at one moment."""

    system: int  # since 1970
    boot: int  # since the machine's start, sleep included
    boot_id: str


class Mark(Struct, frozen=True):
    """What is believed at a reading of the boot-time clock."""

    at: int
    boot: int
    boot_id: str
    gap: int = 0  # that a stop over a reboot may have lasted beyond `at`
    date: int | None = None  # Meta's clock at that moment; None where it is not known
    person: bool = False  # a person has said that the system's clock is right, so Meta's is not asked


class State(Struct, frozen=True):
    """What is kept. `system`: the system's clock when it was written; `held_since`: of the jump that is held."""

    mark: Mark
    system: int
    held_since: int | None = None
    acceptances: int = 0  # how often a person has said that the clock is right


def first(now: Reading) -> Mark:
    """The mark of a new database: nothing is known but the system's clock."""
    return Mark(now.system, now.boot, now.boot_id)


def carried(mark: Mark, now: Reading) -> Mark:
    """The mark at a later reading."""
    if now.boot_id != mark.boot_id or now.boot < mark.boot:
        return Mark(mark.at, now.boot, now.boot_id, gap=max(0, now.system - mark.at), person=mark.person)
    passed = now.boot - mark.boot
    date = None if mark.date is None else mark.date + passed
    best = now.system if date is None or mark.person else date
    at = mark.at + passed
    at += max(-passed // _SLACK, min(passed // _SLACK, best - at))
    return replace(mark, at=at, boot=now.boot, date=date)


def trusted(mark: Mark, now: Reading) -> int:
    """The now of whatever cannot be undone; `mark` is carried to `now`."""
    witnesses = [now.system, mark.at]
    if mark.date is not None and not mark.person:
        witnesses.append(mark.date)
    return min(witnesses)


def receipt(mark: Mark, now: Reading) -> int:
    """The time that an event is given which arrives now; `mark` is carried to `now`.

    Of the system's clock and what contradicts it, the better one: a time once given stays.
    """
    if mark.date is not None and not mark.person:
        return now.system if abs(now.system - mark.date) <= TOLERANCE_MS else mark.date
    latest = mark.at + mark.gap
    if now.system > latest + TOLERANCE_MS:
        return latest
    return mark.at if now.system < mark.at - TOLERANCE_MS else now.system


def held_ms(mark: Mark, now: Reading) -> int:
    """How far the system's clock is ahead of the trusted now; 0 within the tolerance."""
    ahead = now.system - trusted(mark, now)
    return ahead if ahead > TOLERANCE_MS else 0


def advice(mark: Mark, now: Reading) -> str:
    """A held jump, for people; empty where nothing is held."""
    if not (held := held_ms(mark, now)):
        return ""
    return (
        f"this machine's clock is {held // 1000} s ahead of what can be believed ({times.text(trusted(mark, now))}): "
        "nothing expires and nothing is deleted until Meta's clock has agreed with it for an hour. "
        "Set it by NTP; if it is right, say `collector clock accept`"
    )


def is_doubtful(mark: Mark, now: Reading) -> bool:
    """Whether the system's clock is contradicted: by Meta, by the mark, or by a stop that nobody vouches for."""
    return held_ms(mark, now) > 0 or abs(now.system - receipt(mark, now)) > TOLERANCE_MS


def as_kept(state: State) -> Reading:
    """The clocks when it was written."""
    return Reading(state.system, state.mark.boot, state.mark.boot_id)


def agrees(mark: Mark, now: Reading) -> bool:
    """Whether Meta's clock says what the system's says."""
    return mark.date is not None and abs(now.system - mark.date) <= TOLERANCE_MS


def vouched(mark: Mark, now: Reading) -> Mark:
    """The mark after two witnesses have agreed for an hour: the system's clock is right."""
    return Mark(now.system, now.boot, now.boot_id, date=mark.date)


def accepted(now: Reading) -> Mark:
    """The mark after a person has said that the system's clock is right, whatever Meta's says."""
    return Mark(now.system, now.boot, now.boot_id, person=True)


def acceptance(before: State | None, now: Reading) -> State:
    """What is kept then."""
    return State(accepted(now), now.system, acceptances=before.acceptances + 1 if before else 1)
