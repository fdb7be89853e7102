"""An API with ACLs on, with work on its nodes, and a token of every kind."""

from collections.abc import Mapping
from typing import Any, Final

from nodestate.model.acl import MANAGEMENT
from nodestate.model.command import Command, RegisterJob
from nodestate.model.outcome import Accepted
from nodestate.model.timestamp import Timestamp
from tests.api.conftest import NODE_ID, OTHER_ID, SECRET, Answer, Api, node_body
from tests.api.working import DRIVERS, ROOM, job_body, schedule
from tests.fsm.acls import (
    delete_tokens,
    new_token,
    put_policies,
    put_tokens,
    secret_of,
    uuid,
)

READS_ALL: Final = """
namespace "*" { policy = "read" }
node { policy = "read" }
agent { policy = "read" }
operator { policy = "read" }
host_volume "*" { policy = "read" }
node_pool "*" { policy = "read" }
"""
WRITES_ALL: Final = READS_ALL.replace("read", "write")
DENIES_ALL: Final = READS_ALL.replace("read", "deny")

OTHER_SECRET: Final = "6f8d9c11-0000-4000-8000-000000000002"
KINDS: Final[Mapping[str, str]] = {
    "none": "",
    "malformed": "nonsense",
    "unknown": "11111111-2222-3333-4444-555555555555",
    "accessor": uuid(6),
    "expired": secret_of(1),
    "deleted": secret_of(2),
    "deny": secret_of(3),
    "read": secret_of(4),
    "write": secret_of(5),
    "management": secret_of(6),
    "own agent": SECRET,
    "other agent": OTHER_SECRET,
}
"""What is shown by each kind of caller."""
FREE_NUMBER: Final = 20
"""From here on no token has the number."""


class Guarded:
    """The API, and how to ask it as somebody."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._number = FREE_NUMBER

    def apply(self, command: Command) -> Accepted:
        """Do what some other server was asked to do."""
        outcome = self.api.replica.apply(command)
        assert isinstance(outcome, Accepted), outcome
        return outcome

    def may(self, **rules: str) -> str:
        """Return the secret of a new token with policies of its own."""
        self._number += 1
        names = {f"{name}-{self._number}": text for name, text in rules.items()}
        self.apply(put_policies(**names))
        token = new_token(self._number, policies=tuple(names))
        self.apply(put_tokens(token))
        return secret_of(self._number)

    async def ask(
        self, method: str, path: str, secret: str, body: object = None, **more: str
    ) -> Answer:
        headers = {"X-Nomad-Token": secret} if secret else {}
        headers |= {name.replace("_", "-"): text for name, text in more.items()}
        return await self.api.ask(method, path, body, headers)

    async def get(self, path: str, secret: str) -> Answer:
        return await self.ask("GET", path, secret)

    async def put(
        self, path: str, secret: str, body: object = None, **more: str
    ) -> Answer:
        return await self.ask("PUT", path, secret, body, **more)

    async def run_job(self, id_: str, namespace: str = "default") -> None:
        """Have a job of a namespace run on the nodes that there are."""
        body = {"Job": job_body(id_, Namespace=namespace)}
        path = f"/v1/jobs?namespace={namespace}"
        answer = await self.put(path, KINDS["management"], body)
        assert answer.status == 200, answer.text
        assert isinstance(self.api.proposer.commands[-1], RegisterJob)
        schedule(self.api)

    def busy_node(self) -> tuple[str, str]:
        """Return the id and the SecretID of the node that the first job runs on."""
        found = self.api.replica.state().allocations[self.allocation_of("web")]
        is_first = found.node_id == NODE_ID
        return (NODE_ID, SECRET) if is_first else (OTHER_ID, OTHER_SECRET)

    def allocation_of(self, job_id: str) -> str:
        """Return the id of a job's allocation."""
        found = self.api.replica.state().allocations.values()
        return next(one.id for one in found if one.job_id == job_id)


async def guard(api: Api) -> Guarded:
    """Make tokens of all kinds, two nodes, and a job in each of two namespaces."""
    guarded = Guarded(api)
    guarded.apply(
        put_policies(reading=READS_ALL, writing=WRITES_ALL, denying=DENIES_ALL)
    )
    over = Timestamp(api.clock.now_ns())
    guarded.apply(
        put_tokens(
            new_token(1, policies=("writing",), expiration_time=over),
            new_token(2, policies=("writing",)),
            new_token(3, policies=("writing", "denying")),
            new_token(4, policies=("reading",)),
            new_token(5, policies=("writing",)),
            new_token(6, type=MANAGEMENT, policies=None),
        )
    )
    guarded.apply(delete_tokens(uuid(2)))
    for node_id, secret in ((NODE_ID, SECRET), (OTHER_ID, OTHER_SECRET)):
        fields: dict[str, Any] = {"NodeResources": ROOM, "Drivers": DRIVERS}
        body = {"Node": node_body(node_id, SecretID=secret, **fields)}
        answer = await guarded.put("/v1/nodes", KINDS["management"], body)
        assert answer.status == 200, answer.text
    await guarded.run_job("web")
    await guarded.run_job("team-web", "team")
    return guarded
