from structlog.testing import capture_logs

from nodestate.replication.complaints import ADDRESSES_MAX, Complaints


class Counted:
    def __init__(self) -> None:
        self.times = 0

    def add(self) -> None:
        self.times += 1


def test_the_first_tenth_and_hundredth_time_of_an_address_is_logged():
    counted = Counted()
    complaints = Complaints(counted.add)

    with capture_logs() as lines:
        for number in range(120):
            complaints.note("10.0.0.1", f"noise {number}")
        complaints.note("10.0.0.2", "noise")

    assert [(line["remote"], line["count"]) for line in lines] == [
        ("10.0.0.1", 1),
        ("10.0.0.1", 10),
        ("10.0.0.1", 100),
        ("10.0.0.2", 1),
    ]
    assert lines[1]["reason"] == "noise 9"
    assert counted.times == 121


def test_addresses_without_end_take_no_memory_without_end():
    counted = Counted()
    complaints = Complaints(counted.add)

    with capture_logs() as lines:
        for number in range(3 * ADDRESSES_MAX):
            complaints.note(f"host{number}", "noise")

    assert len(complaints._counts) == ADDRESSES_MAX + 1
    assert counted.times == 3 * ADDRESSES_MAX
    assert [line["remote"] for line in lines[ADDRESSES_MAX:]] == ["others"] * 3
