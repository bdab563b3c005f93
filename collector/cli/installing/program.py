"""Where does the binary go? One file to its place; a folder into one of its version's own, and a link to it.

What runs goes on: a running file is not written but replaced, and the folder that a running program reads is left, as
is the one before, until the next but one is put in place.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path
from typing import Final

from collector import release

_KEPT: Final = 2  # folders: the one that the link names, and the one before


def is_binary() -> bool:
    return bool(getattr(sys, "frozen", False))


def is_folder(executable: Path) -> bool:
    """Whether it is a folder build, whose libraries lie beside it."""
    return Path(str(getattr(sys, "_MEIPASS", ""))).parent == executable.parent


def own_place() -> str:
    """Where this program is to be: where a package or a person has put it for all, else in /usr/local/bin."""
    here = str(Path(sys.executable).resolve())
    return here if is_binary() and here.startswith(("/usr/", "/opt/")) else "/usr/local/bin/collector"


def is_there(target: str) -> bool:
    """Whether what runs here is what stands there."""
    return Path(sys.executable).resolve() == Path(target).resolve()


def put(target: str) -> None:
    """This program at `target`; OSError says what could not be written."""
    executable = Path(sys.executable).resolve()
    if is_folder(executable):
        put_folder(executable, Path(target))
    else:
        put_file(executable, Path(target))


def put_file(source: Path, target: Path) -> None:
    """Beside it and then in its place: a running program's file cannot be written (ETXTBSY)."""
    partial = target.with_name(f"{target.name}.new")
    shutil.copyfile(source, partial)
    partial.chmod(0o755)
    partial.replace(target)


def put_folder(executable: Path, target: Path) -> None:
    """`/usr/local/bin/collector` becomes a link into `/usr/local/lib/collector/VERSION`."""
    home = target.parent.parent / "lib" / "collector"
    folder = home / re.sub(r"[^\w.+-]+", "-", release.name().strip())
    home.mkdir(mode=0o755, parents=True, exist_ok=True)
    partial, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    shutil.copytree(executable.parent, partial)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)
    os.utime(folder)
    link = target.with_name(f"{target.name}.new")
    link.unlink(missing_ok=True)
    link.symlink_to(folder / executable.name)
    link.replace(target)
    shutil.rmtree(old, ignore_errors=True)
    for stale in sorted(home.iterdir(), key=lambda one: one.stat().st_mtime, reverse=True)[_KEPT:]:
        shutil.rmtree(stale, ignore_errors=True)
