"""The recipe for three machines, followed: its blocks run as processes on loopback, with machines pulled under load."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.browser.ground import caddy, running
from tests.kit.harness import PIXEL, ROOT, TOKEN, Door, Installation, eventually
from tests.kit.load import Load
from tests.kit.machines import CLEAN, audit, goes_on
from tests.kit.postgres import USER, Node, folder_for_servers
from tests.kit.program import free_port
from tests.kit.recipes import recipe
from tests.kit.simulators.graph import GraphSimulator
from tests.postgres.test_serve import click, order

pytestmark = pytest.mark.slow
STORE = "my-store"
NAMES = ("m1", "m2", "m3")
PAGE = (ROOT / "collector" / "SEVERAL.md").read_text()
IN_SYNC = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"


class Machine:
    """One of the three: its server of the database, and its collector."""

    def __init__(self, number: int, folder: Path, servers: Path, graph: str) -> None:
        self.name = NAMES[number]
        self.node = Node(servers, self.name)
        self.node.port = free_port()
        self.port = free_port()
        self.graph = graph
        (folder / self.name).mkdir()
        self.shop = Installation(folder / self.name, graph)
        self.door: Door | None = None

    def start(self) -> None:
        self.door = Door(self.shop.start(COLLECTOR_EDGE__LISTEN=f"127.0.0.1:{self.port}"))

    def pull(self) -> None:
        """All of it at once, and no word to anybody."""
        assert self.door is not None
        serving = self.door.serving
        left = serving.tree()
        serving.process.kill()
        serving.process.wait()
        self.kill_server()
        assert eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in left), 60)

    def kill_server(self) -> None:
        self.node.kill()

    def end(self) -> None:
        self.shop.end()
        self.node.stop()


class Three:
    def __init__(self, folder: Path, servers: Path, graph: str) -> None:
        self.folder = folder
        self.machines = [Machine(number, folder, servers, graph) for number in range(3)]
        self.pepper = folder / "pepper.key"

    def set_up(self) -> None:
        first, *others = self.machines
        hosts = {f"10.0.0.{n}:5432": f"127.0.0.1:{m.node.port}" for n, m in enumerate(self.machines, 1)}
        self._set_up_the_first(first)
        for machine in others:
            self._set_up_standby(machine)
        assert eventually(lambda: first.node.sql(IN_SYNC) == "2", 60)
        for machine in self.machines:
            self._configure(machine, recipe("several-dsn", hosts))

    def _settings(self, machine: Machine) -> str:
        ports = ",".join(str(one.node.port) for one in self.machines)
        exchanged = {
            "10.0.0.1,10.0.0.2,10.0.0.3": "127.0.0.1,127.0.0.1,127.0.0.1",
            "5432,5432,5432": ports,
            "cluster_name = 'm1'": f"cluster_name = '{machine.name}'",
        }
        return recipe("several-postgresql", exchanged)

    def _set_up_the_first(self, machine: Machine) -> None:
        node = machine.node
        node.make()
        node.sql(f"DROP ROLE {USER}")  # the kit's own
        for statement in recipe("several-sql").strip().split("\n"):
            node.sql(statement)
        with open(node.data / "pg_hba.conf") as file:
            trusted = [line for line in file if line.startswith("local")]  # the superuser of the test, by the socket
        node.put("pg_hba.conf", "".join(trusted) + recipe("several-hba", {"10.0.0.0/24": "127.0.0.1/32"}))
        node.stop()
        node.configure(self._settings(machine))
        node.start()

    def _set_up_standby(self, machine: Machine) -> None:
        first, node = self.machines[0].node, machine.node
        exchanged = {
            "/var/lib/postgresql/15/main": str(node.data),
            "host=10.0.0.1 port=5432": f"host=127.0.0.1 port={first.port}",
        }
        node.run_shell(recipe("several-standby", exchanged))
        node.configure(f"cluster_name = '{machine.name}'\n")
        node.put("standby.signal", "")
        node.start()

    def _configure(self, machine: Machine, dsn: str) -> None:
        folder = machine.shop.folder
        (folder / "dsn").touch(mode=0o600)
        (folder / "dsn").write_text(dsn)
        exchanged = {
            "0.0.0.0:8080": f"127.0.0.1:{machine.port}",
            "10.0.0.10/32": "127.0.0.1/32",
            "/etc/collector/dsn": str(folder / "dsn"),
            "/var/lib/collector": str(folder / "data"),
            "/etc/collector/pepper.key": str(self.pepper),
            "/etc/collector/meta.token": str(folder / "meta.token"),
            'mode = "live"': f'mode = "live"\ngraph_url = "{machine.graph}"',
        }
        machine.shop.config.write_text(recipe("several-collector", exchanged))

    def start(self) -> str:
        """Start all; a key."""
        key = self.machines[0].shop.make_key(store=STORE)
        for machine in self.machines:
            machine.start()
        return key

    def end(self) -> None:
        for machine in self.machines:
            machine.end()

    def edges(self) -> dict[str, str]:
        return {f"10.0.0.{n}:8080": f"127.0.0.1:{m.port}" for n, m in enumerate(self.machines, 1)}


def haproxy(three: Three, port: int) -> AbstractContextManager[Any]:
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("needs haproxy")
    bound = {"bind :443 ssl crt /etc/haproxy/t.mystore.com.pem": f"bind 127.0.0.1:{port}"}
    path = three.folder / "haproxy.cfg"
    path.write_text(recipe("several-haproxy", {**bound, **three.edges()}))
    return running([program, "-f", str(path), "-db"], port, three.folder / "haproxy.out")


def in_caddy(three: Three, port: int) -> AbstractContextManager[Any]:
    if shutil.which("caddy") is None:
        pytest.skip("needs caddy")
    site = {"t.mystore.com {": f"http://127.0.0.1:{port} {{"}
    return caddy(three.folder, recipe("several-caddy", {**site, **three.edges()}), port)


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[Three, GraphSimulator]]:
    with ExitStack() as stack:
        graph = stack.enter_context(GraphSimulator(token=TOKEN))
        servers = stack.enter_context(folder_for_servers())
        made = Three(tmp_path, servers, graph.url)
        stack.callback(made.end)
        made.set_up()
        yield made, graph


@pytest.mark.parametrize("balancer", [haproxy, in_caddy])
def test_the_recipe_from_the_first_order_to_the_primary_pulled(
    balancer: Callable[[Three, int], AbstractContextManager[Any]], three: tuple[Three, GraphSimulator]
) -> None:
    machines, graph = three
    port, key = free_port(), machines.start()
    with balancer(machines, port):
        url = f"http://127.0.0.1:{port}"
        first_order(url, key, graph)
        load = Load(url, key, STORE, 3)
        with load.running():
            goes_on(load)
            first, second, third = machines.machines
            third.pull()
            goes_on(load)
            third.node.start()
            third.start()
            goes_on(load)
            assert eventually(lambda: first.node.sql(IN_SYNC) == "2", 60)
            first.pull()
            found = {machine: received(machine.node) for machine in (second, third)}
            promoted = max(found, key=lambda machine: received(machine.node))
            promoted.node.promote()
            goes_on(load, by=100)
        assert load.faults == []
        assert audit(promoted.node, "collector", machines.pepper, load, user="collector:C0LL") == CLEAN
        assert "m2" in promoted.shop.run("status") or "m3" in promoted.shop.run("status")


def received(node: Node) -> int:
    """How much of the log it has, as the page tells to ask."""
    assert all(
        f"`SELECT {words}`" in PAGE for words in ("pg_last_wal_receive_lsn()", "status FROM pg_stat_wal_receiver")
    )
    assert eventually(lambda: node.sql("SELECT status FROM pg_stat_wal_receiver") != "streaming", 60)
    return int(node.sql("SELECT pg_last_wal_receive_lsn() - '0/0'"))


def first_order(url: str, key: str, graph: GraphSimulator) -> None:
    """As the README's first minutes: a click, its order, and Meta has it."""
    session = requests.Session()
    session.trust_env = False
    session.headers["Authorization"] = f"Bearer {key}"

    def posted(path: str, body: dict[str, Any]) -> bool:
        return session.post(f"{url}/v1/track/{path}", json={**body, "storeId": STORE}, timeout=60).status_code == 200

    assert eventually(lambda: posted("click", click(1)), 60)
    assert eventually(lambda: posted("conversion", order(1)), 60)
    assert eventually(lambda: len(graph.accepted.get(PIXEL, ())) >= 1, 90)
