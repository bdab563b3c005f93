"""The one-file binary: small, quick to answer, at home on a Debian without Python, the same when built again."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.program import BINARY, ROOT, Serving, alive, free_port, request, wait_until

pytestmark = pytest.mark.binary

NOBODY = 65534
CPU_SECONDS_TO_ANSWER = 2.0
LARGEST = 25 * 1024 * 1024  # bytes; 15 MB when this was written


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Debian 12 with its essential packages only, from the mirror that apt is set up for."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        pytest.skip("a bare Debian takes root and debootstrap")
    words = ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"]
    targets = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split("\n")
    mirror = next(line.split()[2] for line in targets if line.startswith("bookworm main "))
    root = tmp_path_factory.mktemp("debian")
    subprocess.run(
        ["debootstrap", "--variant=minbase", "bookworm", str(root), mirror],
        check=True,
        stdout=subprocess.DEVNULL,
        timeout=300,
    )
    root.chmod(0o755)  # pytest makes it private
    shutil.copy(BINARY, root / "usr/local/bin/collector")
    return root


def test_its_first_answer_takes_less_than_2_seconds_of_cpu(tmp_path: Path) -> None:
    """Of supervisor and edge: other work on the machine is not theirs. `collector bench` tells the wall's time."""
    address = f"127.0.0.1:{free_port()}"
    serving = Serving([str(BINARY)], tmp_path, COLLECTOR_EDGE__LISTEN=address)
    assert wait_until(lambda: answers(f"http://{address}/healthz"), 60.0)
    beside = {pid for role, pid in serving.children().items() if role != "edge"}
    spent = sum(cpu_seconds(pid) for pid in serving.tree() if pid not in beside)
    print(f"answered after {time.monotonic() - serving.began:.2f} s, {spent:.2f} s of CPU")
    serving.end()
    assert 0 < spent < CPU_SECONDS_TO_ANSWER


def cpu_seconds(pid: int) -> float:
    """Of the process and of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def answers(url: str) -> bool:
    """True once the door is open and its request is answered; refused until the supervisor has bound it."""
    try:
        return bool(request(url))
    except OSError:
        return False


def test_it_is_one_small_file() -> None:
    assert BINARY.stat().st_size < LARGEST


def test_it_knows_its_revision() -> None:
    out = subprocess.run([BINARY, "version", "--json"], capture_output=True, text=True, check=True, cwd="/").stdout
    revision = json.loads(out)["revision"].removesuffix("+changed")
    assert len(revision) == 40
    assert int(revision, 16)


def test_what_a_kill_9_leaves_unpacked_is_cleared_by_the_next_start(tmp_path: Path) -> None:
    unpack = tmp_path / "unpack"
    unpack.mkdir()
    first = Serving([str(BINARY)], tmp_path, TMPDIR=str(unpack))
    first.ready()
    children = list(first.children().values())
    first.process.kill()
    first.process.wait()
    assert wait_until(lambda: not any(map(alive, children)), 20.0)
    (left,) = unpack.iterdir()
    second = Serving([str(BINARY)], tmp_path, TMPDIR=str(unpack))
    second.ready()
    assert left not in list(unpack.iterdir())
    assert second.stop() == 0
    assert list(unpack.iterdir()) == []


@pytest.mark.slow
def test_it_serves_on_a_debian_without_python(debian: Path, tmp_path: Path) -> None:
    assert not list((debian / "usr/bin").glob("python*"))
    data = debian / "srv/data"
    data.mkdir(parents=True)
    os.chown(data, NOBODY, NOBODY)
    chroot = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(debian), "/usr/local/bin/collector"]
    serving = Serving(chroot, tmp_path, "--data-dir", "/srv/data", LC_ALL="C", TZ="Asia/Kathmandu", HOME="/nonexistent")
    try:
        urls = serving.ready()
        took = time.monotonic() - serving.began
        click, conversion = serving.pasted()
        assert click["success"]
        assert conversion["data"]["attributed"]
        assert request(urls["edge"] + "/readyz")
        assert serving.stop() == 0
    finally:
        serving.end()
    print(f"ready after {took:.2f} s in a bare Debian")
    assert (data / "collector.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_two_builds_of_one_commit_are_identical(tmp_path: Path) -> None:
    digests = []
    build = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "ERROR"]
    for _ in range(2):
        subprocess.run(
            [*build, "--distpath", str(tmp_path / "dist"), "--workpath", str(tmp_path / "build"), "build.spec"],
            cwd=ROOT,
            env={**os.environ, "SOURCE_DATE_EPOCH": "1767225600", "PYTHONHASHSEED": "1"},
            check=True,
            timeout=300,
        )
        digests.append(hashlib.sha256((tmp_path / "dist/collector").read_bytes()).hexdigest())
        shutil.rmtree(tmp_path / "build")
    assert digests[0] == digests[1]
