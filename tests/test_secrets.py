"""No secret shows where it should not: in no answer, log line, metric or listing.

A real server is asked for everything that it has, by all kinds of callers, with what is
good and what is not; then all that has come out of it is searched for every secret that
was ever made or sent.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from nodestate.api.routes import ROUTES
from nodestate.secret import new_cluster_key
from tests.real_server import Answer, RealServer

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("one server")]

NODE_ID: Final = "f7476465-4d6e-c0de-26d0-e383c49be941"
OTHER_ID: Final = "12345678-aaaa-bbbb-cccc-0123456789ab"
NODE_SECRET: Final = "6f8d9c11-0000-4000-8000-000000000001"
OTHER_SECRET: Final = "6f8d9c11-0000-4000-8000-000000000002"
GUESSED: Final = "0badc0de-0000-4000-8000-00000000dead"
BROUGHT: Final = "b40c6471-0000-4000-8000-00000000beef"
BROUGHT_ACCESSOR: Final = "b40c6471-0000-4000-8000-00000000acce"
UNKNOWN: Final = "11111111-2222-3333-4444-555555555555"
TOKEN: Final = "/v1/acl/token"
ASKED: Final[tuple[str, ...]] = ("GET", "PUT", "DELETE")
"""POST is the same as PUT, and HEAD has what GET has without the body."""


@dataclass
class Heard:
    """What a server was asked, and what it said."""

    method: str
    path: str
    secret: str
    answer: Answer

    def whole(self) -> str:
        headers = "".join(f"{k}: {v}\n" for k, v in self.answer.headers.items())
        return headers + self.answer.body.decode(errors="replace")

    def may_show(self, managers: set[str]) -> str:
        """Return the secret that may be in this answer, nothing for most."""
        if self.answer.status != 200 or "/v1/acl/" not in self.path:
            return ""
        shown: str = ""
        is_one = self.path.startswith(("/v1/acl/bootstrap", TOKEN))
        if is_one and "/v1/acl/tokens" not in self.path and self.answer.body:
            shown = self.answer.json.get("SecretID", "")
        is_made = self.path == "/v1/acl/bootstrap"
        is_allowed = is_made or self.secret in managers or self.secret == shown
        return shown if is_allowed else ""


@dataclass
class World:
    """A server, every secret that there is, and everything it said."""

    server: RealServer
    secrets: set[str] = field(
        default_factory=lambda: {NODE_SECRET, OTHER_SECRET, GUESSED, BROUGHT}
    )
    managers: set[str] = field(default_factory=set)
    heard: list[Heard] = field(default_factory=list)

    def ask(
        self, method: str, path: str, body: object = None, secret: str = "", **more: str
    ) -> Answer:
        headers = {name.replace("_", "-"): text for name, text in more.items()}
        if secret:
            headers["X-Nomad-Token"] = secret
        answer = self.server.ask(method, path, body, headers)
        self.heard.append(Heard(method, path, secret, answer))
        return answer

    def made(self, answer: Answer) -> dict[str, Any]:
        """Take note of a new token."""
        assert answer.status == 200, answer.text
        token: dict[str, Any] = answer.json
        self.secrets.add(token["SecretID"])
        if token["Type"] == "management":
            self.managers.add(token["SecretID"])
        return token


def node(node_id: str, secret: str) -> dict[str, Any]:
    return {
        "Node": {
            "ID": node_id,
            "SecretID": secret,
            "Datacenter": "dc1",
            "Name": "alpha",
            "Attributes": {"kernel.name": "linux"},
            "Status": "ready",
        }
    }


def test_secrets_are_shown_to_who_may_have_them_and_to_nobody_else(tmp_path: Path):
    key = new_cluster_key()
    key_file = tmp_path / "key"
    key_file.write_text(key)
    key_file.chmod(0o600)
    server = RealServer(
        tmp_path / "server",
        acl_enabled=True,
        log_level="debug",
        cluster_key_file=str(key_file),
    )
    with server:
        world = World(server.wait_until_serving())
        world.secrets.add(key)
        manager = bootstrap(world)
        client = write_tokens(world, manager)
        speak_as_agents(world, manager)
        walk(world, manager, client)
        snapshot = tmp_path / "backup.snap"
        snapshot.write_bytes(
            world.ask("GET", "/v1/operator/snapshot", secret=manager).body
        )
        metrics = [
            world.ask("GET", f"/v1/metrics{q}") for q in ("", "?format=prometheus")
        ]
        assert all(answer.status == 200 for answer in metrics)
        restored = world.ask(
            "PUT", "/v1/operator/snapshot", snapshot.read_bytes(), manager
        )
        assert restored.status == 200, restored.text
    outputs = {
        "log": server.log(),
        "journal": command("operator", "journal", str(tmp_path / "server" / "data")),
        "snapshot": command("operator", "snapshot", "inspect", str(snapshot)),
        "state": command("operator", "snapshot", "state", str(snapshot)),
    }

    assert len(world.heard) > 300
    assert '"request answered"' in outputs["log"]
    assert "acl.token.upsert" in outputs["journal"]
    assert BROUGHT_ACCESSOR in outputs["state"]
    assert [*leaks(world)] == []
    assert [
        (name, secret)
        for name, text in outputs.items()
        for secret in world.secrets
        if secret in text
    ] == []
    # What the search would find, had it something to find.
    assert sum(bool(one.may_show(world.managers)) for one in world.heard) >= 10


def test_what_is_only_compared_is_not_kept(tmp_path: Path):
    """A node's SecretID is on no disk, nor is a secret that was only guessed."""
    with RealServer(tmp_path, acl_enabled=True) as server:
        world = World(server.wait_until_serving())
        manager = bootstrap(world)
        speak_as_agents(world, manager)
        body = {"Name": "n", "Type": "management"}
        token = world.made(world.ask("PUT", TOKEN, body, manager, Idempotency_Key="k"))
        for _ in range(2):
            again = world.ask("PUT", TOKEN, body, manager, Idempotency_Key="k")
            assert again.json == token
        world.ask("GET", "/v1/nodes", secret=GUESSED)
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)

    for secret in (NODE_SECRET, OTHER_SECRET, GUESSED):
        assert secret.encode() not in kept
    # Asked for three times with one key, and kept once.
    assert kept.count(token["SecretID"].encode()) == 1
    assert len(world.managers) == 2


