"""Evaluations as they are sent: the record as it is, every key whatever its value."""

from nodestate.api.shapes import encode
from nodestate.model.evaluation import Evaluation


def encode_evaluation(evaluation: Evaluation) -> bytes:
    """Return the JSON of an evaluation, in a list as well as alone."""
    return encode(evaluation)
