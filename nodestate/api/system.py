"""What is asked of the cluster as a whole: to remove now what is over.

The answers are empty and have no index, as Nomad's.
"""

from nodestate.api.agent import ask_leader
from nodestate.api.calls import LEADER_POLL_S, Call
from nodestate.api.problems import NO_LEADER, OUTCOME_UNKNOWN
from nodestate.api.replies import Body, Reply
from nodestate.errors import NoLeaderError, OutcomeUnknownError
from nodestate.model.question import CollectedAnswer, CollectNow, NotAnswered


async def collect_garbage(call: Call) -> Reply:
    """Answer `PUT /v1/system/gc`, once it is done or takes longer than one waits.

    Whoever leads is asked until it is: nothing is removed twice.
    """
    await call.prepare_write()
    clock = call.services.clock
    while (failure := await _ask_once(call)) is not None:
        if call.is_out_of_time():
            raise failure
        await clock.sleep(min(LEADER_POLL_S, call.remaining_s()))
    return Reply(200, b"", Body(b""))


async def _ask_once(call: Call) -> NoLeaderError | OutcomeUnknownError | None:
    """Return why the leader, if there is one, has not done it; `None` if it has."""
    question = CollectNow(asked_by=call.asked_by())
    try:
        answer = await ask_leader(
            call.services, question, deadline_s=call.remaining_s()
        )
    except (NoLeaderError, OutcomeUnknownError) as error:
        return error
    match answer:
        case CollectedAnswer():
            return None
        case NotAnswered(may_apply=False):
            return NoLeaderError(NO_LEADER)
        case _:
            return OutcomeUnknownError(OUTCOME_UNKNOWN)


async def reconcile_summaries(call: Call) -> Reply:
    """Answer `PUT /v1/system/reconcile/summaries`: every entry leaves them right."""
    await call.prepare_write()
    return Reply(200, b"", Body(b""))
