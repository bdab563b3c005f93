"""The documents keep up with the code: every setting, command and metric is described, every example loads."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
import typing
from importlib import metadata
from pathlib import Path

import msgspec
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from collector.cli.commands import COMMANDS
from collector.config import Config, EdgeConfig
from collector.config_loader import load
from collector.edge import openapi
from tests.kit import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "config.example.toml"
README = (ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else ""


def keys(type_: type[msgspec.Struct], path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for info in msgspec.structs.fields(type_):
        (item,) = typing.get_args(info.type) if typing.get_origin(info.type) is list else (info.type,)
        if isinstance(item, type) and issubclass(item, msgspec.Struct):
            found += keys(item, (*path, info.name))
        elif path:
            found.append((*path, info.name))
    return found


@pytest.fixture
def example(tmp_path: Path) -> Config:
    (tmp_path / "collector.toml").write_text(EXAMPLE.read_text())
    with open(os.open(tmp_path / "meta.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        file.write("EAAtoken")
    return load(str(tmp_path / "collector.toml"), {})


def test_the_example_configuration_has_every_key_at_its_default(example):
    default = Config()
    folder = os.path.join(os.path.dirname(example.path), "collector-data")
    default = msgspec.structs.replace(default, storage=msgspec.structs.replace(default.storage, data_dir=folder))
    for info in msgspec.structs.fields(Config):
        if info.name not in ("store", "path"):
            assert getattr(example, info.name) == getattr(default, info.name), info.name
    (store,) = example.store
    bare = type(store)(id=store.id, name=store.name, domains=store.domains, currency="USD", country="US")
    assert msgspec.structs.replace(store, pixel=[]) == bare
    (pixel,) = store.pixel
    assert pixel == type(pixel)(id=pixel.id, access_token="EAAtoken")


@pytest.mark.parametrize("path", keys(Config), ids=".".join)
def test_every_key_stands_in_the_example_with_an_explanation(path):
    name = {"access_token": "access_token_file"}.get(path[-1], path[-1])
    section = EXAMPLE.read_text().split(f"[{'.'.join(path[:-1])}]", 1)[1]
    line = re.search(rf"(?m)^(?:# )?{name} = .*#\s*\S.*$|^\[{'.'.join(path)}\]\s*#\s*\S.*$", section)
    assert line, f"config.example.toml has no explained line for {'.'.join(path)}"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_stands_in_the_readme(command):
    assert re.search(rf"`collector {command}\b", README)


def test_every_error_stands_in_the_edges_readme_with_its_status():
    """Of the contract and of the guard before it: all that /openapi.json names."""
    page = (ROOT / "collector/edge/README.md").read_text()
    rows = re.findall(r"(?m)^\| ([0-9, ]+) \| (.*?) \|", page)
    told = {
        (code, int(status))
        for statuses, codes in rows
        for status in statuses.split(", ")
        for code in re.findall(r"`(\w+)`", codes)
    }
    served = {
        (code, int(status))
        for operations in json.loads(openapi.document(EdgeConfig()))["paths"].values()
        for operation in operations.values()
        for status, answer in operation["responses"].items()
        if status[0] in "45"
        for code in answer["description"].split(", ")
    }
    assert served <= told
    assert {code for code, _ in told} == {code for code, _ in served}


def test_every_toml_block_of_the_readme_loads(tmp_path):
    blocks = re.findall(r"```toml\n(.*?)```", README, re.S)
    assert blocks
    for number, block in enumerate(blocks):
        path = tmp_path / f"{number}.toml"
        path.write_text(block)
        with open(os.open(tmp_path / "meta.token", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write("EAAtoken")
        assert load(str(path), {}).store


def test_every_link_of_the_documents_leads_somewhere():
    """To a file that is there, and to a heading that stands in it."""
    for page in [ROOT / "README.md", ROOT / "CHANGES.md", *(ROOT / "collector").rglob("README.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
            file, _, heading = target.partition("#")
            linked = (page.parent / file).resolve() if file else page
            assert linked.exists(), f"{page}: {target}"
            assert not heading or heading in anchors(linked), f"{page}: {target}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text())
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_file_names_a_package_index():
    """The lock and the instructions work with whichever index pip is set up for."""
    index = re.compile(
        "|".join(["py" + r"pi\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs", "--" + "index-url"])
    )
    tracked = [*ROOT.glob("*"), *(ROOT / "collector").rglob("*.py"), *(ROOT / ".ci").glob("*")]
    named = [path.name for path in tracked if path.is_file() and index.search(path.read_text(errors="replace"))]
    assert named == []


def test_the_lock_has_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower().replace("_", "-") for line in wanted}
    locked = set(re.findall(r"(?m)^([a-z0-9._-]+)==", (ROOT / ".ci/requirements.lock").read_text()))
    assert names - locked == set()


def test_what_runs_has_a_lock_of_its_own_with_the_same_versions():
    pinned = r"(?m)^([a-z0-9._-]+)==([^ ]+)"
    run = dict(re.findall(pinned, (ROOT / ".ci/run.lock").read_text()))
    whole = dict(re.findall(pinned, (ROOT / ".ci/requirements.lock").read_text()))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.match(r"[A-Za-z0-9._-]+", line)[0].lower() for line in project["dependencies"]}
    assert wanted <= run.keys()
    assert run.items() <= whole.items()
    assert "pytest" not in run


def untested(version: Version) -> str:
    """The first release that nobody has tried beside this one."""
    return f"{version.major + 1}" if version.major else f"0.{version.minor + 1}"


def test_what_pip_takes_is_what_the_lock_names():
    """`pip install .` asks no lock: its bounds hold it to releases that the tests ran with."""
    pinned = dict(re.findall(r"(?m)^([a-z0-9._-]+)==([^ ]+)", (ROOT / ".ci/run.lock").read_text()))
    wanted = [
        Requirement(line) for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    for one in wanted:
        locked = Version(pinned[one.name.lower()])
        assert locked in one.specifier, one
        assert one.name == "tzdata" or untested(locked) not in one.specifier, one
        assert Version(metadata.version(one.name)) in one.specifier, f"the tests run with another {one.name}"


def test_control_a_bound_too_far_is_seen():
    assert untested(Version("0.23.0")) in Requirement("msgspec>=0.20,<0.30").specifier
    assert untested(Version("3.20")) in Requirement("idna>=3.7").specifier


@pytest.mark.slow
def test_the_binary_leaves_out_nothing_that_a_process_imports():
    """Each process alone: what one of them imports must not hide what another one needs."""
    (words,) = re.findall(r'excludes="""(.*?)"""', (ROOT / "build.spec").read_text(), re.S)
    left_out = set(words.split()) - {"rich", "pygments"}  # Litestar's command line takes them when they are there
    for role in ("keeper", "edge", "courier", "console"):
        code = f"import sys, collector.{role}.app; print(*sys.modules)"
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
        assert left_out & set(out.split()) == set(), role


def test_the_readme_stays_a_merchants_page():
    """Longer texts have pages of their own: the rooms' READMEs."""
    assert len(README.splitlines()) <= 260


