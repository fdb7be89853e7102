"""A node's agent, as short as the checklist needs it."""

import threading
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from tests.real_server import Answer, HttpClient, attempts

HOUR_NS: Final = 3_600_000_000_000
SETTLED_S: Final = 15.0
WAITING_S: Final = 0.1


class Agent:
    """Speaks for one node, with an id and a secret of its own."""

    def __init__(self, server: HttpClient, node_id: str = "") -> None:
        self.server = server
        self.id = node_id or str(uuid.uuid4())
        self.secret = str(uuid.uuid4())
        self.path = f"/v1/node/{self.id}"

    def body(self, **fields: Any) -> dict[str, Any]:
        """Return a registration; fields are Nomad's, and `None` leaves one out."""
        node = {
            "ID": self.id,
            "SecretID": self.secret,
            "Datacenter": "dc1",
            "Name": "node",
            "Attributes": {"kernel.name": "linux"},
            "Status": "ready",
            **fields,
        }
        return {
            "Node": {key: value for key, value in node.items() if value is not None}
        }

    def register(self, **fields: Any) -> Answer:
        return self.server.put("/v1/nodes", self.body(**fields))

    def heartbeat(self, status: str | None = "ready", **fields: Any) -> Answer:
        body = {"SecretID": self.secret, "Status": status, **fields}
        sent = {key: value for key, value in body.items() if value is not None}
        return self.server.put(f"{self.path}/heartbeat", sent)

    def emit(self, *messages: str) -> Answer:
        events = [{"Message": message, "Subsystem": "Driver"} for message in messages]
        body = {"SecretID": self.secret, "NodeEvents": events}
        return self.server.put(f"{self.path}/events", body)

    def set_eligibility(self, word: str) -> Answer:
        return self.server.put(f"{self.path}/eligibility", {"Eligibility": word})

    def drain(self, spec: object, **fields: Any) -> Answer:
        return self.server.put(f"{self.path}/drain", {"DrainSpec": spec, **fields})

    def purge(self) -> Answer:
        return self.server.put(f"{self.path}/purge")

    def read(self) -> dict[str, Any]:
        """Return the node as it is now."""
        node: dict[str, Any] = self.server.get(self.path).json
        return node

    def settled(self) -> dict[str, Any]:
        """Return the node once it is not draining."""
        return self.read_until(lambda node: not node["Drain"])

    def read_until(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the node as soon as it is as asked for."""
        for _ in attempts(SETTLED_S):
            if condition(node := self.read()):
                return node
        raise AssertionError(f"not within {SETTLED_S} s: {self.read()}")

    def stub(self, parameters: str = "") -> dict[str, Any]:
        """Return the node as the list shows it."""
        path = f"/v1/nodes?prefix={self.id}{parameters}"
        (stub,) = self.server.get(path).json
        assert stub["ID"] == self.id
        return dict(stub)

    def messages(self) -> list[str]:
        """Return the texts of its events, oldest first."""
        return [event["Message"] for event in self.read()["Events"]]


def registered(server: HttpClient, node_id: str = "", **fields: Any) -> Agent:
    """Return the agent of a node that has just been registered."""
    agent = Agent(server, node_id)
    answer = agent.register(**fields)
    assert answer.status == 200, answer.text
    return agent


def read_during(server: HttpClient, path: str, write: Callable[[], Any]) -> Answer:
    """Return what a blocking read answers while which a write is made."""
    answers: list[Answer] = []
    reader = threading.Thread(target=lambda: answers.append(server.get(path)))
    reader.start()
    time.sleep(WAITING_S)
    write()
    reader.join()
    return answers[0]
