"""The first management token: once, and again where an operator says so."""

import asyncio
from typing import Any

import pytest

from nodestate.model.question import ReadResetFile
from tests.api.aclworld import bootstrapped
from tests.api.conftest import Answer, Api

PATH = "/v1/acl/bootstrap"
CHOSEN = "0f6c2f60-5c1f-4a1e-9d9f-1a2b3c4d5e6f"


def done(index: int) -> str:
    return f"ACL bootstrap already done (reset index: {index})"


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("body", [None, "", "{}", "null", '{"BootstrapSecret": ""}'])
async def test_the_first_one_gets_a_management_token(guarded: Api, method, body):
    answer = await guarded.ask(method, PATH, body)

    token = answer.json
    assert answer.status == 200
    assert answer.nomad_headers() == {"x-nomad-index"}
    assert answer.index == token["CreateIndex"] == token["ModifyIndex"]
    assert (token["Name"], token["Type"]) == ("Bootstrap Token", "management")
    assert (token["Global"], token["Policies"]) == (True, None)
    assert token["Hash"] == "BUJ3BerTfrqFVm1P+vZr1gz9ubOkd+JAvYjNAJyaU9Y="
    own = await guarded.get("/v1/acl/token/self", {"X-Nomad-Token": token["SecretID"]})
    assert own.json == token


async def test_the_second_one_is_told_how_to_reset_and_is_not_in_the_log(guarded: Api):
    first = await guarded.put(PATH)
    written = guarded.replica.applied_index()

    for token in ("", first.json["SecretID"], "nonsense"):
        again = await guarded.ask("PUT", PATH, headers={"X-Nomad-Token": token})
        assert (again.status, again.text) == (400, done(first.index))

    assert guarded.replica.applied_index() == written


async def all_at_once(
    api: Api, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> list[Answer]:
    """Return what three are answered of whom none had been heard when the others asked."""
    proposed = []
    propose = api.proposer.propose

    def count(command: Any, **options: Any) -> Any:
        proposed.append(command)
        return propose(command, **options)

    monkeypatch.setattr(api.proposer, "propose", count)
    api.proposer.gate.clear()
    asking = [
        asyncio.create_task(api.ask("PUT", PATH, headers=headers)) for _ in range(3)
    ]
    await api.until(lambda: len(proposed) == 3)
    api.proposer.gate.set()
    answers = await asyncio.gather(*asking)
    return sorted(answers, key=lambda answer: answer.status)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="ACL-9.1"),
        # A key is no way to the token of another here, either.
        pytest.param({"Idempotency-Key": "1"}, id="with a key that others have too"),
    ],
)
async def test_of_many_at_once_one_gets_a_token(guarded: Api, monkeypatch, headers):
    answers = await all_at_once(guarded, monkeypatch, headers)

    assert [answer.status for answer in answers] == [200, 400, 400]
    assert {answer.text for answer in answers[1:]} == {done(answers[0].index)}
    assert len(guarded.replica.state().acl_tokens) == 1


async def test_a_reset_makes_another_and_older_ones_stay_good(guarded: Api):
    first = await bootstrapped(guarded)
    index = guarded.replica.applied_index()

    guarded.reset_index = index + 7
    wrong = await guarded.put(PATH)
    guarded.reset_index = index
    second = await guarded.put(PATH)
    third = await guarded.put(PATH)

    assert (wrong.status, wrong.text) == (
        400,
        f"Invalid bootstrap reset index (specified {index + 7}, reset index: {index})",
    )
    assert second.status == 200
    # The file may stay: it does not fit any more.
    assert (third.status, third.text) == (
        400,
        f"Invalid bootstrap reset index (specified {index}, "
        f"reset index: {second.index})",
    )
    for secret in (first.secret, second.json["SecretID"]):
        assert (await first.get("/v1/acl/tokens", secret)).status == 200
    assert guarded.questions.count(ReadResetFile()) == 3


async def test_the_secret_may_be_chosen(guarded: Api):
    answer = await guarded.put(PATH, {"BootstrapSecret": CHOSEN.upper()})

    assert answer.json["SecretID"] == CHOSEN


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"BootstrapSecret": "s3cret"}, "invalid acl token"),
        ({"BootstrapSecret": CHOSEN[1:]}, "invalid acl token"),
        ({"BootstrapSecret": 7}, "failed to decode request body: "),
        ("{", "failed to decode request body: "),
        ("[]", "failed to decode request body: "),
    ],
)
async def test_what_is_no_secret_is_refused_and_not_shown(guarded: Api, body, text):
    answer = await guarded.put(PATH, body)

    assert answer.status == 400
    assert answer.text.startswith(text)
    assert "s3cret" not in answer.text
    assert not guarded.replica.state().acl_tokens


async def test_a_key_is_no_way_to_the_token_of_another(guarded: Api):
    key = {"Idempotency-Key": "1"}
    first = await guarded.ask("PUT", PATH, headers=key)

    again = await guarded.ask("PUT", PATH, headers=key)

    assert (again.status, again.text) == (400, done(first.index))


async def test_who_knows_the_secret_may_ask_again_with_the_same_key(guarded: Api):
    body, key = {"BootstrapSecret": CHOSEN}, {"Idempotency-Key": "1"}
    first = await guarded.ask("PUT", PATH, body, key)

    again = await guarded.ask("PUT", PATH, body, key)
    without = await guarded.put(PATH, body)

    assert (again.status, again.body, again.index) == (200, first.body, first.index)
    assert again.headers["idempotency-replayed"] == "true"
    assert (without.status, without.text) == (400, done(first.index))


async def test_without_a_leader_nothing_comes_of_it(guarded: Api):
    guarded.leadership.lose(leader_id=None)

    asking = asyncio.create_task(guarded.put(PATH))
    await guarded.until(lambda: guarded.clock.timer_count() > 0)
    await guarded.pass_time(asking, 5)

    answer = await asking
    assert (answer.status, answer.text) == (503, "No cluster leader")
    assert answer.headers["x-nodestate-outcome"] == "none"


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "PATCH"])
async def test_it_is_a_write(guarded: Api, method):
    assert (await guarded.ask(method, PATH)).status == 405


async def test_without_acls_there_is_nothing_to_bootstrap(api: Api):
    answer = await api.put(PATH)

    assert (answer.status, answer.text) == (400, "ACL support disabled")
