"""How each pixel and process stands, in a line each, and a note for each that needs a person."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from collector.console import meta_codes, words
from collector.console.bar import Bar
from collector.console.shell import Desk, Note, Word
from collector.core import filling as disk
from collector.core import times
from collector.core.capi.states import CapiState
from collector.storage.ground import damage
from collector.storage.reports import delivery
from collector.storage.reports.delivery import Heartbeat, Pixel, Request, Waiting
from collector.storage.reports.folds import DAY_MS, HOUR_MS
from collector.storage.reports.insights import InsightState

_SILENT_MS: Final = 60_000
_SOON_MS: Final = DAY_MS
_TOKEN_CODES: Final = frozenset({102, 190})
# What stands still while a process is silent.
_STILL: Final = {
    "keeper": ": no click and no order is stored",
    "edge": ": no click and no order is taken in",
    "courier": ": nothing goes to Meta, and no alert goes out",
}
_MEND: Final = {
    "blocked": "Mend what Meta names: most often the token in the pixel's token file, else api_version or app_secret.",
    "failing": "Meta or the way to it has trouble. It is tried again, gently, until it answers.",
    "throttled": "Meta asked for a pause. The queue goes on by itself.",
}


async def pixel_lines(desk: Desk, bar: Bar, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    """A line for each pixel of the chosen shops, and a note for each that needs a person."""
    waiting, last = await delivery.waiting(desk.reader), await desk.last_success()
    answers = await delivery.last_answers(desk.reader)
    lines, notes = [], []
    for pixel in await delivery.pixels(desk.reader):
        if bar.shop and pixel.name not in bar.chosen_pixels:
            continue
        own = [w for w in waiting if w.pixel == pixel.name]
        lines.append(_line(pixel, own, last.get(pixel.name), answers.get(pixel.name), bar, now))
        if (note := _note(pixel, own, answers.get(pixel.name), bar, now)) is not None:
            notes.append(note)
    return lines, notes


def _line(
    pixel: Pixel, own: list[Waiting], taken: int | None, answer: Request | None, bar: Bar, now: int
) -> dict[str, Any]:
    queued = [w for w in own if w.state != CapiState.HELD]
    oldest = min((w.oldest for w in queued), default=None)
    waiting = sum(w.events for w in queued)
    return {
        "name": pixel.name,
        "shop": bar.whose(pixel.name),
        "state": _pixel_word(pixel.state),
        "token": _token(pixel, answer, taken),
        "waiting": words.number(waiting),
        "waiting_n": waiting,
        "oldest": words.ago(oldest, now) if oldest else "–",
        "held": words.number(sum(w.events for w in own if w.state == CapiState.HELD)),
        "last": words.ago(taken, now),
        "answer": _answer(answer, now),
        "loss": _loss(pixel.deadline, bar, now) if waiting else "–",
    }


def _pixel_word(state: str) -> Word:
    return Word(state, {"open": "good", "blocked": "bad"}.get(state, "warn"))


def _token(pixel: Pixel, answer: Request | None, taken: int | None) -> Word:
    """What the answers tell of the token: the console itself holds none."""
    if pixel.state == "blocked" and _code(pixel, answer) in _TOKEN_CODES:
        return Word("refused", "bad")
    return Word("accepted", "good") if taken is not None else Word("not tried yet")  # fmt: skip


def _code(pixel: Pixel, answer: Request | None) -> int | None:
    """Meta's code that stands behind a pixel's state: as its reason ends, else of the last answer."""
    kept = meta_codes.code_of(pixel.reason or "")
    return kept[0] if kept else answer.code if answer is not None else None


def _answer(answer: Request | None, now: int) -> str:
    if answer is None:
        return "none yet"
    code = f"code {meta_codes.shown(answer.code, answer.subcode)}" if answer.code is not None else ""
    said = code or answer.outcome.replace("_", " ")
    return words.ago(answer.at, now) + f", {said}"


def _loss(deadline: int | None, bar: Bar, now: int) -> str:
    """By when the first event that waits must reach Meta, and how long that is."""
    if deadline is None:
        return "–"
    return f"{bar.moment(deadline)} (in {words.span(max(0, deadline - now) / 1000)})"


def _note(pixel: Pixel, own: list[Waiting], answer: Request | None, bar: Bar, now: int) -> Note | None:
    """What is, which shop, until when, and the mend."""
    events = sum(w.events for w in own if w.state != CapiState.HELD)
    soon = bool(events) and pixel.deadline is not None and pixel.deadline - now < _SOON_MS
    if pixel.state == "open" and not soon:
        return None
    kept = meta_codes.code_of(pixel.reason or "")
    failed = answer if answer is not None and answer.outcome not in ("sent", "short") else None
    told = kept or (failed and (failed.code, failed.subcode)) or (None, None)
    ours = meta_codes.sentence(*told, pixel.reason or "")
    what = f"{bar.whose(pixel.name)}: {_trouble(pixel, answer)}. {_waits(events)}"
    if events and pixel.deadline is not None:
        late = pixel.deadline <= now
        what += " The first is lost now." if late else f" The first is lost on {bar.moment(pixel.deadline)}."
    mend = ours or _MEND.get(pixel.state, "Look at what Meta answers, on the Delivery page.")
    said = f" Meta: {pixel.reason}" if pixel.reason else ""
    return Note("bad" if pixel.state == "blocked" or soon else "warn", what, mend + said, "/delivery")


def _trouble(pixel: Pixel, answer: Request | None) -> str:
    if pixel.state == "blocked":
        return "Meta refuses the token" if _code(pixel, answer) in _TOKEN_CODES else "Meta refuses what is sent"
    return {"throttled": "Meta asked for a pause", "failing": "Meta does not answer as it should"}.get(
        pixel.state, "events wait that are soon too old"
    )


def _waits(events: int) -> str:
    return f"{words.number(events)} {'event waits' if events == 1 else 'events wait'}." if events else "Nothing waits."


async def processes(desk: Desk, now: int) -> tuple[list[dict[str, Any]], list[Note]]:
    """A line for each process, and a note for each that is silent."""
    beats = await delivery.heartbeats(desk.reader)
    alive = {_kind(beat.process) for beat in beats if now - beat.at <= _SILENT_MS}
    notes = [_silence(beat, alive, now) for beat in beats if now - beat.at > _SILENT_MS]
    return [_process(beat, now) for beat in beats], notes


def _process(beat: Heartbeat, now: int) -> dict[str, Any]:
    silent = now - beat.at > _SILENT_MS
    state = Word("silent", "bad") if silent else Word("alive", "good")
    return {"name": beat.process, "state": state, "seen": words.ago(beat.at, now)}


def _silence(beat: Heartbeat, alive: set[str], now: int) -> Note:
    """What stands still, unless another machine's of its kind goes on."""
    still = "" if _kind(beat.process) in alive else _STILL.get(_kind(beat.process), "")
    return Note(
        "bad",
        f"The {beat.process} has been silent for {words.seconds((now - beat.at) / 1000)}{still}.",
        "Does it run? `collector serve` starts it; its log says why it ended.",
        "/system",
    )


