"""Which program is this: its version, and the git revision that the binary was built from?"""

from __future__ import annotations

from importlib import resources

import collector

_REVISION = "revision.txt"  # put into the binary by build.spec


def revision() -> str | None:
    """The git revision that this was built from; None from a checkout, which nobody asks at run time."""
    baked = resources.files("collector").joinpath(_REVISION)
    return baked.read_text(encoding="ascii").strip() or None if baked.is_file() else None


def name() -> str:
    """What two processes compare to know that they are of one program."""
    return f"{collector.__version__} {revision() or ''}"
