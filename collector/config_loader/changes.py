"""Which settings differ between two configurations? Their names, never their values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from collector.config import Config


def changed(old: Config, new: Config) -> list[str]:
    """`meta.mode`, `store.shop_1.domains`: the settings that were changed, in the order of the file."""
    return list(dict.fromkeys(_differences(old, new, "")))


def _differences(old: Any, new: Any, name: str) -> Iterator[str]:
    if old == new:
        return
    if isinstance(new, Struct) and isinstance(old, Struct):
        for info in msgspec.structs.fields(new):
            if (inner := f"{name}.{info.name}" if name else info.name) != "path":
                yield from _differences(getattr(old, info.name), getattr(new, info.name), inner)
    elif isinstance(new, list) and any(isinstance(one, Struct) for one in (*old, *new)):
        before, after = ({one.id: one for one in side} for side in (old, new))
        for known in (*after, *(key for key in before if key not in after)):
            yield from _differences(before.get(known), after.get(known), f"{name}.{known}")
    else:
        yield name