def _kind(process: str) -> str:
    """Over several machines a process has its host behind it."""
    return process.partition("@")[0]


async def filling(desk: Desk, now: int) -> list[Note]:
    """That the disk will soon be full, or that the newest backup is older than two of its turns."""
    seen: dict[str, Any] = {}
    for beat in await delivery.heartbeats(desk.reader):
        seen |= beat.figures
    free, days, newest = (seen.get(name) for name in ("diskFreeBytes", "diskDays", "newestBackupAt"))
    notes, wanted = [], desk.config.backup
    if isinstance(free, int):
        told = disk.warning(free, desk.config.storage.reserve_mb << 20, days if isinstance(days, int) else None)
        mend = "Make room where the database lies, or keep less: [privacy] has the days of each kind."
        notes += [Note("bad", told[0].upper() + told[1:] + ".", mend, "/system")] if told else []
    if wanted.dir and isinstance(newest, int) and now - newest > 2 * wanted.every_hours * HOUR_MS:
        age = words.seconds((now - newest) / 1000)
        notes.append(
            Note("warn", f"The newest backup is {age} old.", "The courier's log says why none was made since.")
        )
    return notes


def lost(desk: Desk) -> list[Note]:
    """What of acknowledged events is lost, until a person accepts it (D6)."""
    told = damage.told(Path(desk.config.storage.data_dir))
    mend = "Restore a backup, or go on without them by `collector damage accept`."
    return [Note("bad", told[0].upper() + told[1:], mend)] if told else []


def unread(account: InsightState | None, now: int) -> list[Note]:
    """That the ad account cannot be read, since when, and the mend: its fault names it."""
    if account is None or account.fault is None:
        return []
    since = times.parse(account.fault_since or "")
    age = f" for {words.seconds(max(now - since, 0) / 1000)}" if since is not None else ""
    return [Note("warn", f"What the ads cost could not be read{age}.", account.fault)]


async def dead(desk: Desk, now: int) -> list[Note]:
    """What was refused or expired in the last 24 hours, of every event."""
    n = await delivery.dead_since(desk.reader, now - DAY_MS)
    what = f"{words.number(n)} events were refused or expired in the last 24 hours."
    return [Note("warn", what, "The reason of each:", "/delivery")] if n else []
