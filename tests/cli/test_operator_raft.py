"""`operator raft`."""

import msgspec
import pytest

from tests.scripted_server import Answer

CONFIGURATION = "/v1/operator/raft/configuration"
PEER = "/v1/operator/raft/peer"
TRANSFER = "/v1/operator/raft/transfer-leadership"


def server(number, *, leader=False, voter=True):
    return {
        "ID": f"server{number}",
        "Node": f"server{number}.global",
        "Address": f"10.0.0.{number}:4647",
        "Leader": leader,
        "Voter": voter,
        "RaftProtocol": "3",
    }


@pytest.fixture
def served(scripted):
    servers = [server(1, leader=True), server(2), server(3, voter=False)]
    scripted.on(CONFIGURATION, Answer({"Index": 9, "Servers": servers}))
    return scripted


async def test_the_peers_are_listed_as_nomad_lists_them(served, run):
    ran = await run("operator", "raft", "list-peers")

    assert ran.out == (
        "Node            ID       Address        State     Voter  RaftProtocol\n"
        "server1.global  server1  10.0.0.1:4647  leader    true   3\n"
        "server2.global  server2  10.0.0.2:4647  follower  true   3\n"
        "server3.global  server3  10.0.0.3:4647  follower  false  3\n"
    )
    assert (ran.code, ran.err) == (0, "")
    assert served.queries(CONFIGURATION) == [{}]


async def test_the_peers_can_be_had_stale_and_as_json(served, run):
    ran = await run("operator", "raft", "list-peers", "-stale", "-json")

    assert msgspec.json.decode(ran.out)["Servers"][0] == server(1, leader=True)
    assert served.queries(CONFIGURATION) == [{"stale": "true"}]


@pytest.mark.parametrize(
    ("flag", "value", "parameter", "words"),
    [
        ("-peer-id", "server3", "id", 'Removed peer with id "server3"\n'),
        (
            "-peer-address",
            "10.0.0.3:4647",
            "address",
            'Removed peer with address "10.0.0.3:4647"\n',
        ),
    ],
)
async def test_a_peer_is_removed(served, run, flag, value, parameter, words):
    served.on(PEER, Answer(""))

    ran = await run("operator", "raft", "remove-peer", flag, value)

    assert (ran.code, ran.out, ran.err) == (0, words, "")
    (asked,) = served.asked
    assert (asked.method, asked.query) == ("DELETE", {parameter: value})


async def test_a_peer_is_added(served, run):
    served.on(PEER, Answer({"Index": 12}))
    flags = ["-peer-id", "server4", "-peer-address", "h:1", "-peer-http", "h:2"]

    ran = await run("operator", "raft", "add-peer", *flags)

    assert ran.code == 0
    assert ran.out == 'Added peer with id "server4": it votes once it has caught up\n'
    (asked,) = served.asked
    assert asked.method == "POST"
    assert asked.query == {"id": "server4", "address": "h:1", "http": "h:2"}


@pytest.mark.parametrize("word", ["transfer-leadership", "transfer"])
@pytest.mark.parametrize(
    ("flags", "sent"),
    [
        ([], {}),
        (["-peer-id", "server2"], {"id": "server2"}),
        (["-peer-address", "10.0.0.2:4647"], {"address": "10.0.0.2:4647"}),
    ],
)
async def test_leadership_is_transferred(served, run, word, flags, sent):
    from_ = {"ID": "server1", "Address": "10.0.0.1:4647"}
    to = {"ID": "server2", "Address": "10.0.0.2:4647"}
    answer = {"From": from_, "To": to, "Noop": False, "Err": None}
    served.on(TRANSFER, Answer(answer))

    ran = await run("operator", "raft", word, *flags)

    assert ran.code == 0
    assert ran.out == 'Leadership transferred to "server2" (10.0.0.2:4647)\n'
    (asked,) = served.asked
    assert (asked.method, asked.query) == ("POST", sent)


async def test_who_leads_already_need_not_be_given_leadership(served, run):
    leader = {"ID": "server1", "Address": "10.0.0.1:4647"}
    served.on(TRANSFER, Answer({"From": leader, "To": leader, "Noop": True}))

    ran = await run("operator", "raft", "transfer", "-peer-id", "server1")

    assert (ran.code, ran.out) == (
        0,
        'Server "server1" (10.0.0.1:4647) leads already\n',
    )


BOTH = ["-peer-id", "a", "-peer-address", "h:1"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list-peers", "x"], "This command takes no arguments"),
        (["remove-peer", "server3"], "This command takes no arguments"),
        (["remove-peer"], "An address or id is required for the peer to remove"),
        (["remove-peer", *BOTH], "Cannot give both an address and id"),
        (["transfer", *BOTH], "Cannot give both an address and id"),
        (["transfer", "x"], "This command takes no arguments"),
        (["add-peer", *BOTH], "-peer-id, -peer-address and -peer-http are all"),
        (["add-peer", "x"], "This command takes no arguments"),
    ],
)
async def test_what_does_not_go_together_is_refused(served, run, words, complaint):
    ran = await run("operator", "raft", *words)

    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(complaint)
    assert served.asked == []


@pytest.mark.parametrize(
    ("words", "path", "doing"),
    [
        (["list-peers"], CONFIGURATION, "Failed to retrieve raft configuration"),
        (["remove-peer", "-peer-id=a"], PEER, "Error removing peer"),
        (
            ["add-peer", "-peer-id=a", "-peer-address=h:1", "-peer-http=h:2"],
            PEER,
            "Error adding peer",
        ),
        (["transfer"], TRANSFER, "Error transferring leadership"),
    ],
)
async def test_errors_say_what_failed_and_whether_it_may_still_happen(
    served, run, words, path, doing
):
    served.on(
        path,
        Answer("Permission denied", 403),
        Answer("outcome unknown", 504, headers={"X-Nodestate-Outcome": "unknown"}),
    )

    refused = await run("operator", "raft", *words)
    unknown = await run("operator", "raft", *words)

    assert (refused.code, refused.err) == (
        1,
        f"{doing}: Unexpected response code: 403 (Permission denied)\n",
    )
    assert unknown.code == 3
