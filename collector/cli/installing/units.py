"""The units of systemd, each closed as far as its process allows: texts, and nothing is written here."""

from __future__ import annotations

import shlex
from importlib import resources
from typing import Final

from msgspec import Struct

_ASSETS: Final = "assets"
_ALL: Final = "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX"
# Behind a proxy on this machine, edge and console speak to nobody else, and the keeper to nobody at all.
_LOCAL: Final = f"{_ALL}\nIPAddressDeny=any\nIPAddressAllow=localhost"
_SPLIT: Final = {
    "keeper": "RestrictAddressFamilies=AF_UNIX\nPrivateNetwork=yes\nIPAddressDeny=any",
    "edge": _LOCAL,
    "courier": _ALL,
    "console": _LOCAL,
}


class Place(Struct, frozen=True, kw_only=True):
    """Where everything lies. `writes`: the folders that the service may write."""

    program: str
    config: str
    user: str
    writes: tuple[str, ...]
    backups: str = ""  # where a timer puts them; empty: the courier makes them, or nobody


def text(name: str) -> str:
    """A file of the package, as it stands."""
    return resources.files("collector.cli").joinpath(_ASSETS, name).read_text(encoding="utf-8")


def units(place: Place, *, split: bool = False) -> dict[str, str]:
    """The units by their file's name."""
    if split:
        made = {f"collector-{part}.service": _service(place, part, network) for part, network in _SPLIT.items()}
    else:
        made = {"collector.service": _service(place, "serve", _ALL)}
    if place.backups:
        made["collector-backup.service"] = _filled(text("collector-backup.service"), place)
        made["collector-backup.timer"] = text("collector-backup.timer")
    return made


def _service(place: Place, part: str, network: str) -> str:
    what = "Collector for Meta ads" if part == "serve" else f"Collector for Meta ads: {part}"
    return _filled(text("collector.service"), place, description=what, part=part, network=network)


def _filled(template: str, place: Place, **more: str) -> str:
    words = {name: _quoted(getattr(place, name)) for name in ("program", "config", "user", "backups")}
    return template.format(**words, writes=" ".join(map(_quoted, place.writes)), **more)


def _quoted(word: str) -> str:
    """A word of a unit's line: % and $ stand for themselves only when they are doubled (systemd.unit(5))."""
    plain = word.replace("%", "%%").replace("$", "$$")
    return plain if plain == shlex.quote(plain) else '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
