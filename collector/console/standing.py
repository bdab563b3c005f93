"""How each pixel and process stands, in a line each, and a note for each that needs a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from collector.console import words
from collector.console.shell import Desk, Note, Word
from collector.core.capi.states import CapiState, kept_until
from collector.storage.ground import damage
from collector.storage.reports import delivery
from collector.storage.reports.folds import DAY_MS

_SILENT_MS: Final = 60_000
_MEND: Final = {
    "blocked": "Mend what Meta names: most often the token in the pixel's token file, else api_version or app_secret.",
    "failing": "Meta or the way to it has trouble. It is tried again, gently, until it answers.",
    "throttled": "Meta asked for a pause. The queue goes on by itself.",
}


async def pixel_lines(desk: Desk, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    """A line for each pixel, and a note for each that needs a person."""
    waiting, last = await delivery.waiting(desk.reader), await desk.last_success()
    lines, notes = [], []
    for pixel in await delivery.pixels(desk.reader):
        own = [w for w in waiting if w.pixel == pixel.name]
        queued = [w for w in own if w.state != CapiState.HELD]
        oldest = min((w.oldest for w in queued), default=None)
        lines.append(
            {
                "name": pixel.name,
                "state": _pixel_word(pixel.state),
                "waiting": words.number(sum(w.events for w in queued)),
                "waiting_n": sum(w.events for w in queued),
                "oldest": words.ago(oldest, now) if oldest else "–",
                "held": words.number(sum(w.events for w in own if w.state == CapiState.HELD)),
                "last": words.ago(last.get(pixel.name), now),
            }
        )
        if pixel.state != "open":
            what = f"Pixel {pixel.name} is {pixel.state}: {pixel.reason or 'Meta gave no reason'}"
            mend = _MEND.get(pixel.state, "") + (f" {kept_until(pixel.deadline)}." if pixel.deadline else "")
            notes.append(Note("bad" if pixel.state == "blocked" else "warn", what, mend))
    return lines, notes


def _pixel_word(state: str) -> Word:
    return Word(state, {"open": "good", "blocked": "bad"}.get(state, "warn"))


async def processes(desk: Desk, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    lines, notes = [], []
    for beat in await delivery.heartbeats(desk.reader):
        silent = now - beat.at > _SILENT_MS
        lines.append(
            {
                "name": beat.process,
                "state": Word("silent", "bad") if silent else Word("alive", "good"),
                "seen": words.ago(beat.at, now),
            }
        )
        if silent:
            notes.append(
                Note(
                    "bad",
                    f"The {beat.process} has been silent for {words.seconds((now - beat.at) / 1000)}.",
                    "Look at its log; `collector doctor` names the mend.",
                )
            )
    return lines, notes


def lost(desk: Desk) -> list[Note]:
    """What of acknowledged events is lost, until a person accepts it (D6)."""
    told = damage.told(Path(desk.config.storage.data_dir))
    mend = "Restore a backup, or go on without them by `collector damage accept`."
    return [Note("bad", told[0].upper() + told[1:], mend)] if told else []


async def dead(desk: Desk, now: int) -> list[Note]:
    """What was refused or expired in the last 24 hours, of every event."""
    n = await delivery.dead_since(desk.reader, now - DAY_MS)
    what = f"{words.number(n)} events were refused or expired in the last 24 hours."
    return [Note("warn", what, "The delivery page has the reason of each.")] if n else []
