"""Pages of others: which requests they can have sent, and who notices nothing."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from nodestate.api import origins
from nodestate.api.origins import OriginCheck
from nodestate.config import ServerConfig, ServerEntry
from tests.api.conftest import NODE_PATH, Api, request_bytes

WRITES = ("PUT", "POST", "DELETE", "PATCH", "BREW")
INELIGIBLE = {"Eligibility": "ineligible"}


def asked(method: str = "GET", **headers: str) -> web.BaseRequest:
    """Return as much of a request as is looked at."""
    lines = {name.replace("_", "-"): text for name, text in headers.items()}
    request = SimpleNamespace(
        method=method, headers=CIMultiDictProxy(CIMultiDict(lines))
    )
    return cast(web.BaseRequest, request)


def check(**settings: Any) -> OriginCheck:
    return OriginCheck(ServerConfig(**settings))


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:4646", "10.1.2.3:80", "[::1]", "[::1]:4646"),
        *("localhost", "LOCALHOST:4646", "localhost.", "app.localhost:80"),
        *("server1", "nodes.example", "NODES.example:4646", "s2", "db.internal:1"),
    ],
)
def test_who_asks_by_an_address_or_a_known_name_is_answered(host):
    others = (ServerEntry(name="s2", peer="127.0.0.1:1", http="db.internal:4646"),)
    known = check(http_hosts_allowed=("nodes.example",), servers=others)

    for _ in range(2):
        assert known.problem_with(asked(Host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:4646",
            "localhost.evil.example",
            "notlocalhost",
        ),
        *("127.0.0.1.evil.example", "1", "", ":4646", "[evil]", "0x7f000001:80"),
        *("127.0.0.1@evil.example", "evil.example#localhost", "é.example"),
        *("[::1]evil.example", "[::1", "localhost:80@evil.example", "127.0.0.1:1.a"),
        *("[fe80::1%evil.example]", "localhost:80:81"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_page_whose_name_leads_here_is_refused(host, method):
    problem = check().problem_with(asked(method, Host=host))

    assert problem is not None
    assert (problem.status, problem.closes) == (403, True)
    assert "http_hosts_allowed" in problem.text


def test_what_is_shown_of_a_host_is_short_and_plain():
    problem = check().problem_with(asked(Host="é\x1b" + "a" * 10_000))

    assert problem is not None
    assert problem.text.isascii()
    assert problem.text.isprintable()
    assert len(problem.text) < 200


@pytest.mark.parametrize("http", ["0.0.0.0:4646", "10.0.0.1:4646", "nodes.example:80"])
def test_a_server_that_others_can_reach_may_have_any_name(http):
    assert check(http=http).problem_with(asked(Host="whatever.example")) is None


def test_unless_it_is_told_its_names():
    told = check(http="0.0.0.0:4646", http_hosts_allowed=("nodes.example",))

    assert told.problem_with(asked(Host="nodes.example:4646")) is None
    assert told.problem_with(asked(Host="10.0.0.1:4646")) is None
    assert told.problem_with(asked(Host="whatever.example")) is not None


def test_a_request_without_a_host_is_no_browsers():
    assert check().problem_with(asked()) is None


def test_names_that_are_remembered_have_a_limit(monkeypatch):
    monkeypatch.setattr(origins, "HOSTS_KEPT_MAX", 3)
    one = check()

    for number in range(10):
        assert one.problem_with(asked(Host=f"127.0.0.1:{number}")) is None

    assert len(one._hosts_known) <= 3


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://127.0.0.1:4646.evil.example"},
        {"Origin": "file://127.0.0.1:4646"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
    ],
)
@pytest.mark.parametrize("http", ["127.0.0.1:4646", "0.0.0.0:4646"])
def test_a_page_of_another_origin_may_not_write(http, headers, method):
    request = asked(method, Host="127.0.0.1:4646", **headers)

    problem = check(http=http).problem_with(request)

    assert problem is not None
    assert problem.status == 403
    assert "http_origins_allowed" in problem.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Sec_Fetch_Site": "none"},
        {"Sec_Fetch_Site": "same-origin"},
        {"Origin": "http://127.0.0.1:4646", "Sec_Fetch_Site": "same-origin"},
        {"Origin": "https://nodes.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "HTTPS://Nodes.example"},
    ],
)
@pytest.mark.parametrize("method", WRITES)
def test_programs_and_pages_that_may_do_write(method, headers):
    allowed = check(http_origins_allowed=("https://nodes.example",))

    assert allowed.problem_with(asked(method, Host="127.0.0.1:4646", **headers)) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost", "localhost:80"),
        ("http://localhost:80", "localhost"),
        ("https://localhost", "localhost"),
        ("http://[::1]:4646", "[::1]:4646"),
        ("http://LocalHost:4646", "localhost:4646"),
    ],
)
def test_its_own_pages_are_known_by_where_they_ask(origin, host):
    assert check().problem_with(asked("PUT", Host=host, Origin=origin)) is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_who_cannot_change_anything_is_not_asked_where_from(method):
    request = asked(method, Host="localhost", Origin="https://evil.example")

    assert check().problem_with(request) is None


@pytest.mark.parametrize("acl_enabled", [False, True])
async def test_a_write_of_another_page_changes_nothing(make_api, acl_enabled):
    api: Api = await make_api(
        acl_enabled=acl_enabled, http_response_headers={"foo": "bar"}
    )
    headers = {"Origin": "https://evil.example", "Content-Type": "text/plain"}

    answer = await api.ask("PUT", f"{NODE_PATH}/eligibility", INELIGIBLE, headers)

    assert answer.status == 403
    assert "'https://evil.example'" in answer.text
    assert answer.headers["x-nodestate-outcome"] == "none"
    assert answer.headers["foo"] == "bar"
    assert api.proposer.commands == []


@pytest.mark.parametrize("acl_enabled", [False, True])
@pytest.mark.parametrize("path", ["/v1/nodes", "/v1/status/leader", "/v1/bogus", "/"])
async def test_a_page_reads_nothing_under_a_name_of_its_own(
    make_api, path, acl_enabled
):
    api: Api = await make_api(acl_enabled=acl_enabled)
    sent = request_bytes("GET", path).replace(b"localhost", b"evil.example:4646")

    async with api.connected() as (reader, writer):
        writer.write(sent)
        received = await reader.read()

    assert received.startswith(b"HTTP/1.1 403 ")
    assert b"http_hosts_allowed" in received
    assert b"X-Nomad" not in received
