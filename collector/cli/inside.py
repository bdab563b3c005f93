"""What is inside this program: every library, Python and SQLite, with version, licence and its text."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from importlib import metadata, resources
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

import collector
from collector.errors import CollectorError
from collector.storage.ground.library import sqlite_version

BAKED: Final = "inside.json"  # put into the binary by build.spec
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TEXTS: Final = re.compile(r"(?i)(^|/)(licen[cs]e|copying|notice|copyright)[^/]*(/[^/]+)?$")
_MOST_BYTES: Final = 200_000  # of one text
_SQLITE: Final = "SQLite is in the public domain: https://sqlite.org/copyright.html\n"


class Part(Struct, frozen=True):
    """A library. `purl`: its name as other programs know it; `texts`: what it asks to be told with it."""

    name: str
    version: str
    licence: str
    purl: str
    texts: list[str] = []


def parts() -> list[Part]:
    """All parts, by name; CollectorError where the program was neither installed nor built, so that nobody knows."""
    baked = resources.files("collector").joinpath(BAKED)
    if baked.is_file():
        return msgspec.json.decode(baked.read_bytes(), type=list[Part])
    try:
        names = needed("collector")
    except metadata.PackageNotFoundError:
        raise CollectorError("this runs from a folder of sources: install it, and what is inside is known") from None
    return of_names(names)


def of_names(names: Iterable[str]) -> list[Part]:
    """Those distributions, with Python and SQLite."""
    found = [_of_distribution(metadata.distribution(name)) for name in sorted(set(names))]
    return [*sorted(found, key=lambda part: part.name.lower()), _python(), _sqlite()]


def needed(name: str) -> set[str]:
    """What a distribution needs to run, and what that needs, as far as it is installed here."""
    seen: set[str] = set()
    due = list(_requirements(metadata.distribution(name)))
    while due:
        one = due.pop()
        try:
            distribution = metadata.distribution(one)
        except metadata.PackageNotFoundError:  # for another system
            continue
        if one not in seen:
            seen.add(one)
            due += _requirements(distribution)
    return seen


def _requirements(distribution: metadata.Distribution) -> Iterator[str]:
    for line in distribution.requires or ():
        if "extra ==" not in line and (name := _NAME.match(line)):
            yield name[0].lower().replace("_", "-")


def _of_distribution(distribution: metadata.Distribution) -> Part:
    about = distribution.metadata
    name = about["Name"]
    return Part(
        name, distribution.version, _licence_of(about), f"pkg:pypi/{name.lower()}@{distribution.version}",
        [*_texts_of(distribution)],
    )  # fmt: skip


def _licence_of(about: Any) -> str:
    told = about.get("License-Expression") or (about.get("License") or "").strip().partition("\n")[0][:80]
    lines = [line for line in about.get_all("Classifier") or () if line.startswith("License ::")]
    classes = [line.rpartition(" :: ")[2] for line in lines]
    return told or ", ".join(classes) or "see its text"


def _texts_of(distribution: metadata.Distribution) -> Iterator[str]:
    for file in distribution.files or ():
        if ".dist-info/" in str(file) and _TEXTS.search(str(file)):
            path = Path(str(distribution.locate_file(file)))
            if path.is_file() and path.stat().st_size <= _MOST_BYTES:
                yield path.read_text(encoding="utf-8", errors="replace")


def _python() -> Part:
    version = sys.version.partition(" ")[0]
    own, debian = Path(sysconfig.get_path("stdlib")) / "LICENSE.txt", f"/usr/share/doc/python3.{sys.version_info[1]}"
    places = (own, Path(debian, "copyright"))
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in places if path.is_file()]
    return Part("Python", version, "PSF-2.0", f"pkg:generic/python@{version}", texts[:1])


def _sqlite() -> Part:
    version = sqlite_version()
    return Part("SQLite", version, "blessing", f"pkg:generic/sqlite@{version}", [_SQLITE])


def licences(found: list[Part]) -> str:
    """Each part with its texts, for people."""
    blocks = [f"{part.name} {part.version} — {part.licence}\n\n{''.join(part.texts).strip()}".strip() for part in found]
    line = "\n\n" + "=" * 80 + "\n\n"
    return line.join(blocks) + "\n"


def sbom(found: list[Part]) -> dict[str, Any]:
    """CycloneDX 1.6: https://cyclonedx.org/docs/1.6/json/."""
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": _component("collector", collector.__version__, "Apache-2.0", "application")},
        "components": [
            {**_component(part.name, part.version, part.licence, "library"), "purl": part.purl} for part in found
        ],
    }


def _component(name: str, version: str, licence: str, kind: str) -> dict[str, Any]:
    licences = [{"license": {"name": licence}}]
    return {"type": kind, "bom-ref": f"{name}@{version}", "name": name, "version": version, "licenses": licences}
