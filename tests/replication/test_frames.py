import random
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from nodestate.errors import FrameError
from nodestate.replication.frames import (
    FRAME_BYTES_MAX,
    HANDSHAKE_FRAME_BYTES_MAX,
    ID_LENGTH_MAX,
    LENGTH_BYTES,
    MEMBERS_MAX,
    Answer,
    AppendEntries,
    AppendReply,
    Formation,
    Hello,
    Message,
    Proposal,
    ProposalReply,
    Question,
    Refusal,
    RequestVote,
    VoteReply,
    Welcome,
    answer_reader,
    encode_frame,
    hello_reader,
    message_reader,
)
from nodestate.replication.records import Entry

BIG = (1 << 63) - 1
FORMATION = Formation("cluster", (("server1", "a"), ("server2", "b")))
MESSAGES: list[Message] = [
    RequestVote(1, 2, 3, is_pre_vote=True, is_transfer=True),
    RequestVote(BIG, 0, 0),
    VoteReply(1, is_granted=True, is_pre_vote=False),
    AppendEntries(1, 2, 3, 4, 5, ()),
    AppendEntries(1, 2, 3, 4, 5, (Entry(b"a", 3, 1), Entry(b"", BIG, BIG))),
    AppendReply(
        1, 2, is_success=False, match_index=3, conflict_index=4, conflict_term=5
    ),
    Proposal(1, b"body"),
    ProposalReply(1, 2, 3, "no"),
    Question(1, b"?"),
    Answer(1, b"!", ""),
]
STREAM = b"".join(map(encode_frame, MESSAGES))


def frame(body: bytes) -> bytes:
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_survives_the_round_trip(message):
    assert message_reader().feed(encode_frame(message)) == [message]


def test_entries_come_back_as_entries():
    sent = AppendEntries(1, 2, 3, 4, 5, (Entry(b"a", 3, 1),))

    (received,) = message_reader().feed(encode_frame(sent))

    assert isinstance(received, AppendEntries)
    assert isinstance(received.entries[0], Entry)
    assert type(received.entries[0].body) is bytes


@pytest.mark.parametrize("formation", [None, FORMATION])
def test_the_handshake_survives_the_round_trip(formation):
    hello = Hello(1, "server1", "incarnation", formation)
    welcome = Welcome("server2", "incarnation", formation)
    refusal = Refusal("not you")

    assert hello_reader().feed(encode_frame(hello)) == [hello]
    assert answer_reader().feed(encode_frame(welcome)) == [welcome]
    assert answer_reader().feed(encode_frame(refusal)) == [refusal]


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64])
def test_pieces_of_any_size_give_the_same_messages(size):
    reader = message_reader()
    messages: list[Message] = []

    for start in range(0, len(STREAM), size):
        messages += reader.feed(STREAM[start : start + size])

    assert messages == MESSAGES
    assert reader.kept_bytes() == 0


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_any_cuts_give_the_same_messages(cuts):
    reader = message_reader()
    messages: list[Message] = []
    edges = [0, *sorted(cuts), len(STREAM)]

    for start, end in pairwise(edges):
        messages += reader.feed(STREAM[start:end])

    assert messages == MESSAGES


def test_a_stream_cut_at_any_length_gives_what_is_whole():
    for length in range(len(STREAM)):
        messages = message_reader().feed(STREAM[:length])
        assert messages == MESSAGES[: len(messages)]
        whole = sum(len(encode_frame(message)) for message in messages)
        assert 0 <= length - whole < 80


def test_a_length_beyond_the_limit_is_refused_before_anything_arrives():
    reader = message_reader()
    reader.feed((FRAME_BYTES_MAX).to_bytes(LENGTH_BYTES, "big"))

    with pytest.raises(FrameError, match=str(FRAME_BYTES_MAX + 1)):
        message_reader().feed((FRAME_BYTES_MAX + 1).to_bytes(LENGTH_BYTES, "big"))


