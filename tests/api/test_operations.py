"""What is said of each route is what its handler looks at, and there is none of which nothing is said."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pytest
from typing_extensions import override

from nodestate.api import parameters
from nodestate.api.described import NEVER
from nodestate.api.idempotency import INVALID_KEY
from nodestate.api.operations import OPERATIONS
from nodestate.api.routes import ROUTES
from tests.api.conftest import ApiFactory
from tests.api.everything import Asked, ask_everything


class SpiedQuery(dict[str, str]):
    """A query that remembers which parameters somebody looked at."""

    def __init__(self, pairs: Mapping[str, str], looked_at: set[str]) -> None:
        super().__init__(pairs)
        self._looked_at = looked_at

    @override
    def get(self, name: str, default: Any = None) -> Any:
        self._looked_at.add(name)
        return super().get(name, default)

    @override
    def __getitem__(self, name: str) -> str:
        self._looked_at.add(name)
        return super().__getitem__(name)

    @override
    def __contains__(self, name: object) -> bool:
        self._looked_at.add(str(name))
        return super().__contains__(name)


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The parameters that handlers have looked at since it was last cleared."""
    names: set[str] = set()
    parse = parameters.parse_query
    monkeypatch.setattr(
        parameters, "parse_query", lambda text: SpiedQuery(parse(text), names)
    )
    return names


def test_something_is_said_of_every_route_and_of_nothing_else():
    assert {route.name for route in ROUTES} == set(OPERATIONS)


async def test_handlers_look_at_the_parameters_that_are_said_and_at_no_others(
    make_api: ApiFactory, looked_at: set[str]
):
    found: dict[str, set[str]] = defaultdict(set)

    def every_parameter(asked: Asked) -> dict[str, str]:
        looked_at.clear()
        return asked.all_parameters()

    async for told in ask_everything(make_api, every_parameter):
        assert told.answer.status < 500 or told.asked.operation.answer is NEVER, told
        found[told.asked.name] |= looked_at

    said = {
        name: {one.name for one in operation.parameters}
        for name, operation in OPERATIONS.items()
    }
    assert found == said


async def test_a_key_is_looked_at_where_that_is_said(make_api: ApiFactory):
    found: dict[str, bool] = {}

    async for told in ask_everything(make_api, Idempotency_Key="no key"):
        found[told.asked.name] = told.answer.body == INVALID_KEY.encode()

    assert found == {name: one.takes_key for name, one in OPERATIONS.items()}
