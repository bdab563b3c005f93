"""The one-file binary: small, quick to answer, at home on a Debian without Python, the same when built again."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.kit.program import BINARY, ROOT, Serving, alive, free_port, request, wait_until
from tests.kit.simulators.graph import GraphSimulator

pytestmark = pytest.mark.binary

FOLDER = BINARY.with_name("collector-folder")
TROUBLESHOOTING = (ROOT / "collector/TROUBLESHOOTING.md").read_text()
NOBODY = 65534
CPU_SECONDS_TO_ANSWER = 2.0
needs_folder = pytest.mark.skipif(not FOLDER.exists(), reason="no folder build: pyinstaller build.spec -- --folder")
LARGEST = 17_650_000  # bytes: 17 MB, and the driver of PostgreSQL


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
    if FOLDER.exists():
        shutil.copytree(FOLDER, root / "opt/collector")
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
    assert wait_until(lambda: not any(map(alive, children)), 60)
    (left,) = unpack.iterdir()
    second = Serving([str(BINARY)], tmp_path, TMPDIR=str(unpack))
    second.ready()
    assert left not in list(unpack.iterdir())
    assert second.stop() == 0
    assert list(unpack.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("program", ["/usr/local/bin/collector", "/opt/collector/collector"])
def test_it_serves_on_a_debian_without_python(debian: Path, tmp_path: Path, program: str) -> None:
    assert not list((debian / "usr/bin").glob("python*"))
    if not (debian / program[1:]).exists():
        pytest.skip("no folder build: pyinstaller build.spec -- --folder")
    data = debian / f"srv/{Path(program).parts[1]}"
    data.mkdir(parents=True)
    os.chown(data, NOBODY, NOBODY)
    chroot = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(debian), program]
    inside = f"/{data.relative_to(debian)}"
    serving = Serving(chroot, tmp_path, "--data-dir", inside, LC_ALL="C", TZ="Asia/Kathmandu", HOME="/nonexistent")
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
def test_the_six_steps_on_a_debian_without_python(debian: Path, tmp_path: Path) -> None:
    """As a newcomer goes them: `init`, token, pixel, `serve`, a click and its order; Meta has the order."""
    shop = debian / "srv/newcomer"
    shop.mkdir(parents=True)
    os.chown(shop, NOBODY, NOBODY)
    chroot = ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(debian), "/usr/local/bin/collector"]
    words = "init /srv/newcomer --domain mystore.com --pixel 123456789012345 --currency USD --country US".split()
    made = subprocess.run([*chroot, *words], capture_output=True, text=True, check=True).stdout
    assert [line[:2] for line in made.splitlines() if line[:1].isdigit()] == [f"{n}." for n in range(1, 7)]
    config = shop / "collector.toml"
    (shop / "meta.token").write_text("EAAtoken\n")
    with GraphSimulator(token="EAAtoken") as graph:
        live = config.read_text().replace('mode = "dry_run"', f'mode = "live"\ngraph_url = "{graph.url}"')
        config.write_text(re.sub(r"(?m)^# (\[\[store\.pixel|id = |access_token_file = )", r"\1", live))
        serving = Serving(chroot, tmp_path, "--config", "/srv/newcomer/collector.toml", HOME="/nonexistent")
        try:
            url, key = serving.ready()["edge"], re.findall(r"sk_\w+", made)[0]
            headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
            click = {"fbclid": "IwAR0aBcDeFgHiJkLmNoPqRsTuVwXyZ", "landingPage": "https://mystore.com/"}
            order = {"eventType": "Purchase", "orderId": "1001", "eventValue": 49.9, "currency": "USD"}
            for path, body in (("click", click), ("conversion", order)):
                told = json.dumps({"storeId": "store_mystore", "visitorId": "v-1", **body}).encode()
                answer = request(f"{url}/v1/track/{path}", told, headers)
            assert answer["data"]["attributed"]
            assert wait_until(lambda: graph.events, 60.0)
            (event,) = graph.events
            assert (event["custom_data"]["order_id"], event["event_id"]) == ("1001", answer["data"]["eventId"])
            assert click["fbclid"] in event["user_data"]["fbc"]
            assert serving.stop() == 0
        finally:
            serving.end()


def glibc_of(path: Path) -> tuple[int, int]:
    """The newest version of the C library that a program or library asks for."""
    said = subprocess.run(["objdump", "-T", path], capture_output=True, text=True).stdout
    return max(((int(a), int(b)) for a, b in re.findall(r"GLIBC_(\d+)\.(\d+)", said)), default=(0, 0))


@needs_folder
def test_it_asks_for_no_newer_c_library_than_the_documents_say() -> None:
    files = [path for path in FOLDER.rglob("*") if ".so" in path.name or (path.name == "collector" and path.is_file())]
    newest = max(map(glibc_of, files))
    (told,) = re.findall(r"glibc (\d+)\.(\d+) or newer", (ROOT / "README.md").read_text())
    assert (2, 17) < newest <= (int(told[0]), int(told[1]))


@needs_folder
def test_what_nobody_uses_is_not_inside() -> None:
    from PyInstaller.archive.readers import CArchiveReader

    archive = CArchiveReader(str(BINARY)).open_embedded_archive("PYZ.pyz")
    tops = {name.partition(".")[0] for name in archive.toc}
    assert "litestar" in tops
    assert "yaml.reader" not in archive.toc
    assert tops & {"faker", "polyfactory", "rich", "rich_click", "pygments", "trio", "pytest", "numpy"} == set()
    sbom = json.loads(subprocess.run([BINARY, "version", "--sbom"], capture_output=True, check=True).stdout)
    assert "pyyaml" not in {part["name"].lower() for part in sbom["components"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
@needs_folder
def test_where_tmpdir_holds_no_programs(tmp_path: Path) -> None:
    """One file ends as TROUBLESHOOTING says, another TMPDIR mends it, and the folder needs none."""
    (tmp_path / "noexec").mkdir()
    (tmp_path / "exec").mkdir()
    mount = f"mount -t tmpfs -o noexec none {tmp_path}/noexec"
    if subprocess.run(["unshare", "-m", "bash", "-c", mount], capture_output=True).returncode != 0:
        pytest.skip("this sandbox mounts nothing")

    def run(program: Path, folder: str) -> subprocess.CompletedProcess[str]:
        line = f"{mount} && TMPDIR={tmp_path}/{folder} exec {program} version"
        return subprocess.run(["unshare", "-m", "bash", "-c", line], capture_output=True, text=True, cwd="/")

    ended = run(BINARY, "noexec")
    assert ended.returncode == 127
    (row,) = [line for line in TROUBLESHOOTING.splitlines() if "mounted noexec" in line]
    said = re.findall(r'"([^"]+)"', row)[0]
    assert said in ended.stderr
    assert "TMPDIR" in row
    assert "folder" in row
    assert run(BINARY, "exec").returncode == 0
    assert run(FOLDER / "collector", "noexec").returncode == 0


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this machine")
@pytest.mark.parametrize("program", [BINARY, FOLDER / "collector"], ids=["one file", "folder"])
def test_a_debian_package_of_itself(tmp_path: Path, program: Path) -> None:
    if not program.exists():
        pytest.skip("no folder build: pyinstaller build.spec -- --folder")
    made, root = tmp_path / "collector.deb", tmp_path / "root"
    subprocess.run([program, "install", "--deb", made], check=True, capture_output=True)
    fields = subprocess.run(["dpkg-deb", "--field", made], capture_output=True, text=True, check=True).stdout
    version = json.loads(subprocess.run([program, "version", "--json"], capture_output=True, check=True).stdout)[
        "version"
    ]
    assert f"Version: {version}\n" in fields
    assert "Depends: libc6 (>= 2.35), zlib1g\n" in fields
    subprocess.run(["dpkg-deb", "--extract", made, root], check=True)
    inside = subprocess.run([root / "usr/bin/collector", "version"], capture_output=True, text=True, check=True)
    assert inside.stdout.startswith(f"collector {version} ")
    assert "msgspec" in (root / "usr/share/doc/collector/copyright").read_text()
    assert (root / "usr/share/bash-completion/completions/collector").exists()
    listed = subprocess.run(["dpkg-deb", "--contents", made], capture_output=True, text=True, check=True).stdout
    assert all(" root/root " in line for line in listed.splitlines())


@pytest.mark.slow
def test_an_upgrade_in_place_under_a_running_serve(tmp_path: Path) -> None:
    """`install` again puts the new program beside the running one, which goes on; a restart has it, and the data."""
    if os.geteuid() != 0:
        pytest.skip("installing takes root")
    place = tmp_path / "place"
    (place / "units").mkdir(parents=True)
    place.chmod(0o755)
    installed = place / "collector"
    made = ["init", str(place / "shop"), "--domain", "mystore.com", "--pixel", "123456789012345", "--yes"]
    subprocess.run([BINARY, *made], check=True, capture_output=True)
    config = place / "shop/collector.toml"
    with config.open("a") as file:
        file.write(f'\n[backup]\ndir = "{place}/backups"\n')
    words = ["install", "--config", config, "--units", place / "units", "--program", installed, "--user", "root"]
    subprocess.run([BINARY, *words], check=True, capture_output=True)
    first = Serving([str(installed)], tmp_path, "--config", str(config))
    url = first.ready()["edge"]
    before = installed.stat().st_ino
    subprocess.run([BINARY, *words], check=True, capture_output=True)
    assert installed.stat().st_ino != before
    os.kill(first.children()["edge"], signal.SIGKILL)  # a process that starts again is still of the old program
    assert wait_until(lambda: answers(f"{url}/healthz"), 60)
    assert first.stop() == 0
    second = Serving([str(installed)], tmp_path, "--config", str(config))
    second.ready()
    listed = json.loads(second.run("keys", "list", "--config", str(config), "--json"))
    assert len(listed) == 2
    assert second.stop() == 0


@pytest.mark.slow
def test_two_builds_of_one_commit_are_identical(tmp_path: Path) -> None:
    """The one that is there, where it is of this commit and this commit's time (.ci/run), and another; else two new."""
    time_of_commit = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": time_of_commit.stdout.strip() or "1", "PYTHONHASHSEED": "1"}

    def built() -> str:
        where = ["--distpath", str(tmp_path / "dist"), "--workpath", str(tmp_path / "build")]
        command = [sys.executable, "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "ERROR", *where]
        subprocess.run([*command, "build.spec"], cwd=ROOT, env=environment, check=True, timeout=300)
        return digest(tmp_path / "dist/collector")

    first = built()
    assert first == digest(BINARY) or first == built()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
