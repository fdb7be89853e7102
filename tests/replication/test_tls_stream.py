"""TLS without sockets: what arrives is what was sent, or nothing is."""

import ssl

import pytest
from hypothesis import given, settings, strategies as st

from nodestate.config import ServerConfig
from nodestate.errors import PeerRefusedError
from nodestate.replication.tls_stream import TlsStream
from nodestate.secret import Secret, new_cluster_key
from nodestate.tls import PeerTls

KEY = new_cluster_key()
ONE = PeerTls(ServerConfig(name="server1", cluster_keys=Secret(KEY)))
TWO = PeerTls(ServerConfig(name="server2", cluster_keys=Secret(KEY)))
EU = PeerTls(ServerConfig(name="server2", region="eu", cluster_keys=Secret(KEY)))
HEADER_BYTES = 5


def pair() -> tuple[TlsStream, TlsStream]:
    """Two ends that know each other: the one that accepted, the one that dialled."""
    accepted = TlsStream(ONE, is_accepting=True)
    dialled = TlsStream(TWO, is_accepting=False)
    assert accepted.start() == b""
    to_accepted = dialled.start()
    while to_accepted:
        assert accepted.feed(to_accepted) == b""
        assert dialled.feed(accepted.take_outgoing()) == b""
        to_accepted = dialled.take_outgoing()
    return accepted, dialled


def records(sealed: bytes) -> list[bytes]:
    """Cut what is sent into the records of TLS."""
    found = []
    while sealed:
        length = HEADER_BYTES + int.from_bytes(sealed[3:HEADER_BYTES], "big")
        found.append(sealed[:length])
        sealed = sealed[length:]
    return found


def test_both_ends_know_the_other():
    accepted, dialled = pair()

    assert (accepted.peer_name, dialled.peer_name) == ("server2", "server1")


@settings(max_examples=30, deadline=None)
@given(
    messages=st.lists(st.binary(max_size=100_000), max_size=4),
    cut=st.integers(1, 50_000),
)
def test_what_is_sealed_arrives_in_order_however_it_is_cut(messages, cut):
    accepted, dialled = pair()
    sealed = b"".join(dialled.seal(message) for message in messages)

    received = b"".join(
        accepted.feed(sealed[start : start + cut])
        for start in range(0, len(sealed), cut)
    )

    assert received == b"".join(messages)
    assert not accepted.has_ended


def test_nothing_of_it_can_be_read_on_the_way():
    _, dialled = pair()

    assert b"secret" not in dialled.seal(b"secret" * 100)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_byte_ends_it_and_nothing_after_is_delivered(data):
    accepted, dialled = pair()
    sealed = dialled.seal(b"before" * 5000) + dialled.seal(b"after")
    at = data.draw(st.integers(0, len(sealed) - 1))
    bit = 1 << data.draw(st.integers(0, 7))

    changed = sealed[:at] + bytes([sealed[at] ^ bit]) + sealed[at + 1 :]
    try:
        received = accepted.feed(changed)
    except PeerRefusedError:
        received = b""
        assert accepted.has_ended
        assert accepted.take_outgoing()  # the other side is told
        with pytest.raises(PeerRefusedError):
            accepted.feed(dialled.seal(b"more"))
    # A length that was made larger only keeps the rest waiting.
    assert (b"before" * 5000 + b"after").startswith(received)
    assert b"after" not in received


def tampered(name: str, sent: list[bytes]) -> list[bytes]:
    one, two, three = sent
    return {
        "repeated": [one, one, two, three],
        "dropped": [one, three],
        "swapped": [two, one, three],
        "repeated later": [one, two, three, one],
        "cut": [one, two[:-1], three],
        "none at first": [two, three],
        "made longer": [one, two[:3] + b"\xff\xff" + two[5:], three],
        "plain": [one, b"\x17\x03\x03\x00\x05hello", three],
        "another version": [one, b"\x17\x02\x00" + two[3:], three],
    }[name]


@pytest.mark.parametrize(
    ("name", "delivered"),
    [
        ("repeated", b"1"),
        ("dropped", b"1"),
        ("swapped", b""),
        ("repeated later", b"123"),
        ("cut", b"1"),
        ("none at first", b""),
        ("made longer", b"1"),
        ("plain", b"1"),
        ("another version", b"1"),
    ],
)
def test_records_out_of_their_place_are_refused(name, delivered):
    accepted, dialled = pair()
    sent = [dialled.seal(text) for text in (b"1", b"2", b"3")]
    received: list[bytes] = []

    with pytest.raises(PeerRefusedError, match="TLS: "):
        received.extend(map(accepted.feed, tampered(name, sent)))

    assert accepted.has_ended
    assert b"".join(received) == delivered


def test_a_recorded_stream_is_of_no_use_a_second_time():
    accepted = TlsStream(ONE, is_accepting=True)
    dialled = TlsStream(TWO, is_accepting=False)
    recorded = [dialled.start()]
    accepted.feed(recorded[0])
    dialled.feed(accepted.take_outgoing())
    recorded += [dialled.take_outgoing(), dialled.seal(b"take a vote")]
    assert accepted.feed(recorded[1]) + accepted.feed(recorded[2]) == b"take a vote"

    again = TlsStream(ONE, is_accepting=True)
    again.feed(recorded[0])
    with pytest.raises(PeerRefusedError):
        again.feed(recorded[1])

    assert again.peer_name == ""


@pytest.mark.parametrize("is_accepting", [True, False])
def test_what_an_end_said_itself_is_not_taken_back(is_accepting):
    accepted, dialled = pair()
    end = accepted if is_accepting else dialled

    with pytest.raises(PeerRefusedError, match=r"TLS: .*bad record mac"):
        end.feed(end.seal(b"reflected"))


def test_a_first_flight_that_comes_back_is_refused():
    dialled = TlsStream(TWO, is_accepting=False)

    with pytest.raises(PeerRefusedError, match="unexpected message"):
        dialled.feed(dialled.start())


@pytest.mark.parametrize(
    "noise",
    [
        b"\x00\x00\x00\x20" + b"\x94\x01\x01\xa7server2" * 3,
        b"GET / HTTP/1.1\r\nHost: peer\r\n\r\n",
        b"\x16\x03\x01\xff\xff" + bytes(70_000),
        b"\xff" * 100,
        bytes(100),
    ],
)
def test_bytes_that_are_no_tls_are_refused(noise):
    accepted = TlsStream(ONE, is_accepting=True)

    with pytest.raises(PeerRefusedError, match="TLS: "):
        accepted.feed(noise)

    assert accepted.peer_name == ""


def test_a_server_of_another_region_is_refused_by_either_end():
    accepted = TlsStream(ONE, is_accepting=True)
    dialled = TlsStream(EU, is_accepting=False)
    accepted.feed(dialled.start())

    with pytest.raises(PeerRefusedError, match="another region"):
        dialled.feed(accepted.take_outgoing())
    with pytest.raises(PeerRefusedError, match="another region"):
        accepted.feed(dialled.take_outgoing())

    assert (accepted.peer_name, dialled.peer_name) == ("", "")


def test_a_farewell_comes_after_what_was_sent():
    accepted, dialled = pair()
    sealed = dialled.seal(b"last")
    with pytest.raises(ssl.SSLWantReadError):
        dialled._session.unwrap()

    received = accepted.feed(sealed + dialled.take_outgoing())

    assert received == b"last"
    assert accepted.has_ended
    assert accepted.seal(b"too late") == b""
    with pytest.raises(PeerRefusedError, match="bytes after the end"):
        accepted.feed(b"more")
