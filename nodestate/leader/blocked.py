"""Evaluations that wait for room.

In the leader's memory alone. Each has seen the state as of some index and found too
little room in it; it is worth another look once room may have come about after that.
Nothing is missed between the look and the wait: it is indexes that are compared.
"""

from collections.abc import Iterable

from nodestate.model.evaluation import Evaluation, Trigger
from nodestate.model.job import JobKey, JobType
from nodestate.planning.vacancies import Vacancies

_Place = tuple[JobKey, str]
"""What has one evaluation waiting: a job; of a system job, each node."""


class BlockedEvaluations:
    """The evaluations that wait, each with the index that it has seen."""

    def __init__(self) -> None:
        self._waiting: dict[_Place, Evaluation] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, eval_id: str) -> bool:
        return any(one.id == eval_id for one in self._waiting.values())

    def seen_index(self) -> int:
        """Return the lowest index that one of them has seen, 0 if none waits."""
        return min((one.snapshot_index for one in self._waiting.values()), default=0)

    def block(self, evaluation: Evaluation) -> Evaluation | None:
        """Have an evaluation wait; return the one that need not any more, if there is one.

        Of two for one place the one that knows more stays, the newcomer if they know the
        same.
        """
        place = _place(evaluation)
        known = self._waiting.get(place)
        if known is None or known.id == evaluation.id:
            self._waiting[place] = evaluation
            return None
        if _age(evaluation) < _age(known):
            return evaluation
        self._waiting[place] = evaluation
        return known

    def untrack(self, eval_ids: Iterable[str]) -> None:
        """Forget evaluations that wait no more."""
        gone = set(eval_ids)
        self._waiting = {
            place: one for place, one in self._waiting.items() if one.id not in gone
        }

    def waiting(self) -> list[Evaluation]:
        """Return all that wait, the oldest first."""
        return sorted(self._waiting.values(), key=_order)

    def unblock(self, vacancies: Vacancies) -> list[Evaluation]:
        """Take out those that are worth another look, the oldest first.

        A system job's waits for its own node, any other for whichever has room.
        """
        return self._take(
            one
            for one in self._waiting.values()
            if one.snapshot_index < _index_for(one, vacancies)
        )

    def unblock_failed(self) -> list[Evaluation]:
        """Take out those that found room and lost it to others again and again."""
        return self._take(
            one
            for one in self._waiting.values()
            if one.triggered_by == Trigger.MAX_PLAN_ATTEMPTS
        )

    def _take(self, evaluations: Iterable[Evaluation]) -> list[Evaluation]:
        taken = sorted(evaluations, key=_order)
        self.untrack(one.id for one in taken)
        return taken


def _place(evaluation: Evaluation) -> _Place:
    is_system = evaluation.type is JobType.SYSTEM
    return evaluation.job_key, evaluation.node_id if is_system else ""


def _age(evaluation: Evaluation) -> int:
    return max(evaluation.create_index, evaluation.snapshot_index)


def _order(evaluation: Evaluation) -> tuple[int, str]:
    return evaluation.create_index, evaluation.id


def _index_for(evaluation: Evaluation, vacancies: Vacancies) -> int:
    if evaluation.type is JobType.SYSTEM and evaluation.node_id:
        return vacancies.by_node_id.get(evaluation.node_id, 0)
    return vacancies.newest_index
