"""Where does each pixel's queue go: to which Graph, with which token, under which test code while that lasts?"""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha256

from msgspec import Struct

from collector.config import Config, MetaConfig


class Target(Struct, frozen=True):
    """A pixel as the configuration has it now. The secrets are left out of its repr."""

    pixel: str
    base: str = ""  # Graph's address with the version
    token: str = ""
    app_secret: str = ""
    test_code: str | None = None
    test_code_until: int = 0  # ms

    def __repr__(self) -> str:
        return f"Target(pixel={self.pixel!r})"

    @property
    def way_hash(self) -> bytes:
        """A short name for all that a refusal of the call may be about, to tell whether any of it was changed."""
        return sha256("\n".join((self.base, self.token, self.app_secret)).encode()).digest()[:8]

    def code_at(self, now: int) -> str | None:
        """The test_event_code while it is valid. Left on, test traffic counts as real, so it has an end."""
        return self.test_code if self.test_code and now < self.test_code_until else None


def base_of(meta: MetaConfig) -> str:
    """Graph's address with the version, as every request's path begins."""
    return f"{meta.graph_url.rstrip('/')}/{meta.api_version}"


def targets_of(config: Config) -> dict[str, Target]:
    """Every pixel of every active store; of a pixel in two stores, the one that has a token."""
    found: dict[str, Target] = {}
    for store in config.store:
        for pixel in store.pixel if store.active else []:
            target = Target(
                pixel.id,
                base_of(config.meta),
                pixel.access_token,
                config.meta.app_secret,
                pixel.test_event_code or None,
                _milliseconds(pixel.test_event_code_expires),
            )
            if pixel.id not in found or not found[pixel.id].token:
                found[pixel.id] = target
    return found


def _milliseconds(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return 0
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
