"""An API with ACLs on that was bootstrapped, and how to ask it as somebody."""

from collections.abc import Mapping
from typing import Any, Final

from tests.api.conftest import Answer, Api

NODE_READ: Final = 'node { policy = "read" }'
UNKNOWN_SECRET: Final = "11111111-2222-3333-4444-555555555555"


def as_who(secret: str, **more: str) -> dict[str, str]:
    """Return the headers of somebody's request."""
    headers = {"X-Nomad-Token": secret} if secret else {}
    return headers | {name.replace("_", "-"): text for name, text in more.items()}


class Acls:
    """An API, and the secret of its management token."""

    def __init__(self, api: Api, bootstrapped: Mapping[str, Any]) -> None:
        self.api = api
        self.secret: str = bootstrapped["SecretID"]
        self.accessor: str = bootstrapped["AccessorID"]

    async def get(self, path: str, secret: str | None = None) -> Answer:
        return await self.ask("GET", path, secret=secret)

    async def put(
        self, path: str, body: object = None, secret: str | None = None, **more: str
    ) -> Answer:
        return await self.ask("PUT", path, body, secret, **more)

    async def delete(self, path: str, secret: str | None = None) -> Answer:
        return await self.ask("DELETE", path, secret=secret)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        secret: str | None = None,
        **more: str,
    ) -> Answer:
        """Ask as the manager, unless another secret is given; an empty one is none."""
        headers = as_who(self.secret if secret is None else secret, **more)
        return await self.api.ask(method, path, body, headers)

    async def policy(self, name: str, rules: str = NODE_READ, **fields: str) -> Answer:
        body = {"Name": name, "Rules": rules, **fields}
        answer = await self.put(f"/v1/acl/policy/{name}", body)
        assert answer.status == 200, answer.text
        return answer

    async def token(self, *policies: str, **fields: Any) -> dict[str, Any]:
        """Make a token of a client, and return it."""
        body = {"Name": "t", "Type": "client", "Policies": list(policies), **fields}
        answer = await self.put("/v1/acl/token", body)
        assert answer.status == 200, answer.text
        made: dict[str, Any] = answer.json
        return made

    async def role(self, name: str, *policies: str) -> dict[str, Any]:
        body = {"Name": name, "Policies": [{"Name": policy} for policy in policies]}
        answer = await self.put("/v1/acl/role", body)
        assert answer.status == 200, answer.text
        made: dict[str, Any] = answer.json
        return made


async def bootstrapped(api: Api) -> Acls:
    """Bootstrap, and return how to go on."""
    answer = await api.put("/v1/acl/bootstrap")
    assert answer.status == 200, answer.text
    return Acls(api, answer.json)
