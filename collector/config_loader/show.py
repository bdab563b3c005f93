"""What does `config show` print? Every key in force with its value and origin, secrets masked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from collector.config import Config
from collector.config_loader.decode import NOT_KEYS
from collector.config_loader.faults import DEFAULT, Origin, Path
from collector.config_loader.secret_files import is_secret

MASK = "********"


class Row(Struct, frozen=True):
    key: str
    value: Any
    origin: str


def rows(config: Config, origins: Mapping[Path, Origin]) -> list[Row]:
    """One row for each key, in the order of the sections; a list of tables is numbered: `store.0.id`."""
    return [
        Row(".".join(map(str, path)), _masked(path, value), origins.get(path, DEFAULT).text)
        for path, value in _leaves(config, ())
    ]


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, Struct):
        for info in msgspec.structs.fields(value):
            if path or info.name not in NOT_KEYS:
                yield from _leaves(getattr(value, info.name), (*path, info.name))
    elif isinstance(value, list) and value and isinstance(value[0], Struct):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _masked(path: Path, value: Any) -> Any:
    if not is_secret(path) or not value:
        return value
    return dict.fromkeys(value, MASK) if isinstance(value, dict) else MASK