def test_a_handshake_frame_has_a_smaller_limit():
    length = (HANDSHAKE_FRAME_BYTES_MAX + 1).to_bytes(LENGTH_BYTES, "big")

    for reader in (hello_reader(), answer_reader()):
        with pytest.raises(FrameError, match="at most"):
            reader.feed(length)


def test_a_frame_of_exactly_the_limit_passes_and_one_more_does_not():
    overhead = len(encode_frame(Proposal(1, bytes(1 << 20)))) - LENGTH_BYTES - (1 << 20)
    fits = Proposal(1, bytes(FRAME_BYTES_MAX - overhead))

    assert message_reader().feed(encode_frame(fits)) == [fits]
    with pytest.raises(FrameError, match="at most"):
        encode_frame(Proposal(1, bytes(FRAME_BYTES_MAX - overhead + 1)))


def test_entries_of_every_awkward_size_pass_whole():
    for size in [k * 65536 + d for k in (1, 2, 3, 5) for d in (-60, -51, -1, 0, 1)]:
        message = AppendEntries(1, 0, 0, 0, 1, (Entry(b"z" * size, 1, 1),))
        assert message_reader().feed(encode_frame(message)) == [message]


def test_a_large_frame_that_trickles_in_is_not_copied_again_and_again():
    message = Proposal(1, bytes(4 << 20))
    data = encode_frame(message)
    reader = message_reader()
    messages: list[Message] = []

    for start in range(0, len(data), 64):
        # Quadratic copying would move over a hundred gigabytes here.
        messages += reader.feed(data[start : start + 64])

    assert messages == [message]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x91\x63",
        b"\x94\x0a\x01\x02\xff",
        b"\x94\x0a\x01\x02\xcf" + b"\xff" * 8,
        b"\x93\x0e\x01\xa1x",
        b"\x93\x0e\x01\xc4\x05abc",
        b"\x95\x0f\x01\x02\x03\xa1\xff",
        b"\x95\x0f\x01\x02\x03\xda\xff\xff",
        b"\x97\x0c\x01\x02\x03\x04\x05\x91\x92\xc4\x01a\x01",
        b"\x97\x0c\x01\x02\x03\x04\x05\x91\x93\xc4\x01a\x01\xff",
        b"\x91" * 5000,
        encode_frame(MESSAGES[0])[LENGTH_BYTES:] + b"\0",
        encode_frame(Refusal("of the handshake"))[LENGTH_BYTES:],
        b"\x80\x02csystem\x85q\x01.",
    ],
)
def test_bytes_that_are_no_message_are_refused(body):
    with pytest.raises(FrameError):
        message_reader().feed(frame(body))


def test_a_message_is_no_hello():
    for message in MESSAGES:
        with pytest.raises(FrameError):
            hello_reader().feed(encode_frame(message))


@pytest.mark.parametrize(
    "hello",
    [
        Hello(1, "s" * (ID_LENGTH_MAX + 1), "i", None),
        Hello(1, "s", "i" * (ID_LENGTH_MAX + 1), None),
        Hello(-1, "s", "i", None),
        Hello(1, "s", "i", Formation("c", (("a", "b"),) * (MEMBERS_MAX + 1))),
    ],
)
def test_a_field_beyond_its_bound_is_refused(hello):
    with pytest.raises(FrameError):
        hello_reader().feed(encode_frame(hello))


def test_no_flipped_bit_raises_anything_but_a_frame_error():
    refused_count = 0
    for message in MESSAGES:
        data = encode_frame(message)
        for bit in range(len(data) * 8):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            try:
                message_reader().feed(bytes(damaged))
            except FrameError:
                refused_count += 1
    assert refused_count > 100


def test_noise_raises_nothing_but_a_frame_error():
    rng = random.Random(7)
    for _ in range(3000):
        body = rng.randbytes(rng.randrange(60))
        for reader in (message_reader(), hello_reader(), answer_reader()):
            try:
                reader.feed(frame(body))
            except FrameError:
                continue
