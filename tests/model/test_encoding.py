"""Records as JSON and as MessagePack."""

import msgspec
import pytest

from nodestate.model.encoding import (
    MSGPACK,
    TIME_NS_MAX,
    TIME_NS_MIN,
    encode_json,
    from_json_value,
    msgpack_decoder,
)
from nodestate.model.node import NodeEvent
from nodestate.model.timestamp import NO_TIME, Timestamp, format_rfc3339
from nodestate.secret import Secret

NOW_NS = 1_764_000_000 * 10**9
DEADLINE_NS_MAX = 2**63 - 1
EVENT = NodeEvent(message="m", details={"b": "2", "a": "1"}, timestamp=Timestamp(1))


def test_json_is_compact_and_spelt_as_nomad_spells_it():
    assert encode_json(EVENT) == (
        b'{"Message":"m","Subsystem":"","Details":{"b":"2","a":"1"},'
        b'"Timestamp":"1970-01-01T00:00:00.000000001Z","CreateIndex":0}'
    )


def test_no_time_is_null():
    assert b'"Timestamp":null' in encode_json(NodeEvent())


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (None, NO_TIME),
        ("0001-01-01T00:00:00Z", NO_TIME),
        ("1970-01-01T00:00:01Z", Timestamp(10**9)),
    ],
)
def test_times_are_read_from_json(value, time):
    assert from_json_value(Timestamp, value) == time


@pytest.mark.parametrize("ns", [TIME_NS_MIN, TIME_NS_MAX, NOW_NS + DEADLINE_NS_MAX])
def test_the_first_and_the_last_time_can_be_kept(ns):
    """What is shown must be readable: a drain may end in 290 years."""
    time = from_json_value(Timestamp, format_rfc3339(ns))

    assert msgpack_decoder(Timestamp).decode(MSGPACK.encode(time)) == Timestamp(ns)


@pytest.mark.parametrize("ns", [TIME_NS_MIN - 1, TIME_NS_MAX + 1])
def test_a_time_that_cannot_be_kept_is_refused(ns):
    with pytest.raises(ValueError, match="time out of range"):
        from_json_value(Timestamp, format_rfc3339(ns))


@pytest.mark.parametrize("value", [5, "yesterday", True, [], "9999-01-01T00:00:00Z"])
def test_what_is_no_time_is_refused(value):
    with pytest.raises(ValueError, match="time"):
        from_json_value(Timestamp, value)


def test_msgpack_reads_back_what_it_wrote():
    assert msgpack_decoder(NodeEvent).decode(MSGPACK.encode(EVENT)) == EVENT


def test_msgpack_does_not_show_the_order_of_a_map():
    other = msgspec.structs.replace(EVENT, details={"a": "1", "b": "2"})

    assert MSGPACK.encode(other) == MSGPACK.encode(EVENT)


def test_a_time_that_is_no_number_is_refused():
    content = msgspec.msgpack.encode({"Timestamp": "now"})

    with pytest.raises(msgspec.ValidationError, match="expected nanoseconds"):
        msgpack_decoder(NodeEvent).decode(content)


def test_types_that_nobody_thought_of_fail_loudly():
    """Not `repr`, not a dictionary: bytes that nobody could read back are no bytes."""
    with pytest.raises(NotImplementedError):
        encode_json(object())
    with pytest.raises(NotImplementedError):
        MSGPACK.encode(object())
    with pytest.raises(NotImplementedError):
        from_json_value(object, 1)
    with pytest.raises(NotImplementedError):
        msgpack_decoder(complex).decode(MSGPACK.encode(1))


def test_a_secret_is_kept_and_is_not_shown():
    secret = Secret("hidden")

    assert msgpack_decoder(Secret).decode(MSGPACK.encode(secret)) == secret
    assert encode_json({"SecretID": secret}) == b'{"SecretID":"<redacted>"}'


def test_what_is_no_text_is_no_secret():
    with pytest.raises(msgspec.ValidationError, match="expected a secret, found int"):
        msgpack_decoder(Secret).decode(MSGPACK.encode(5))
