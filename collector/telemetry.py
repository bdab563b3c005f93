"""How does a process say what it does? One line a record on stderr, JSON or text, without personal data.

DO    log.warning("upstream refused a batch", pixel=pixel, code=190, events=12)
DON'T log.warning(f"refused {body}")       a message is a constant; what varies goes into an allowed field

Only the fields of FIELDS are written; another one leaves its name, never its value. A record of a library keeps its
template and drops its arguments, an exception keeps its type and its lines of code and drops its text: either may hold
an e-mail address, a token or a URL.
"""

from __future__ import annotations

import datetime
import errno
import logging
import sys
import traceback
from typing import Any, Final, TextIO

import msgspec

from collector.config import LogConfig
from collector.errors import StorageError

ROOT = "collector"
LONGEST = 300  # characters of one value

FIELDS: Final = frozenset(
    """
    process child pid exit_code signal seconds ms bytes rows count events attempts workers connections
    route method status request_id click_id conversion_id event_id key_id store pixel state lane outcome reason code
    subcode trace_id http_status retry_at until since version revision sqlite listen section setting fault error at
    files calls errno path free_mb backlog age_seconds watermark migration kind webhook
    """.split()
)

# Libraries that would otherwise log addresses, paths or whole URLs at INFO.
QUIET: Final = ("httpx", "httpcore", "uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "litestar")


def configure(config: LogConfig, process: str, stream: TextIO | None = None) -> None:
    """Send every record of this process to stderr (or `stream`) in the configured form and level."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json(process) if config.format == "json" else _Text(process))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger(ROOT).setLevel(config.level.upper())
    logging.raiseExceptions = False  # a full disk under stderr must not become a traceback with arguments
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def logger(name: str) -> Log:
    """The log of one part, for example `logger("edge")`."""
    return Log(logging.getLogger(f"{ROOT}.{name}"))


class Log:
    """A constant message with allowed fields."""

    def __init__(self, inner: logging.Logger) -> None:
        self._inner = inner

    def debug(self, message: str, **fields: Any) -> None:
        self._inner.debug(message, extra={"fields": fields})

    def info(self, message: str, **fields: Any) -> None:
        self._inner.info(message, extra={"fields": fields})

    def warning(self, message: str, **fields: Any) -> None:
        self._inner.warning(message, extra={"fields": fields})

    def error(self, message: str, **fields: Any) -> None:
        self._inner.error(message, extra={"fields": fields})

    def failed(self, message: str, error: BaseException, **fields: Any) -> None:
        """An unexpected exception: its type and where it was raised, not its text."""
        self._inner.error(message, extra={"fields": {**fields, **_of_exception(error)}})


def _of_exception(error: BaseException) -> dict[str, str]:
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{frame.filename.rpartition('site-packages/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]]
    said = {"reason": str(error)} if isinstance(error, StorageError) else {}  # our own words, of nobody's data
    return {**_of_system(error), **said, "error": type(error).__qualname__, "at": " < ".join(reversed(places))}


def _of_system(error: BaseException) -> dict[str, str]:
    """What the kernel said, and of which file of ours."""
    if not isinstance(error, OSError) or error.errno is None:
        return {}
    path = {"path": error.filename} if isinstance(error.filename, str) else {}
    return {"errno": errno.errorcode.get(error.errno, str(error.errno)), **path}


def to_fields(record: logging.LogRecord, process: str) -> dict[str, Any]:
    """What is written of one record, in order."""
    at = datetime.datetime.fromtimestamp(record.created, datetime.UTC)
    fields: dict[str, Any] = {
        "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "process": process,
        "part": record.name.removeprefix(f"{ROOT}."),
        "message": _clean(str(record.msg)),
    }
    given: dict[str, Any] = getattr(record, "fields", {})
    if record.exc_info and record.exc_info[1] is not None:
        given = {**given, **_of_exception(record.exc_info[1])}
    fields.update((name, _clean(value)) for name, value in given.items() if name in FIELDS)
    if hidden := sorted(name for name in given if name not in FIELDS):
        fields["withheld"] = hidden
    return fields


def _clean(value: Any) -> Any:
    """A number as it is; text without control characters, cut; anything else by the name of its type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if not isinstance(value, str):
        return type(value).__name__
    text = value if len(value) <= LONGEST else value[:LONGEST] + "…"
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)


class _Json(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        return msgspec.json.encode(to_fields(record, self._process)).decode()


class _Text(logging.Formatter):
    """`2026-01-31T06:00:00.000Z info  edge  message  key=value`"""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        fields = to_fields(record, self._process)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {fields.pop('process'):<10} "
        fields.pop("part")
        return head + str(fields.pop("message")) + "".join(f"  {name}={value}" for name, value in fields.items())
