"""A state to pieces and back, and every piece that does not fit refused."""

import msgspec
import pytest
from hypothesis import given
from msgspec.structs import replace

from nodestate.errors import SnapshotError
from nodestate.fsm import machine
from nodestate.fsm.pieces import (
    FIELDS,
    RECORDS_PER_PIECE,
    StateLoader,
    encode_pieces,
)
from nodestate.fsm.snapshot import encode_state
from nodestate.fsm.state import State
from nodestate.model.encoding import MSGPACK
from nodestate.model.evaluation import Evaluation
from tests.fsm.entries import key, node
from tests.fsm.invariants import FIRST_INDEX, worked_state
from tests.fsm.states import full_state
from tests.fsm.work import WEB, WorkLog, placement, register_job, stop_job
from tests.strategies import sequences


def pieces_of(state: State) -> list[bytes]:
    return [piece for piece in encode_pieces(state) if piece]


def load(pieces: list[bytes]) -> State:
    loader = StateLoader()
    for piece in pieces:
        loader.feed(piece)
    return loader.finish()


def wide_state() -> State:
    """A state whose nodes take three pieces."""
    state = State()
    for number in range(2 * RECORDS_PER_PIECE + 1):
        state.put_node(key(number), node(key(number)))
    return state


def changed(piece: bytes, **fields: object) -> bytes:
    return msgspec.msgpack.encode({**msgspec.msgpack.decode(piece), **fields})


def test_a_state_comes_back_as_it_was():
    state = full_state()

    restored = load(pieces_of(state))

    for name in State.__slots__:
        assert getattr(restored, name) == getattr(state, name), name
    assert pieces_of(restored) == pieces_of(state)


@given(sequences())
def test_whatever_the_log_made_comes_back(applying):
    state = worked_state()
    for index, command in enumerate(applying, FIRST_INDEX):
        machine.apply(state, index, command)

    restored = load(pieces_of(state))

    assert encode_state(restored) == encode_state(state)
    assert pieces_of(restored) == pieces_of(state)


def test_an_empty_state_is_one_piece():
    assert len(pieces_of(State())) == 1
    assert encode_state(load(pieces_of(State()))) == encode_state(State())


def test_the_way_to_a_state_does_not_show():
    one, other = State(), State()
    for number in range(500):
        evaluation = Evaluation(id=f"{number:05d}")
        one.put_evaluation(evaluation)
        other.evaluations[f"{499 - number:05d}"] = Evaluation(id=f"{499 - number:05d}")
    for number in (1, 2):
        one.put_node(key(number), node(key(number), meta={"a": "1", "b": "2"}))
        other.put_node(
            key(3 - number), node(key(3 - number), meta={"b": "2", "a": "1"})
        )

    assert pieces_of(one) == pieces_of(other)


def test_no_piece_has_many_records():
    assert len(pieces_of(wide_state())) == 4
    assert load(pieces_of(wide_state())).nodes == wide_state().nodes


def test_a_piece_may_be_a_pause_without_content():
    state = State()
    for number in range(5000):
        state.evaluations[str(number)] = Evaluation(id=str(number))

    assert b"" in list(encode_pieces(state))


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_a_piece_that_is_missing_is_missed(place):
    pieces = pieces_of(wide_state())
    del pieces[place]

    with pytest.raises(SnapshotError):
        load(pieces)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_piece_that_comes_twice_is_refused(place):
    pieces = pieces_of(full_state())
    pieces.insert(place, pieces[place])

    with pytest.raises(SnapshotError):
        load(pieces)


@pytest.mark.parametrize("place", range(1, 15))
def test_pieces_in_another_order_are_refused(place):
    pieces = pieces_of(full_state())
    assert len(pieces) == 16
    pieces[place], pieces[place + 1] = pieces[place + 1], pieces[place]

    with pytest.raises(SnapshotError):
        load(pieces)


def test_keys_out_of_order_are_refused():
    evaluations = [Evaluation(id="b"), Evaluation(id="a")]
    rows = [(evaluation.id, evaluation) for evaluation in evaluations]
    head = changed(pieces_of(State())[0], counts={"evaluations": 2})

    with pytest.raises(SnapshotError, match="keys of table evaluations are out of ord"):
        load([head, MSGPACK.encode(("evaluations", rows))])


