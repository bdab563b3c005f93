"""A Debian package of the binary that runs: the program, its completion and its licences, and no service yet.

What the service needs depends on a configuration, so `collector install` makes it afterwards, as without a package. An
upgrade (`apt install ./collector.deb`) replaces the program, and `systemctl restart collector` has it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import collector
from collector.cli import inside
from collector.cli.completion import bash, words_of
from collector.cli.installing import program
from collector.cli.parser import build_parser
from collector.errors import CollectorError, why
from collector.process.unpacked import foreign_environment

_CONTROL: Final = """\
Package: collector
Version: {version}
Architecture: {architecture}
Maintainer: Collector's maintainers <root@localhost>
Section: web
Priority: optional
Depends: libc6 (>= 2.35), zlib1g
Description: self-hosted edge collector for Meta ads
 Takes clicks and orders on the shop's own domain, finds which click led to
 which order, and delivers them to Meta's Conversions API.
"""


def build(target: Path) -> None:
    """Write the package; CollectorError where this is no binary, or no dpkg-deb is here."""
    if not program.is_binary():
        raise CollectorError(
            "--deb: a package is made of the binary; this runs from Python (README, Building the one file)"
        )
    if shutil.which("dpkg-deb") is None:
        raise CollectorError("--deb: dpkg-deb is missing; run this on Debian or Ubuntu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "collector"
        try:
            stage(root, Path(sys.executable).resolve())
        except OSError as error:
            raise CollectorError(f"--deb: {why(error, error.filename)}") from None
        made = (
            Path(folder) / "collector.deb"
        )  # gzip: xz takes twelve times as long and gains 3 % of what is packed already
        words = ["dpkg-deb", "--build", "--root-owner-group", "-Zgzip", str(root), str(made)]
        ended = subprocess.run(words, capture_output=True, text=True, check=False, env=foreign_environment())
        if ended.returncode != 0:
            raise CollectorError(f"--deb: {ended.stderr.strip().splitlines()[-1]}")
        try:
            program.put_file(made, target)
            target.chmod(0o644)
        except OSError as error:
            raise CollectorError(f"--deb: cannot write {target}: {why(error, target)}") from None


def stage(root: Path, executable: Path) -> None:
    """The package's tree."""
    target = root / "usr/bin/collector"
    target.parent.mkdir(mode=0o755, parents=True)
    if program.is_folder(executable):
        shutil.copytree(executable.parent, root / "usr/lib/collector")
        target.symlink_to(f"../lib/collector/{executable.name}")
    else:
        program.put_file(executable, target)
    _write(root / "usr/share/bash-completion/completions/collector", bash(words_of(build_parser())))
    _write(root / "usr/share/doc/collector/copyright", inside.licences(inside.parts()))
    words = ["dpkg", "--print-architecture"]
    asked = subprocess.run(words, capture_output=True, text=True, check=True, env=foreign_environment())
    _write(root / "DEBIAN/control", _CONTROL.format(version=collector.__version__, architecture=asked.stdout.strip()))
    for here, folders, _ in os.walk(root):
        for name in ("", *folders):
            os.chmod(os.path.join(here, name), 0o755)  # noqa: S103  a package's folders are everybody's to read


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
