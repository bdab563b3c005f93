"""Every command under every bad condition: one sentence or two, an exit code of the contract, never a traceback.

The commands and what they are told come from the parser itself (kit/typed.py), the conditions from kit/bad_places.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from collector.cli.parser import build_parser
from tests.kit import typed
from tests.kit.bad_places import (
    ANY,
    CONDITIONS,
    OF_A_FILE,
    OF_PEOPLE,
    OF_THE_CONFIGURATION,
    OF_THE_DATA,
    Case,
    Condition,
    make_sound,
)
from tests.kit.forked import CLOSED, How, Run, forks

pytestmark = pytest.mark.slow

PARSERS: Final = typed.parsers()
# What is wrong is their answer, on stdout or in a file; and with which code.
SPEAKS_ITSELF: Final[dict[str, set[int]]] = {"doctor": {1}, "send-test": {4}, "import": {1}}
HOSTILE: Final = ("", "-1", "nan", "9" * 400, "a\nb", "../x", "\udcff", "🦊", "2026-13-45", "=,=", "%s{0}")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """Short enough for a socket's name, and open to other users: pytest's own folder is neither."""
    folder = Path(tempfile.mkdtemp(prefix="bad", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sound(place: Path) -> Path:
    folder = place / "sound"
    folder.mkdir()
    make_sound(folder)
    return folder


@pytest.fixture(scope="module")
def forked(place: Path) -> Iterator[Run]:
    (place / "forks").mkdir()
    with forks(place / "forks") as run:
        yield run


@pytest.fixture
def spoilable(place: Path, sound: Path) -> Iterator[Path]:
    folder = place / "case"
    shutil.copytree(sound, folder)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def disk(place: Path) -> Iterator[Path]:
    """A file system of 16 MiB."""
    folder = place / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder]
    if os.geteuid() != 0 or subprocess.run(words, capture_output=True).returncode != 0:
        folder.rmdir()
        pytest.skip("a file system cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)
    folder.rmdir()


def faults_of(name: str, condition: Condition, ended: tuple[int, str, str]) -> Iterator[str]:
    """What of an end is not as promised."""
    code, _, err = ended
    if code not in ANY:
        yield f"{name}: exit {code}: {err[-300:]}"
    elif typed.takes_configuration(PARSERS[name]) and code not in condition.codes | (
        {1} if name in SPEAKS_ITSELF else set()
    ):
        yield f"{name}: exit {code}, not one of {sorted(condition.codes)}: {err[-300:]}"
    if "Traceback" in err or ", line " in err or "fault of the collector" in err or "Exception ignored" in err:
        yield f"{name}: a traceback: {err[-900:]}"
    silent = condition.how.stdout == "|" or condition.how.stderr == CLOSED or name in SPEAKS_ITSELF
    if code and not err.strip() and not silent:
        yield f"{name}: exit {code} and not a word"


def run(name: str, parser: argparse.ArgumentParser, folder: Path, how: How, forked: Run) -> tuple[int, str, str]:
    ends_by = (signal.SIGINT if name == "tail" else signal.SIGTERM) if name in typed.RUN_ON else 0
    return forked(typed.words(name, parser, folder), folder, how, ends_by)


def test_what_is_typed_is_taken_by_the_parser_of_every_command() -> None:
    assert len(CONDITIONS) >= 60
    for name, parser in PARSERS.items():
        build_parser().parse_args(typed.words(name, parser, Path("/f")))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_a_bad_condition_is_a_sentence_and_a_code(
    condition: str, sound: Path, forked: Run, request: pytest.FixtureRequest
) -> None:
    spoilt = CONDITIONS[condition]
    if condition in OF_PEOPLE and os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    folder = request.getfixturevalue("disk" if spoilt.disk else "spoilable")
    faults: list[str] = []
    well = False  # serve was ready and drained: then its parts are too, and take as long again
    for name, parser in PARSERS.items():
        if not touches(condition, name, parser) or (well and name in ("keeper", "courier", "console")):
            continue
        shutil.copytree(sound, folder, dirs_exist_ok=True)
        spoilt.plant(Case(folder))
        ended = run(name, parser, folder, spoilt.how, forked)
        well = well or (name == "serve" and ended[0] == 0)
        faults += faults_of(name, spoilt, ended)
        clear(folder, mounted=spoilt.disk)
    assert not faults, "\n".join(faults)


def touches(condition: str, name: str, parser: argparse.ArgumentParser) -> bool:
    """Whether the command meets at all what is spoilt."""
    if condition in OF_A_FILE:
        return typed.takes_a_file(parser)
    if condition in OF_THE_CONFIGURATION or condition in OF_THE_DATA:
        return typed.takes_configuration(parser)
    # Without standard error nobody is told that it is there: nothing says when it may be ended.
    return not (condition == "no standard error" and name in typed.RUN_ON)


def clear(folder: Path, *, mounted: bool) -> None:
    if not mounted:
        shutil.rmtree(folder)
        return
    subprocess.run(["mount", "-o", "remount,rw", folder], check=True)
    for one in folder.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


@pytest.mark.parametrize("name", sorted(PARSERS.keys() - typed.RUN_ON))
def test_a_hostile_word_is_a_sentence_and_a_code(name: str, spoilable: Path, forked: Run) -> None:
    """As every value of every option and argument."""
    folder = spoilable
    faults: list[str] = []
    for action in typed.valued(PARSERS[name]):
        for word in HOSTILE:
            words = typed.words(name, PARSERS[name], folder)
            words += [f"{action.option_strings[0]}={word}"] if action.option_strings else [word]
            ended = forked(words, folder)
            faults += (f"{word!r}: {fault}" for fault in faults_of(name, Condition(), ended))
    assert not faults, "\n".join(faults)


def test_control_a_command_that_breaks_is_seen(sound: Path, forked: Run) -> None:
    ended = run("status", PARSERS["status"], sound, How(breaks="collector.cli.status:status"), forked)
    assert any("a traceback" in fault for fault in faults_of("status", Condition(), ended))
    assert list(faults_of("status", Condition(), (-9, "", "killed")))
    assert list(faults_of("status", Condition(codes=frozenset({2})), (1, "", "no")))
    assert list(faults_of("status", Condition(), (1, "", "")))
    assert list(faults_of("status", Condition(), run("status", PARSERS["status"], sound, How(), forked))) == []
