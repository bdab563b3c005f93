"""Which certificate do the edges serve with, and is there a newer one in its files?"""

from __future__ import annotations

import time
from typing import Final

from collector import certificate, telemetry
from collector.certificate import Pair
from collector.config import EdgeConfig
from collector.core import certificates
from collector.errors import ConfigError

LOOK_SECONDS: Final = 3600.0  # a renewed certificate is in force within the hour, also where nobody sends SIGHUP
_DAY_LOOKS: Final = 24  # what is wrong with it is told once a day

log = telemetry.logger("supervisor")


class Certificate:
    """The pair in force under a supervisor that has edges; `pair` is None where TLS is off."""

    def __init__(self, edge: EdgeConfig | None) -> None:
        self.pair = read(edge)
        self._look_at = time.monotonic() + LOOK_SECONDS
        self._looks = 0

    def take(self, pair: Pair | None) -> bool:
        """Put it in force; whether it is another one."""
        changed, self.pair = pair != self.pair, pair
        return changed

    def seconds_left(self) -> float | None:
        """Until the files are to be looked at again; None where there are none."""
        return None if self.pair is None else max(0.0, self._look_at - time.monotonic())

    def renewed(self, edge: EdgeConfig) -> bool:
        """Once the hour is over: whether the files hold another pair, which is in force from now on.

        Files that cannot be used leave the old one in force, and the log says why; so it does of one that ends.
        """
        if self.seconds_left() != 0.0:
            return False
        self._look_at = time.monotonic() + LOOK_SECONDS
        tell, self._looks = self._looks % _DAY_LOOKS == 0, self._looks + 1
        try:
            changed = self.take(read(edge))
        except ConfigError as error:
            changed = False
            if tell:
                log.error("the certificate's files cannot be used, the old one stays", fault=str(error))
        if self.pair is not None and (tell or changed):
            doubt = certificates.doubt(certificate.valid_of(self.pair), time.time_ns() // 1_000_000)
            if doubt is not None:
                log.warning("the certificate is to be renewed", reason=doubt)
        return changed


def read(edge: EdgeConfig | None) -> Pair | None:
    """As `certificate.of`; ConfigError where a file cannot be used."""
    try:
        return certificate.of(edge) if edge is not None else None
    except certificate.Unusable as unusable:
        raise ConfigError([f"[edge] {unusable.setting}: {unusable}"]) from None
