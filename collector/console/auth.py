"""Who may see the console: the password, sessions, the log-in's limits, and what each request must prove.

Without a password the console serves only a loopback address, and only to requests that name it so in their Host
header: a page elsewhere could otherwise reach it by pointing its own name at 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections import OrderedDict, deque
from dataclasses import dataclass
from hashlib import blake2b, scrypt, sha256
from typing import Final

from collector.config import ConsoleConfig
from collector.config_loader.checks import parse_listen
from collector.errors import ConfigError

# OWASP's scrypt profile: 128 MiB and about 0.3 s for each guess.
_LOG_N, _R, _P = 17, 8, 1
_SALT_BYTES, _HASH_BYTES = 16, 32
_MAX_LOG_N: Final = 20
_IDLE_MS: Final = 3_600_000
_SESSIONS_MAX: Final = 256
_PER_ADDRESS, _PER_ALL, _MINUTE_MS = 5, 20, 60_000
_ADDRESSES_MAX: Final = 4096


def hash_password(password: str) -> str:
    """`scrypt$17$8$1$salt$hash`, for `[console] password_hash`."""
    salt = secrets.token_bytes(_SALT_BYTES)
    digest = _scrypt(password, salt, _LOG_N, _R, _P, _HASH_BYTES)
    return f"scrypt${_LOG_N}${_R}${_P}${b64encode(salt).decode()}${b64encode(digest).decode()}"


def verify_password(password: str, stored: str) -> bool:
    """Whether `password` is the one behind `stored`; in constant time for a well-formed hash."""
    log_n, r, p, salt, digest = _parsed(stored)
    return hmac.compare_digest(_scrypt(password, salt, log_n, r, p, len(digest)), digest)


def _scrypt(password: str, salt: bytes, log_n: int, r: int, p: int, length: int) -> bytes:
    memory = 128 * r * (2**log_n + p + 2)
    return scrypt(password.encode(), salt=salt, n=2**log_n, r=r, p=p, maxmem=memory + (1 << 20), dklen=length)


def _parsed(stored: str) -> tuple[int, int, int, bytes, bytes]:
    try:
        scheme, log_n, r, p, salt, digest = stored.split("$")
        numbers = int(log_n), int(r), int(p)
        if scheme != "scrypt" or not (
            10 <= numbers[0] <= _MAX_LOG_N and 1 <= numbers[1] <= 32 and 1 <= numbers[2] <= 16
        ):
            raise ValueError
        return *numbers, b64decode(salt, validate=True), b64decode(digest, validate=True)
    except (ValueError, Base64Error) as error:
        raise ConfigError(
            ["[console] password_hash: not a scrypt hash of ours; make one with `collector config hash-password`"]
        ) from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(listen: str) -> str:
    try:
        return parse_listen(listen)[0]
    except ValueError as error:
        raise ConfigError([f"[console] listen: {error}"]) from error


def check_access(config: ConsoleConfig) -> None:
    """Raise ConfigError when the console would be open to others without a password."""
    host = _host_of(config.listen)
    if config.password_hash:
        _parsed(config.password_hash)
    elif not is_loopback(host):
        raise ConfigError(
            [
                f"[console] listen: {config.listen!r} can be reached by others and no password_hash is set; "
                "set one (collector config hash-password) or listen on 127.0.0.1"
            ]
        )


@dataclass(slots=True)
class Session:
    """One log-in. Times are ms of the boot-time clock, which nobody sets."""

    made: int
    seen: int


class Sessions:
    """Log-ins by the hash of their token: who reads our memory or logs cannot be them. Forgotten at a restart."""

    def __init__(self, hours: int) -> None:
        self._absolute_ms = hours * 3_600_000
        self._secret = secrets.token_bytes(32)
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def open(self, now: int) -> str:
        """A new session's token, 256 bits; the oldest session goes when there are too many."""
        token = secrets.token_urlsafe(32)
        self._sessions[sha256(token.encode()).digest()] = Session(now, now)
        while len(self._sessions) > _SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return token

    def is_open(self, token: str, now: int) -> bool:
        """Whether the token's session lives; being asked keeps it from idling out."""
        key = sha256(token.encode()).digest()
        session = self._sessions.get(key)
        if session is None:
            return False
        if now - session.made > self._absolute_ms or now - session.seen > _IDLE_MS:
            del self._sessions[key]
            return False
        session.seen = now
        return True

    def close(self, token: str) -> None:
        """End a session."""
        self._sessions.pop(sha256(token.encode()).digest(), None)

    def form_token(self, cookie: str) -> str:
        """What a form must carry to be ours: a page elsewhere can send the cookie, but cannot read it."""
        return blake2b(cookie.encode(), key=self._secret, digest_size=24).hexdigest()

    def is_ours(self, cookie: str, form_token: str) -> bool:
        """Whether a form was made for this cookie."""
        return bool(cookie) and hmac.compare_digest(self.form_token(cookie), form_token)


class Attempts:
    """At most five log-ins a minute from one address and twenty in all."""

    def __init__(self) -> None:
        self._all: deque[int] = deque()
        self._of: OrderedDict[str, deque[int]] = OrderedDict()

    def allow(self, address: str, now: int) -> bool:
        """Count one try; False when there were too many."""
        own = self._of.setdefault(address, deque())
        self._of.move_to_end(address)
        while len(self._of) > _ADDRESSES_MAX:
            self._of.popitem(last=False)
        for tries in (own, self._all):
            while tries and tries[0] <= now - _MINUTE_MS:
                tries.popleft()
        if len(own) >= _PER_ADDRESS or len(self._all) >= _PER_ALL:
            return False
        own.append(now)
        self._all.append(now)
        return True


class TooMany(Exception):
    """Too many guesses in a minute: not even the right one is looked at."""


class Password:
    """Checks guesses off the event loop, one at a time: each takes 128 MiB. Forms and scrapers share the limits."""

    def __init__(self, stored: str, attempts: Attempts) -> None:
        self._stored = stored
        self._attempts = attempts
        self._one = asyncio.Semaphore(1)
        self._known: bytes | None = None  # of the last right guess, so that a scraper costs one scrypt and not many
        self._key = secrets.token_bytes(32)

    async def accepts(self, guess: str, address: str, now: int, *, known: bool = False) -> bool:
        """Whether the guess is right; raises TooMany. With `known`, the last right guess passes uncounted."""
        if known and self._remembers(guess):
            return True
        if not self._attempts.allow(address, now):
            raise TooMany
        async with self._one:
            if not await asyncio.to_thread(verify_password, guess, self._stored):
                return False
        self._known = self._mark(guess)
        return True

    def _remembers(self, guess: str) -> bool:
        return self._known is not None and hmac.compare_digest(self._known, self._mark(guess))

    def _mark(self, guess: str) -> bytes:
        return blake2b(guess.encode(), key=self._key).digest()
