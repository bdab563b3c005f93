"""The error tree, and the codes that callers of the HTTP API see.

CollectorError                    anything we raise on purpose
├── ConfigError                   exit code 2; carries every fault found
├── StorageError                  exit code 3 / HTTP 503 storage_unavailable
│   ├── SchemaTooNew              the data directory was written by a newer release
│   ├── Damaged                   rows or pages of the database are lost or unreadable
│   ├── Unavailable               it passes by itself: the same may work in a moment
│   ├── NoStore, NoSchema         nothing has been stored yet
│   ├── TooSlow                   a question went past its deadline and was given up
└── ApiError                      one refused request or batch item, in the contract's shape
"""

from __future__ import annotations

import os
import pwd
import stat
from typing import Final

# code -> HTTP status; the whole table of the contract.
STATUS_OF: Final[dict[str, int]] = {
    "missing_required_field": 400,
    "invalid_fbclid": 400,
    "invalid_currency": 400,
    "invalid_field": 400,
    "invalid_json": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "origin_not_allowed": 403,
    "store_not_found": 404,
    "not_found": 404,
    "method_not_allowed": 405,
    "order_conflict": 409,
    "idempotency_conflict": 409,
    "payload_too_large": 413,
    "unsupported_media_type": 415,
    "rate_limit_exceeded": 429,
    "internal_error": 500,
    "storage_unavailable": 503,
}


class CollectorError(Exception):
    """Anything the collector raises on purpose; its text is meant for people and holds no personal data."""


class ConfigError(CollectorError):
    """The configuration cannot be used; `faults` lists every fault found, one sentence each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StorageError(CollectorError):
    """The data directory or the database cannot be used; nothing was accepted."""


class SchemaTooNew(StorageError):
    """The database was written by a newer release than this one."""


class Damaged(StorageError):
    """The database is damaged, or has lost what was acknowledged; the text says what to do."""


class Unavailable(StorageError):
    """A database that is locked, full or failed over for the moment; the same may work in a moment."""


class NoStore(StorageError):
    """There is no database yet: no edge has started on this data directory."""


class NoSchema(NoStore):
    """The database has no tables yet."""


class TooSlow(StorageError):
    """A question went past its deadline and was given up."""


class ApiError(CollectorError):
    """A refused request: `code` of the contract, a message for people, the field it is about."""

    def __init__(
        self, code: str, message: str, field: str | None = None, *, headers: list[tuple[bytes, bytes]] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        # The number of the order that it refused (core/refused.py); empty: none, or none that may be kept.
        self.order: str | None = None
        self.headers = headers or []  # that its HTTP answer carries beside the usual ones

    @property
    def status(self) -> int:
        return STATUS_OF[self.code]


def why(error: OSError, path: object) -> str:
    """Why a file or folder cannot be used, in words; where it is a matter of rights, whose it is and who is running."""
    text = error.strerror or type(error).__name__
    return f"{text}; {_rights(os.fspath(str(path)))}" if isinstance(error, PermissionError) else text


def _rights(path: str) -> str:
    """`/srv/data belongs to collector (mode 0700), and this runs as www-data`: of the path, or of what is above it."""
    path = os.path.abspath(path)
    while True:
        try:
            status = os.stat(path)
            break
        except OSError:
            if path == (path := os.path.dirname(path)):
                return f"this runs as {user(os.geteuid())}"
    mode = stat.S_IMODE(status.st_mode)
    return f"{path} belongs to {user(status.st_uid)} (mode {mode:04o}), and this runs as {user(os.geteuid())}"


def user(uid: int) -> str:
    """A user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