def bootstrap(world: World) -> str:
    """Bootstrap, and try to do it again in every way; return the manager's secret."""
    path = "/v1/acl/bootstrap"
    refused: tuple[object, ...] = (
        {"BootstrapSecret": GUESSED[:-1]},
        {"BootstrapSecret": [GUESSED]},
        f'{{"BootstrapSecret": "{GUESSED}',
    )
    for odd in refused:
        assert world.ask("PUT", path, odd).status == 400
    manager = world.made(world.ask("PUT", path, Idempotency_Key="1"))["SecretID"]
    for body in (None, {"BootstrapSecret": GUESSED}, {"BootstrapSecret": manager}):
        assert world.ask("PUT", path, body).status == 400
        assert world.ask("PUT", path, body, Idempotency_Key="1").status in {400, 422}
    return str(manager)


def write_tokens(world: World, manager: str) -> str:
    """Make, change, retry, expire and delete tokens; return the secret of a client."""
    rules = 'node { policy = "read" }'
    policy = {"Name": "reader", "Rules": rules}
    assert world.ask("PUT", "/v1/acl/policy/reader", policy, manager).status == 200
    role = {"Name": "r", "Policies": [{"Name": "reader"}]}
    assert world.ask("PUT", "/v1/acl/role", role, manager).status == 200
    body = {"Name": "n", "Type": "client", "Policies": ["reader"]}
    client = world.made(world.ask("PUT", TOKEN, body, manager))
    for _ in range(2):
        world.made(world.ask("PUT", TOKEN, body, manager, Idempotency_Key="k"))
    brought = {**body, "AccessorID": BROUGHT_ACCESSOR, "SecretID": BROUGHT}
    world.made(world.ask("PUT", TOKEN, brought, manager))
    taken = {**body, "AccessorID": UNKNOWN, "SecretID": client["SecretID"]}
    assert world.ask("PUT", TOKEN, taken, manager).status == 409
    changed = {**client, "Name": "m", "Roles": [{"Name": "r"}], "SecretID": GUESSED}
    path = f"{TOKEN}/{client['AccessorID']}"
    world.made(world.ask("PUT", path, changed, manager))
    gone = world.made(world.ask("PUT", TOKEN, {**body, "ExpirationTTL": "1h"}, manager))
    deleted = world.ask("DELETE", f"{TOKEN}/{gone['AccessorID']}", secret=manager)
    assert deleted.status == 200
    assert world.ask("GET", f"{TOKEN}/self", secret=gone["SecretID"]).status == 403
    wrong = (
        {**body, "SecretID": [GUESSED]},
        {**body, "SecretID": {GUESSED: GUESSED}},
        {**body, "AccessorID": 7, "SecretID": GUESSED},
        {**body, "Policies": {GUESSED: 1}},
        f'{{"SecretID": "{GUESSED}',
        f'{{"SecretID": "{GUESSED}" x}}',
    )
    for sent in wrong:
        world.ask("PUT", TOKEN, sent, manager)
        world.ask("PUT", path, sent, manager)
    return str(client["SecretID"])