@pytest.mark.parametrize("folder", ["collector", "tests"])
def test_a_file_asks_one_question_and_is_short_enough_for_it(folder):
    """A test file may have half as many lines more."""
    most = 420 if folder == "collector" else 640
    long = {
        str(path.relative_to(ROOT)): lines
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > most
    }
    assert long == {}


def test_the_reference_is_what_the_code_says():
    """`python -m tests.kit.reference` writes it anew."""
    assert (ROOT / "collector/REFERENCE.md").read_text() == reference.reference()
    for info in msgspec.structs.fields(Config):
        for name in keys(info.type, (info.name,)) if info.name not in ("store", "path") else ():
            assert f"- `{name[-1]} = " in reference.reference(), name


@pytest.mark.parametrize("page", ["SECURITY.md", "collector/TROUBLESHOOTING.md"])
def test_the_pages_name_commands_settings_and_metrics_that_there_are(page):
    text = (ROOT / page).read_text()
    names = {command.name for command in COMMANDS}
    for said in re.findall(r"`collector ([a-z][^`]*)`", text):
        words = [word for word in said.split() if not word.startswith("-")]
        assert {" ".join(words[:2]), words[0]} & names or any(n.startswith(f"{words[0]} ") for n in names), said
    known = (ROOT / "config.example.toml").read_text()
    for section, key in re.findall(r"`\[([a-z.]+)\] ([a-z_]+)", text):
        assert re.search(rf"(?m)^#? ?{key} = ", known), (section, key)
