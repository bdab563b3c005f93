"""The recipe for three machines with Patroni, followed: the leader is pulled, and nobody does anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from collector.process import hardening
from tests.kit.harness import TOKEN, eventually
from tests.kit.load import Load
from tests.kit.machines import CLEAN, Asking, audit, goes_on
from tests.kit.postgres import as_server, folder_for_servers, kill_server
from tests.kit.program import free_port
from tests.kit.recipes import recipe
from tests.kit.simulators.graph import GraphSimulator
from tests.recipes.test_several import STORE, Machine, Three, first_order

pytestmark = pytest.mark.slow
PROGRAMS = {name: shutil.which(name) for name in ("etcd", "patroni")}
SUPERUSER = "postgres:SUP3R"


class Governed(Machine):
    """Its server is Patroni's to make, to start and to follow."""

    def __init__(self, number: int, folder: Path, servers: Path, graph: str) -> None:
        super().__init__(number, folder, servers, graph)
        self.peer, self.client, self.rest = free_port(), free_port(), free_port()
        self.address = f"10.0.0.{number + 1}"
        self.servers = servers
        self.running: list[subprocess.Popen[bytes]] = []

    def run(self, name: str, *words: str, **env: str) -> None:
        program = PROGRAMS[name]
        assert program is not None
        home = self.servers / f"home-{name}-{self.name}"
        home.mkdir()
        who = as_server()
        if who:
            os.chown(home, who["user"], who["group"])
        env = {**os.environ, "HOME": str(home), **env}
        place = self.servers / f"{name}-{self.name}.log"
        with place.open("wb") as log:
            self.running.append(
                subprocess.Popen(
                    [program, *words], stdout=log, stderr=log, cwd=home, env=env,
                    preexec_fn=hardening.die_with_parent, **who,
                )
            )  # fmt: skip

    def takes_writes(self) -> bool:
        with suppress(Exception), Asking(self.node, "postgres", SUPERUSER) as asking:
            return not asking.value("SELECT pg_is_in_recovery()")
        return False

    def standbys(self) -> int:
        with Asking(self.node, "postgres", SUPERUSER) as asking:
            return int(asking.value("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def kill_server(self) -> None:
        for process in self.running:
            process.kill()
            process.wait()
        with suppress(FileNotFoundError):
            kill_server(self.node.data)

    def end(self) -> None:
        self.shop.end()
        self.kill_server()


class GovernedThree(Three):
    machines: list[Any]

    def __init__(self, folder: Path, servers: Path, graph: str) -> None:
        self.folder = folder
        self.machines = [Governed(number, folder, servers, graph) for number in range(3)]
        self.pepper = folder / "pepper.key"

    def set_up(self) -> None:
        for machine in self.machines:
            self._start_etcd(machine)
        for machine in self.machines:
            self._start_patroni(machine)
        leader = self.leader()
        with Asking(leader.node, "postgres", SUPERUSER) as asking:
            for statement in recipe("several-sql").strip().split("\n"):
                if "replicator" not in statement:
                    asking.execute(statement)
        hosts = {f"10.0.0.{n}:5432": f"127.0.0.1:{m.node.port}" for n, m in enumerate(self.machines, 1)}
        for machine in self.machines:
            self._configure(machine, recipe("several-dsn", hosts))

    def _start_etcd(self, machine: Governed) -> None:
        peers = {f"http://{one.address}:2380": f"http://127.0.0.1:{one.peer}" for one in self.machines}
        text = recipe("several-etcd")
        for line in ("ETCD_NAME=m1", "10.0.0.1:2380\nETCD_LISTEN", "/var/lib/etcd/m1"):
            assert line in text
        text = text.replace("ETCD_NAME=m1", f"ETCD_NAME={machine.name}")
        text = text.replace("/var/lib/etcd/m1", str(machine.servers / f"etcd-{machine.name}"))
        lines = dict(line.split("=", 1) for line in text.strip().split("\n"))
        for name, value in lines.items():
            if name != "ETCD_INITIAL_CLUSTER":
                value = value.replace("10.0.0.1:2380", f"127.0.0.1:{machine.peer}")
            for old, new in peers.items():
                value = value.replace(old, new)
            lines[name] = value.replace("10.0.0.1:2379", f"127.0.0.1:{machine.client}")
        machine.run("etcd", **lines)

    def _start_patroni(self, machine: Governed) -> None:
        clients = {f'"{one.address}:2379"': f'"127.0.0.1:{one.client}"' for one in self.machines}
        exchanged = {
            **clients,
            "name: m1": f"name: {machine.name}",
            "10.0.0.1:8008": f"127.0.0.1:{machine.rest}",
            "10.0.0.1:5432": f"127.0.0.1:{machine.node.port}",
            "10.0.0.0/24": "127.0.0.1/32",
            "/var/lib/postgresql/15/collector": str(machine.node.data),
            "/usr/lib/postgresql/15/bin": str(machine.node.programs),
        }
        path = machine.servers / f"patroni-{machine.name}.yml"
        # The socket's folder is Debian's; here that is not this user's.
        own = f"  parameters: {{unix_socket_directories: {machine.servers}}}\n"
        path.write_text(recipe("several-patroni", exchanged) + own)
        path.chmod(0o644)  # whoever runs the suite may keep files private; the servers are another user's
        machine.run("patroni", str(path))

    def leader(self) -> Governed:
        """Whoever takes writes, once it has a standby that commits wait for."""
        found: list[Governed] = []

        def is_there() -> bool:
            found[:] = [machine for machine in self.machines if machine.takes_writes()]
            return len(found) == 1 and found[0].standbys() == 1

        assert eventually(is_there, 120, 0.2), self.logs()
        return found[0]

    def logs(self) -> str:
        return "\n".join(path.read_text()[-1500:] for path in self.machines[0].servers.glob("*.log"))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[GovernedThree, GraphSimulator]]:
    if None in PROGRAMS.values():
        pytest.skip("needs patroni and etcd")
    with ExitStack() as stack:
        graph = stack.enter_context(GraphSimulator(token=TOKEN))
        servers = stack.enter_context(folder_for_servers())
        made = GovernedThree(tmp_path, servers, graph.url)
        stack.callback(made.end)
        made.set_up()
        yield made, graph


def test_the_leader_is_pulled_and_another_one_leads(three: tuple[GovernedThree, GraphSimulator]) -> None:
    machines, graph = three
    key, leader = machines.start(), machines.leader()
    other = next(machine for machine in machines.machines if machine is not leader)
    assert other.door is not None
    first_order(other.door.url, key, graph)
    load = Load(other.door.url, key, STORE, 3)
    with load.running():
        goes_on(load)
        leader.pull()
        goes_on(load, by=100)
    assert load.faults == []
    new = machines.leader()
    assert new is not leader
    assert audit(new.node, "collector", machines.pepper, load, user="collector:C0LL") == CLEAN
