"""JSON that is kept for as long as its records are the same."""

from nodestate.api.kept import RecordCache
from nodestate.model.job import Job, JobSummary


def test_what_is_encoded_is_encoded_once_for_the_same_records():
    cache: RecordCache[str] = RecordCache()
    one, summary, calls = Job(id="a"), JobSummary(), []

    def encode() -> bytes:
        calls.append(1)
        return b"x%d" % len(calls)

    bodies = [cache.body("a", encode, one, summary).plain for _ in range(2)]
    assert bodies == [b"x1", b"x1"]
    # An equal record is another version: only the same object is known to be the same.
    assert cache.body("a", encode, Job(id="a"), summary).plain == b"x2"
    assert cache.body("a", encode, one, summary).plain == b"x3"
    assert cache.body("a", encode, one, None).plain == b"x4"
    assert cache.body("b", encode, one, None).plain == b"x5"


def test_the_oldest_go_once_there_is_no_room():
    cache: RecordCache[int] = RecordCache(bytes_max=10)
    records = [Job(id=str(number)) for number in range(4)]
    encoded: list[int] = []

    def body(number: int) -> bytes:
        def encode() -> bytes:
            encoded.append(number)
            return b"12345"

        return cache.body(number, encode, records[number]).plain

    for number in (0, 1, 2, 1, 2, 0):
        body(number)

    assert encoded == [0, 1, 2, 0]


def test_one_that_has_no_room_at_all_is_kept_until_the_next():
    cache: RecordCache[int] = RecordCache(bytes_max=1)
    record = Job()

    first = cache.body(1, lambda: b"12345", record)

    assert cache.body(1, lambda: b"", record) is first
