"""What a request body may be, rule by rule, and that nothing else gets past."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from nodestate.api import shapes
from nodestate.api.bodies import PARTS_MAX, decode_body
from nodestate.api.problems import ProblemError
from nodestate.errors import RequestError
from nodestate.model.encoding import encode_json
from nodestate.model.naming import nomad_name
from nodestate.model.node import (
    CpuResources,
    DeviceAttribute,
    DeviceInstance,
    DeviceLocality,
    DeviceResource,
    DiskResources,
    DrainStrategy,
    Driver,
    HostVolume,
    LegacyResources,
    MemoryResources,
    NetworkResource,
    NodeEvent,
    NodeResources,
    Port,
    RequestedDevice,
    ReservedNetworks,
    ReservedResources,
)
from nodestate.model.timestamp import NO_TIME, Timestamp

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
BODY_BYTES_MAX = 1 << 20


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename=nomad_name):
    """What requests are made of."""


class Spec(Shape, frozen=True, kw_only=True):
    deadline: int = 0
    ignore_system_jobs: bool = False


class Sent(Shape, frozen=True, kw_only=True):
    """One field of every kind that a request can have."""

    eligibility: str = "unset"
    mark_eligible: bool = False
    count: int = 7
    weight: float | None = None
    at: Timestamp = NO_TIME
    drain_spec: Spec | None = None
    specs: list[Spec] | None = None
    by_name: dict[str, Spec] | None = None
    meta: dict[str, str] | None = None


def refusal(body: bytes, kind: type = Sent) -> str:
    with pytest.raises(RequestError) as refused:
        decode_body(body, kind)
    text = str(refused.value)
    text.encode("utf-8", "strict")
    return text


# What is taken


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(b"{}", Sent(), id="nothing set"),
        pytest.param(b"null", Sent(), id="null is an empty object"),
        pytest.param(b" \t\r\n{}", Sent(), id="white space before it"),
        pytest.param(b"{} }garbage", Sent(), id="garbage after the first value"),
        pytest.param(b"{}{", Sent(), id="a second value that is cut off"),
        pytest.param(b"{}\xff\x00", Sent(), id="bytes that are no text after it"),
        pytest.param(b"nullify", Sent(), id="text right after null"),
        pytest.param(b'{"Eligibility":"a"}', Sent(eligibility="a"), id="exact key"),
        pytest.param(b'{"ELIGIBILITY":"a"}', Sent(eligibility="a"), id="upper case"),
        pytest.param(b'{"eligibility":"a"}', Sent(eligibility="a"), id="lower case"),
        pytest.param(
            b'{"drainspec":{"DEADLINE":5}}',
            Sent(drain_spec=Spec(deadline=5)),
            id="any case inside an object",
        ),
        pytest.param(
            b'{"Eligibility":"a","Eligibility":"b"}',
            Sent(eligibility="b"),
            id="the last of two counts",
        ),
        pytest.param(
            b'{"Eligibility":"a","eligibility":"b"}',
            Sent(eligibility="b"),
            id="the last counts though the first is exact",
        ),
        pytest.param(
            b'{"eligibility":"a","Eligibility":"b"}',
            Sent(eligibility="b"),
            id="the last counts and is exact",
        ),
        pytest.param(
            b'{"Eligibility":"a","eligibility":null}',
            Sent(eligibility="a"),
            id="null leaves what was set before",
        ),
        pytest.param(
            b'{"DrainSpec":{"Deadline":5},"DrainSpec":null}',
            Sent(),
            id="null unsets what may be unset",
        ),
        pytest.param(
            b'{"Other":{"a":[1,2.5,"x",null,true]},"Count":1}',
            Sent(count=1),
            id="unknown keys are passed over",
        ),
        pytest.param(
            b'{"Eligibility":null,"MarkEligible":null,"Count":null,"At":null}',
            Sent(),
            id="null is as left out",
        ),
        pytest.param(
            b'{"DrainSpec":{"Deadline":null}}',
            Sent(drain_spec=Spec()),
            id="null inside an object",
        ),
        pytest.param(b'{"Count":-0}', Sent(count=0), id="minus nought"),
        pytest.param(
            b'{"Count":%d}' % INT64_MAX, Sent(count=INT64_MAX), id="largest integer"
        ),
        pytest.param(
            b'{"Count":%d}' % INT64_MIN, Sent(count=INT64_MIN), id="smallest integer"
        ),
        pytest.param(b'{"Weight":1.5}', Sent(weight=1.5), id="a float"),
        pytest.param(b'{"Weight":1}', Sent(weight=1.0), id="a float without a point"),
        pytest.param(b'{"Weight":1e3}', Sent(weight=1000.0), id="an exponent"),
        pytest.param(b'{"x":1e999}', Sent(), id="a huge number that nobody reads"),
        pytest.param(
            b'{"At":"1970-01-01T00:00:01Z"}',
            Sent(at=Timestamp(1_000_000_000)),
            id="a time",
        ),
        pytest.param(
            b'{"Specs":[{"Deadline":1},null]}',
            Sent(specs=[Spec(deadline=1), Spec()]),
            id="a list of objects",
        ),
        pytest.param(
            b'{"ByName":{"a":{"deadline":1},"A":null}}',
            Sent(by_name={"a": Spec(deadline=1), "A": Spec()}),
            id="a map of objects, whose keys keep their case",
        ),
        pytest.param(
            b'{"Meta":{"a":"x","b":null}}',
            Sent(meta={"a": "x", "b": ""}),
            id="null in a map of texts is an empty text",
        ),
        pytest.param(
            b'{"Meta":{"a":"x","a":"y"}}',
            Sent(meta={"a": "y"}),
            id="the last of a map's key counts",
        ),
        pytest.param(
            b'{"Eligibility":"a\xffb"}',
            Sent(eligibility="a\ufffdb"),
            id="a byte that is no UTF-8",
        ),
        pytest.param(
            b'{"Eligibility":"\\ud800x"}',
            Sent(eligibility="\ufffdx"),
            id="half of a surrogate pair",
        ),
        pytest.param(
            b'{"Meta":{"\\udfff":"\\ud83d\\ude00"}}',
            Sent(meta={"\ufffd": "\U0001f600"}),
            id="half a pair as a key, a whole one as a value",
        ),
        pytest.param(
            b'{"Eligibility":"\\u0000\\n"}', Sent(eligibility="\0\n"), id="escapes"
        ),
    ],
)
def test_is_taken(body: bytes, expected: Sent) -> None:
    decoded = decode_body(body, Sent)
    assert decoded == expected
    encode_json(decoded).decode("utf-8")


# What is refused


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_no_body_is_said_to_be_empty(body: bytes) -> None:
    assert refusal(body) == "Request body is empty"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"{ ",
        b'{"Eligibility"',
        b'{"Eligibility":',
        b'{"Eligibility":"elig',
        b'{"Eligibility":"a"',
        b'{"Eligibility":"a",',
        b'{"Specs":[',
        b'{"Specs":[{},',
    ],
)
def test_a_cut_body_is_said_to_end(body: bytes) -> None:
    assert " end" in refusal(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"garbage", id="a word"),
        pytest.param(b"nope", id="nearly null"),
        pytest.param(b"nul", id="null cut off"),
        pytest.param(b"\xef\xbb\xbf{}", id="a byte-order mark"),
        pytest.param(b"\xff\xfe{\0}\0", id="UTF-16"),
        pytest.param(b"\0", id="a nought byte"),
        pytest.param(b'\x0b{"Count":1}', id="white space that is none in JSON"),
        pytest.param(b'{"Count":1,}', id="a comma at the end of an object"),
        pytest.param(b'{"Specs":[{},]}', id="a comma at the end of a list"),
        pytest.param(b"{'Count':1}", id="single quotes"),
        pytest.param(b"{Count:1}", id="no quotes"),
        pytest.param(b'{"Count":1 /* one */}', id="a comment"),
        pytest.param(b'{"Count" 1}', id="no colon"),
        pytest.param(b'{"Count":01}', id="a leading nought"),
        pytest.param(b'{"Count":+1}', id="a plus sign"),
        pytest.param(b'{"Weight":.5}', id="no digit before the point"),
        pytest.param(b'{"Weight":1.}', id="no digit after the point"),
        pytest.param(b'{"Weight":NaN}', id="not a number"),
        pytest.param(b'{"Weight":-Infinity}', id="infinity"),
        pytest.param(b'{"x":NaN}', id="not a number where nobody reads it"),
        pytest.param(b'{"Eligibility":"a\nb"}', id="a raw line end in a text"),
        pytest.param(b'{"Eligibility":"\\x"}', id="an escape that is none"),
        pytest.param(b"[]", id="a list"),
        pytest.param(b'"x"', id="a text"),
        pytest.param(b"5", id="a number"),
        pytest.param(b"false", id="a boolean"),
    ],
)
def test_is_refused(body: bytes) -> None:
    assert "expected" in refusal(body)


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"Eligibility":5}', "Eligibility"),
        (b'{"Eligibility":{}}', "Eligibility"),
        (b'{"MarkEligible":1}', "MarkEligible"),
        (b'{"MarkEligible":"true"}', "MarkEligible"),
        (b'{"Count":"1"}', "Count"),
        (b'{"Count":true}', "Count"),
        (b'{"Count":1.5}', "Count"),
        (b'{"Count":1.0}', "Count"),
        (b'{"Count":1e9}', "Count"),
        (b'{"Count":%d}' % (INT64_MAX + 1), "Count"),
        (b'{"Count":%d}' % (INT64_MIN - 1), "Count"),
        (b'{"Weight":"1"}', "Weight"),
        (b'{"Weight":1e999}', "Weight"),
        (b'{"Weight":true}', "Weight"),
        (b'{"At":5}', "At"),
        (b'{"At":"yesterday"}', "At"),
        (b'{"DrainSpec":"x"}', "DrainSpec"),
        (b'{"DrainSpec":[]}', "DrainSpec"),
        (b'{"DrainSpec":{"Deadline":"1h"}}', "DrainSpec.Deadline"),
        (b'{"drainspec":{"deadline":1.5}}', "DrainSpec.Deadline"),
        (b'{"Specs":{}}', "Specs"),
        (b'{"Specs":[{},{"Deadline":""}]}', "Specs[1].Deadline"),
        (b'{"ByName":{"eth0":{"Deadline":[]}}}', "ByName.eth0.Deadline"),
        (b'{"ByName":[]}', "ByName"),
        (b'{"Meta":{"a":1}}', "Meta.a"),
        (b'{"Meta":{"a":{}}}', "Meta.a"),
    ],
)
def test_a_misfit_is_located(body: bytes, where: str) -> None:
    text = refusal(body)
    assert f" {where}:" in text
    assert "found" in text
    assert "expected" in text


def test_a_misfit_counts_though_a_later_one_fits() -> None:
    assert "Count" in refusal(b'{"Count":"x","Count":1}')


def test_a_refusal_shows_no_value() -> None:
    assert "5f3c" not in refusal(b'{"Count":"5f3c"}')


def test_a_refusal_is_short_whatever_was_sent() -> None:
    key = "k" * 100_000
    assert len(refusal(json.dumps({"ByName": {key: 1}}).encode())) < 500


def test_of_two_keys_that_differ_in_case_the_exact_one_is_meant() -> None:
    class Twins(msgspec.Struct, frozen=True):
        upper: int = msgspec.field(name="KEY", default=0)
        lower: int = msgspec.field(name="key", default=0)

    assert decode_body(b'{"key":1}', Twins) == Twins(lower=1)
    assert decode_body(b'{"KEY":1}', Twins) == Twins(upper=1)
    assert decode_body(b'{"Key":1}', Twins) == Twins(upper=1)


def test_a_long_number_that_nobody_reads_does_no_harm() -> None:
    assert decode_body(b'{"x":%b}' % (b"9" * 4000), Sent) == Sent()


# Limits


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"DrainSpec":', b'[{"a":['])
def test_deep_nesting_is_refused(opening: bytes) -> None:
    assert "nested" in refusal(opening * 50_000)


@pytest.mark.parametrize(
    "number", [b"9" * BODY_BYTES_MAX, b"-" + b"9" * 5000, b"1." + b"9" * 100_000]
)
def test_a_number_of_many_digits_is_refused(number: bytes) -> None:
    refusal(b'{"Count":%b}' % number)


# Everything else


@pytest.mark.parametrize(
    "kind", [shape for name, shape in vars(shapes).items() if name.endswith("Sent")]
)
def test_every_request_can_be_left_empty(kind: type[Any]) -> None:
    assert decode_body(b'{"Nothing":[1]}', kind) == kind()


_KEYS = [field.encode_name for field in msgspec.structs.fields(Sent)]
_JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["1970-01-01T00:00:01Z", "eligible"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [field.encode_name for field in msgspec.structs.fields(Sent)]
            )
            | st.sampled_from(["deadline", "Deadline", "IgnoreSystemJobs"])
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=5,
)


@pytest.mark.slow
@given(st.binary() | _JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_anything_gives_a_value_or_a_refusal(body: bytes) -> None:
    try:
        decoded = decode_body(body, Sent)
    except RequestError as error:
        str(error).encode("utf-8", "replace")
    else:
        assert (
            msgspec.convert(
                msgspec.to_builtins(decoded, builtin_types=(Timestamp,)),
                Sent,
                dec_hook=lambda _kind, value: value,
            )
            == decoded
        )


@given(st.binary(max_size=4), st.integers(0, 60))
def test_a_damaged_body_gives_a_value_or_a_refusal(junk: bytes, place: int) -> None:
    body = b'{"DrainSpec":{"Deadline":-1},"Meta":{"a":"\\u00e9"},"At":null}'
    try:
        decoded = decode_body(body[:place] + junk + body[place:], Sent)
    except RequestError:
        return
    assert isinstance(decoded, Sent)


_TEXTS = st.text(max_size=12)
_NUMBERS = st.integers(INT64_MIN, INT64_MAX)
_TIMES = st.integers(0, 4 * 10**18).map(Timestamp)
# A map that is empty is the same as none, and comes back as none.
_MAPS = st.none() | st.dictionaries(_TEXTS, _TEXTS, min_size=1, max_size=3)


def _records(kind: type, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.builds(kind, **fields)


def _maybe_list(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | st.lists(inner, max_size=2)


_EVENTS = _records(
    NodeEvent,
    message=_TEXTS,
    subsystem=_TEXTS,
    details=_MAPS,
    timestamp=_TIMES,
    create_index=_NUMBERS,
)
_DRIVERS = _records(
    Driver,
    attributes=_MAPS,
    detected=st.booleans(),
    healthy=st.booleans(),
    health_description=_TEXTS,
    update_time=_TIMES,
)
_VOLUMES = _records(HostVolume, name=_TEXTS, path=_TEXTS, read_only=st.booleans())
_PORTS = _records(Port, label=_TEXTS, value=_NUMBERS, to=_NUMBERS)
_NETWORKS = _records(
    NetworkResource,
    mode=_TEXTS,
    device=_TEXTS,
    cidr=_TEXTS,
    ip=_TEXTS,
    mbits=_NUMBERS,
    reserved_ports=_maybe_list(_PORTS),
    dynamic_ports=_maybe_list(_PORTS),
)
_ATTRIBUTES = _records(
    DeviceAttribute,
    float_=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    int_=st.none() | _NUMBERS,
    string=st.none() | _TEXTS,
    bool_=st.none() | st.booleans(),
    unit=_TEXTS,
)
_INSTANCES = _records(
    DeviceInstance,
    id=_TEXTS,
    healthy=st.booleans(),
    health_description=_TEXTS,
    locality=st.none() | _records(DeviceLocality, pci_bus_id=_TEXTS),
)
_DEVICES = _records(
    DeviceResource,
    vendor=_TEXTS,
    type=_TEXTS,
    name=_TEXTS,
    instances=_maybe_list(_INSTANCES),
    attributes=st.none() | st.dictionaries(_TEXTS, _ATTRIBUTES, min_size=1, max_size=2),
)
_CPU = _records(CpuResources, cpu_shares=_NUMBERS)
_MEMORY = _records(MemoryResources, memory_mb=_NUMBERS)
_DISK = _records(DiskResources, disk_mb=_NUMBERS)
_RECORDS = st.one_of(
    _EVENTS,
    _DRIVERS,
    _VOLUMES,
    _NETWORKS,
    _DEVICES,
    _records(
        NodeResources,
        cpu=_CPU,
        memory=_MEMORY,
        disk=_DISK,
        networks=_maybe_list(_NETWORKS),
        devices=_maybe_list(_DEVICES),
    ),
    _records(
        ReservedResources,
        cpu=_CPU,
        memory=_MEMORY,
        disk=_DISK,
        networks=_records(ReservedNetworks, reserved_host_ports=_TEXTS),
    ),
    _records(
        LegacyResources,
        cpu=_NUMBERS,
        memory_mb=_NUMBERS,
        disk_mb=_NUMBERS,
        iops=_NUMBERS,
        networks=_maybe_list(_NETWORKS),
        devices=_maybe_list(_records(RequestedDevice, name=_TEXTS, count=_NUMBERS)),
    ),
    _records(
        DrainStrategy,
        deadline=_NUMBERS,
        ignore_system_jobs=st.booleans(),
        force_deadline=_TIMES,
        started_at=_TIMES,
    ),
)


@pytest.mark.slow
@given(_RECORDS)
def test_what_we_send_we_take(record: Any) -> None:
    assert decode_body(encode_json(record), type(record)) == record


@pytest.mark.slow
@given(_DEVICES)
def test_what_we_send_we_take_in_any_case(record: DeviceResource) -> None:
    def lowered(value: Any) -> Any:
        if isinstance(value, dict):
            return {key.lower(): lowered(part) for key, part in value.items()}
        if isinstance(value, list):
            return [lowered(part) for part in value]
        return value

    # The keys of a map are not ours to change.
    sent = {**json.loads(encode_json(record)), "Attributes": None}
    expected = msgspec.structs.replace(record, attributes=None)
    assert decode_body(json.dumps(lowered(sent)).encode(), DeviceResource) == expected


@pytest.mark.parametrize("piece", [b"0,", b'{"a":1},', b"[],"])
def test_a_body_of_very_many_values_is_refused_before_it_is_read(piece):
    body = b"[" + piece * (PARTS_MAX + 1) + b"0]"

    with pytest.raises(ProblemError, match="number of values") as raised:
        decode_body(body, shapes.EligibilitySent)

    assert raised.value.problem.status == 413


def test_a_body_at_the_limit_of_values_is_read():
    body = b'{"Unknown":[' + b"0," * (PARTS_MAX - 2) + b"0]}"

    assert decode_body(body, shapes.EligibilitySent) == shapes.EligibilitySent()


def test_an_integer_of_very_many_digits_is_no_error_where_nobody_reads_it():
    body = b'{"Unknown":' + b"9" * 5000 + b"}"

    assert decode_body(body, shapes.EligibilitySent) == shapes.EligibilitySent()


class Kept(shapes.Shape, frozen=True, kw_only=True):
    """A shape with a part of which only matters that it is kept."""

    config: Any = None


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b"null", None),
        (b'"a\\ud800"', "a\ufffd"),
        (b'{"a":[1,1.5,true,null],"b":{}}', {"a": [1, 1.5, True, None], "b": {}}),
        (b'{"a":1,"a":2,"A":3}', {"a": 2, "A": 3}),
        (b'{"\\udfff":1}', {"\ufffd": 1}),
        (b"[" * 65 + b"]" * 65, json.loads("[" * 65 + "]" * 65)),
    ],
)
def test_what_may_be_anything_is_kept_as_it_is(sent, kept):
    assert decode_body(b'{"Config":' + sent + b"}", Kept).config == kept


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"[" * 66 + b"]" * 66, "at most 64 inside each other"),
        (b'{"a":1e999}', "Config.a: found a number out of range"),
    ],
)
def test_what_may_be_anything_has_its_limits_too(sent, text):
    with pytest.raises(RequestError, match=text):
        decode_body(b'{"Config":' + sent + b"}", Kept)
