"""The units of systemd, each closed as far as its process allows: texts, and nothing is written here."""

from __future__ import annotations

import shlex
from importlib import resources
from typing import Final

from msgspec import Struct

from collector.errors import ConfigError

BACKUPS: Final = "/var/backups/collector"  # of the timer, where [backup] dir names none
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
    public: bool = False  # the edge is reached from other machines: no proxy stands before it on this one
    over_postgres: bool = False  # keeper and console speak to it
    low_port: bool = False  # its port is below 1024, which only root may take


def text(name: str) -> str:
    """A file of the package, as it stands."""
    return resources.files("collector.cli").joinpath(_ASSETS, name).read_text(encoding="utf-8")


def units(place: Place, *, split: bool = False) -> dict[str, str]:
    """The units by their file's name."""
    if split:
        networks = {**_SPLIT, "edge": _ALL if place.public else _LOCAL}
        if place.over_postgres:
            networks["keeper"] = networks["console"] = _ALL
        made = {f"collector-{part}.service": _service(place, part, network) for part, network in networks.items()}
    else:
        made = {"collector.service": _service(place, "serve", _ALL)}
    if place.backups:
        made["collector-backup.service"] = _filled(text("collector-backup.service"), place)
        made["collector-backup.timer"] = text("collector-backup.timer")
    return made


def _service(place: Place, part: str, network: str) -> str:
    what = "Collector for Meta ads" if part == "serve" else f"Collector for Meta ads: {part}"
    port = "CAP_NET_BIND_SERVICE" if place.low_port and part in ("serve", "edge") else ""
    return _filled(text("collector.service"), place, description=what, part=part, network=network, capability=port)


def _filled(template: str, place: Place, **more: str) -> str:
    if {*"\\\"'"} & {*place.program}:
        raise ConfigError(
            [f"{place.program}: systemd starts no program with a quote or backslash in its path; move it"]
        )
    program, config, backups = map(_quoted, (place.program, place.config, place.backups))
    words = {"config": config.replace("$", "$$"), "backups": backups.replace("$", "$$"), "user": _plain(place.user)}
    return template.format(**words, program=program, writes=" ".join(map(_quoted, place.writes)), **more)


def _plain(word: str) -> str:
    """% stands for itself only when it is doubled; so does $, but in arguments alone.

    systemd.unit(5), systemd.service(5). A line ends where it ends, whatever is quoted.
    """
    if any(character < " " or character == "\x7f" for character in word):
        raise ConfigError([f"{word!r}: a unit takes no path with a control character; choose another folder"])
    return word.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of a unit's line; a user's name is none, and would keep its quotes."""
    plain = _plain(word)
    return plain if plain == shlex.quote(plain) else '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
