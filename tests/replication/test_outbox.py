"""Messages wait for the disk, in order."""

from nodestate.replication.frames import VoteReply
from nodestate.replication.outbox import Outbox


class Mark:
    position = 0

    def durable_position(self):
        return self.position


def test_a_message_leaves_when_its_position_is_durable():
    mark = Mark()
    sent: list[tuple[str, int]] = []

    def send(peer_id, message):
        sent.append((peer_id, message.term))
        return True

    outbox = Outbox(mark, send)
    outbox.post("B", VoteReply(1, True), position=0)
    outbox.post("B", VoteReply(2, True), position=2)
    outbox.post("C", VoteReply(3, True), position=3)
    assert sent == [("B", 1)]

    mark.position = 1
    outbox.release()
    assert len(sent) == 1
    mark.position = 2
    outbox.release()
    assert sent == [("B", 1), ("B", 2)]
    mark.position = 9
    outbox.release()
    outbox.release()
    assert sent == [("B", 1), ("B", 2), ("C", 3)]
