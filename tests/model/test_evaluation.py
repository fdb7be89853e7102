"""The record of a scheduler being asked."""

from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import JobType


def test_a_new_evaluation_waits_for_a_scheduler():
    evaluation = Evaluation()

    assert evaluation.status == "pending"
    assert evaluation.triggered_by == "node-update"


def test_an_evaluation_reads_back():
    evaluation = Evaluation(id="e", type=JobType.SYSTEM, create_time=2**63 - 1)

    content = MSGPACK.encode(evaluation)

    assert msgpack_decoder(Evaluation).decode(content) == evaluation