def test_a_table_with_fewer_records_than_it_says_is_refused():
    pieces = pieces_of(full_state())
    counts = msgspec.msgpack.decode(pieces[0])["counts"]
    pieces[0] = changed(pieces[0], counts={**counts, "jobs": 4})

    with pytest.raises(SnapshotError, match="table jobs has 3 records, expected 4"):
        load(pieces)


def test_nothing_at_all_is_no_state():
    with pytest.raises(SnapshotError, match="no pieces"):
        load([])


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"version": 2}, "has format 2, this server reads 1"),
        ({"counts": {"volumes": 1}}, "newer version of nodestate: it has a table vol"),
        (
            {"fields": {"Node": FIELDS["Node"] + 1}},
            "newer version.*: Node has 29 fields",
        ),
        ({"fields": {"Volume": 3}}, "newer version of nodestate: Volume has 3 fields"),
    ],
)
def test_what_a_newer_version_wrote_is_refused(fields, text):
    with pytest.raises(SnapshotError, match=text):
        load([changed(pieces_of(State())[0], **fields)])


def test_a_piece_of_a_table_that_nobody_knows_is_refused():
    head = pieces_of(State())[0]

    with pytest.raises(SnapshotError, match="newer version"):
        load([head, msgspec.msgpack.encode(("volumes", []))])


def test_what_an_older_version_wrote_is_read():
    """It knew fewer tables, and fewer fields of what it knew."""
    head = pieces_of(State())[0]
    counts = msgspec.msgpack.decode(head)["counts"]
    del counts["idempotency_keys"]

    state = load(
        [changed(head, counts=counts, indexes={"nodes": 5}, fields={"Node": 1})]
    )

    assert state.table_index("nodes") == 5
    assert state.table_index("jobs") == 0


def test_every_kind_of_record_is_counted():
    assert {"Node", "Driver", "Port", "DeviceLocality", "LastDrain", "NodeEvent", "Job", "Allocation", "Evaluation", "Accepted", "Refused", "KeptKey"} <= set(FIELDS)  # fmt: skip


def test_an_outcome_without_its_session_is_refused():
    pieces = pieces_of(full_state())
    del pieces[6]

    with pytest.raises(SnapshotError, match="no session of server A"):
        load(pieces)


def test_a_piece_cut_anywhere_is_refused():
    pieces = pieces_of(full_state())

    for place, piece in enumerate(pieces):
        for length in range(0, len(piece), 7):
            with pytest.raises(SnapshotError):
                load([*pieces[:place], piece[:length], *pieces[place + 1 :]])


def test_a_flipped_byte_is_refused_or_read():
    """No other error comes out; that what is read is right is for the file's checksum."""
    pieces = pieces_of(full_state())

    for place, piece in enumerate(pieces):
        for position in range(0, len(piece), 3):
            damaged = bytearray(piece)
            damaged[position] ^= 0xFF
            try:
                load([*pieces[:place], bytes(damaged), *pieces[place + 1 :]])
            except SnapshotError:
                continue


def test_allocations_find_their_jobs_where_indexes_are_lower():
    """A job's `create_index` says which job it is: it stays, whatever else is capped."""
    log = WorkLog(register_job())
    log.place(placement("a-1"))
    log.accept(stop_job(is_purge=True))
    log.accept(register_job())
    log.place(placement("a-2"))
    loader = StateLoader()

    for piece in pieces_of(log.state):
        loader.feed(piece, index_max=7)

    loaded = loader.finish()
    for id_ in ("a-1", "a-2"):
        allocation = loaded.allocations[id_]
        assert (allocation.modify_index, allocation.alloc_modify_index) == (7, 7)
        ran, was = loaded.job_of(allocation), log.state.job_of(log.alloc(id_))
        assert ran is not None
        assert was is not None
        assert ran == replace(was, modify_index=7)
    assert loaded.jobs[WEB].create_index == log.job().create_index
    assert all(item.snapshot_index <= 7 for item in loaded.evaluations.values())