def speak_as_agents(world: World, manager: str) -> None:
    """Register nodes and have their agents speak, with their secret and with others."""
    for node_id, secret in ((NODE_ID, NODE_SECRET), (OTHER_ID, OTHER_SECRET)):
        assert world.ask("PUT", "/v1/nodes", node(node_id, secret)).status == 403
        made = world.ask("PUT", "/v1/nodes", node(node_id, secret), manager)
        assert made.status == 200, made.text
    assert world.ask("PUT", "/v1/nodes", node(NODE_ID, GUESSED), manager).status == 403
    batch = {
        "Nodes": [node(NODE_ID, GUESSED)["Node"], node(OTHER_ID, OTHER_SECRET)["Node"]]
    }
    assert world.ask("PUT", "/v1/nodes", batch, manager).status == 200
    for tail in ("heartbeat", "events", "allocations"):
        path = f"/v1/node/{NODE_ID}/{tail}"
        for sent in (NODE_SECRET, OTHER_SECRET, GUESSED, GUESSED[1:], 7, [GUESSED]):
            body = {"SecretID": sent, "NodeEvents": [], "Alloc": []}
            world.ask("PUT", path, body)
    for secret in (NODE_SECRET, OTHER_SECRET):
        for path in (f"/v1/node/{NODE_ID}", f"/v1/node/{NODE_ID}/allocations"):
            world.ask("GET", path, secret=secret)


def walk(world: World, manager: str, client: str) -> None:
    """Ask for everything that there is, as everybody, with bodies and without."""
    callers = (manager, client, "", GUESSED, NODE_SECRET)
    odd = "?pretty&index=0&prefix=zz&token={0}&filter=Name==%22{0}%22&next_token={0}"
    for route in ROUTES:
        for method in [one for one in ASKED if one in route.methods]:
            if route.path == "/v1/operator/snapshot":
                continue  # what it sends is all there is, and it is for who may have that
            for number, path in enumerate(paths_of(route.path)):
                for caller in callers if number == 0 else (manager,):
                    world.ask(method, path, None, caller)
                world.ask(method, path + odd.format(client), None, manager)
                if method == "PUT":
                    for body in (
                        "{",
                        {"SecretID": client, "Node": {"SecretID": client}},
                    ):
                        world.ask(method, path, body, manager)
    for path in (f"/v1/{client}", f"/v1/node/{client}", "/", "/v1/acl/nothing"):
        for method in ("GET", "PATCH"):
            world.ask(method, path.replace(client, UNKNOWN), secret=client)


def paths_of(path: str) -> Iterator[str]:
    """Yield paths for a route: of what is there, and of what is not."""
    mark = ":id" if ":id" in path else "*id"
    if mark not in path:
        yield path
        return
    ids = [UNKNOWN, "x"]
    if "/v1/node/" in path and "purge" not in path:
        ids.append(OTHER_ID)
    if path == "/v1/acl/policy/:id" or "role/name" in path:
        ids = ["none", "anonymous", "a%20b"]
    for id_ in ids:
        yield path.replace(mark, id_)


def leaks(world: World) -> Iterator[str]:
    """Yield the answers that show what they must not."""
    for one in world.heard:
        whole, allowed = one.whole(), one.may_show(world.managers)
        for secret in world.secrets:
            count = whole.count(secret)
            if count > (secret == allowed):
                yield f"{one.method} {one.path} shows {secret} {count} times: {whole}"


def command(*words: str) -> str:
    """Return what a command of the program writes."""
    ran = subprocess.run(
        [sys.executable, "-m", "nodestate", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def test_the_search_finds_what_is_there():
    """The search itself, tried on an answer that shows a secret to whom it should not."""
    world = World(server=None, managers={"manager"})  # type: ignore[arg-type]
    body = json.dumps({"SecretID": BROUGHT}).encode()
    answer = Answer(200, {}, body, 0.0)
    path = f"{TOKEN}/{UNKNOWN}"

    world.heard = [
        Heard("GET", path, "manager", answer),
        Heard("GET", path, BROUGHT, answer),
    ]
    assert [*leaks(world)] == []

    world.heard = [
        Heard("GET", path, "other", answer),
        Heard("GET", "/v1/acl/tokens", "manager", answer),
        Heard("GET", "/v1/nodes", "manager", answer),
        Heard("GET", path, "manager", Answer(200, {"x-a": BROUGHT}, body, 0.0)),
    ]
    assert len([*leaks(world)]) == 4
