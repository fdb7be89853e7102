"""The judge judged: what it lets pass and what it must not."""

import json
from dataclasses import replace

import pytest

from tests.compat.comparison import Expected, compare, compare_value, parse_time_ns
from tests.compat.mapping import IndexMap
from tests.real_server import Answer

HEADERS = {
    "content-type": "application/json",
    "vary": "Accept-Encoding",
    "x-nomad-index": "7",
}
EXPECTED = Expected(status=200, headers=HEADERS, json={"Name": "a", "Links": None})


def answer(body: object = None, **changed: str) -> Answer:
    headers = {**HEADERS, **{k.replace("_", "-"): v for k, v in changed.items()}}
    content = {"Name": "a", "Links": None} if body is None else body
    return Answer(
        200, headers, json.dumps(content, separators=(",", ":")).encode(), 0.0
    )


def problems(expected: Expected, found: Answer) -> list[str]:
    return list(compare(expected, found, IndexMap()))


def test_the_recorded_answer_passes():
    assert problems(EXPECTED, answer()) == []


@pytest.mark.parametrize(
    "found",
    [
        replace(answer(), status=201),
        answer(content_type="application/json; charset=utf-8"),
        answer(x_nomad_knownleader="true"),
        answer(x_nomad_index="0"),
        answer(x_nodestate_outcome="none"),
        answer({"Name": "a"}),
        answer({"Name": "a", "Links": {}}),
        answer({"Name": "b", "Links": None}),
        answer({"Name": "a", "Links": None, "More": 1}),
        replace(answer(), body=b'{"Name": "a", "Links": null}'),
        replace(answer(), headers={"content-type": "application/json"}),
    ],
)
def test_a_difference_is_found(found: Answer) -> None:
    assert problems(EXPECTED, found) != []


def test_whole_seconds_stay_whole_and_null_stays_null():
    whole, exact = "2026-11-24T23:20:53Z", "2026-11-24T23:20:53.18Z"

    def differs(wanted: object, found: object) -> bool:
        event = {"Timestamp": wanted}, {"Timestamp": found}
        return bool(list(compare_value(*event, "", IndexMap())))

    assert not differs(whole, "2030-01-01T00:00:00Z")
    assert differs(whole, exact)
    assert not differs(exact, whole)
    assert differs(None, whole)
    assert differs(exact, "2026-11-24T23:20:53.180Z")
    assert differs(exact, "2026-11-24T23:20:53.18+01:00")


def test_a_force_deadline_is_the_start_and_the_deadline():
    strategy = {
        "Deadline": 5,
        "ForceDeadline": "2026-11-24T23:20:53.000000006Z",
        "StartedAt": "2026-11-24T23:20:53.000000001Z",
    }
    later = {**strategy, "ForceDeadline": "2026-11-24T23:20:53.000000007Z"}

    assert list(compare_value(strategy, strategy, "", IndexMap())) == []
    assert list(compare_value(strategy, later, "", IndexMap())) != []


def test_nanoseconds_are_read_as_they_are_written():
    assert parse_time_ns("1970-01-01T00:00:01.5Z") == 1_500_000_000


def test_a_wait_that_ran_out_took_its_time():
    expected = replace(EXPECTED, elapsed="ran out")

    def took(elapsed_s: float) -> list[str]:
        found = replace(answer(), elapsed_s=elapsed_s)
        return list(compare(expected, found, IndexMap(), wait_s=2.0))

    assert took(1.99) != []
    assert took(2.0) == []
    assert took(2.125) == []
    assert took(3.0) != []


def test_a_list_is_in_the_order_of_ids():
    nodes = [{"ID": "22"}, {"ID": "11"}]
    expected = replace(EXPECTED, json=nodes)

    assert problems(expected, answer(nodes)) != []
    assert problems(replace(EXPECTED, json=nodes[::-1]), answer(nodes[::-1])) == []


def test_an_index_stands_for_one_index():
    indexes = IndexMap()

    assert indexes.bind(7, 20) is None
    assert indexes.bind(7, 20) is None
    assert indexes.bind(7, 21) is not None


def test_indexes_keep_their_order():
    indexes = IndexMap()
    indexes.bind(7, 20)

    assert indexes.bind(9, 20) is None
    assert indexes.bind(8, 21) is not None


def test_two_writes_never_share_an_index():
    indexes = IndexMap()
    indexes.bind(7, 20, is_write=True)

    assert indexes.bind(8, 20, is_write=True) is not None


def test_an_index_in_a_path_is_ours_if_it_was_answered():
    indexes = IndexMap()
    indexes.bind(148, 60)

    assert indexes.translate(148) == 60
    assert indexes.translate(147) == 59
    assert indexes.translate(99999999) == 99999999


@pytest.mark.parametrize(
    ("wanted", "found", "is_same"),
    [
        ("127.0.0.1:4647", "127.0.0.1:1", True),
        ("127.0.0.1:4647", "10.0.0.1:4647", False),
        ("global", "global", True),
        ("global", "local", False),
        (["127.0.0.1:4647"], ["127.0.0.1:1"], True),
        (["127.0.0.1:4647"], ["127.0.0.1:1"] * 2, False),
        (["global"], ["local"], False),
        ({"Address": "127.0.0.1:4647"}, {"Address": "127.0.0.1:1"}, True),
        ({"Address": "127.0.0.1"}, {"Address": "127.0.0.2"}, False),
        ({"HTTPAddr": "127.0.0.1:4646"}, {"HTTPAddr": "127.0.0.1:1"}, False),
        ({"Tags": {"port": "4647"}}, {"Tags": {"port": "1"}}, True),
        ({"Tags": {"port": "4647"}}, {"Tags": {"port": 1}}, False),
        ({"Port": 4647}, {"Port": 1 << 16}, False),
    ],
)
def test_of_a_server_only_the_ports_may_differ(wanted, found, is_same):
    assert (list(compare_value(wanted, found, "", IndexMap())) == []) is is_same
