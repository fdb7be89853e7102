"""Evaluations: all of them, and one."""

from collections.abc import Callable

from nodestate.acl.policies import READ_JOB
from nodestate.api import blocking, parameters
from nodestate.api.allocations import PLAIN_LIST, is_whole
from nodestate.api.calls import Call, index_line, text_reply
from nodestate.api.listing import filter_of, list_body
from nodestate.api.parameters import Query, ReadOptions
from nodestate.api.replies import JSON_TYPE, Reply
from nodestate.api.table_lists import Selection
from nodestate.errors import PermissionDeniedError
from nodestate.fsm.state import EVALUATIONS, State
from nodestate.model.evaluation import Evaluation
from nodestate.model.node_id import EVALUATION, record_id, record_id_prefix
from nodestate.model.outcome import EVALUATION_NOT_FOUND
from nodestate.query.paging import parse_per_page, parse_record_token
from nodestate.watch import prefix_key, record_key, table_key


def evaluations_index(state: State) -> int:
    """Return the index of the table; never 0, which would make a waiting client spin."""
    return max(state.table_index(EVALUATIONS), 1)


async def read_evaluation(call: Call) -> Reply:
    """Answer `GET /v1/evaluation/:id`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    id_ = record_id(call.id_text, EVALUATION)
    services = call.services
    if options.index:

        def current_index(state: State) -> int:
            known = state.evaluations.get(id_)
            return evaluations_index(state) if known is None else known.modify_index

        watched = record_key(EVALUATIONS, id_)
        await blocking.wait_until_past(call, options, watched, current_index)
    state = services.view.state()
    evaluation = state.evaluations.get(id_)
    contact = blocking.contact_lines(services, options)
    if evaluation is None:
        headers = index_line(evaluations_index(state)) + contact
        return text_reply(404, EVALUATION_NOT_FOUND, headers)
    if not call.may(READ_JOB, evaluation.namespace):
        raise PermissionDeniedError(READ_JOB)
    headers = index_line(evaluation.modify_index) + contact
    entry = services.work.evaluations.entry(evaluation)
    return call.encoded(entry, headers=headers)


async def list_evaluations(call: Call) -> Reply:
    """Answer `GET /v1/evaluations`."""
    options = call.read_options()
    await blocking.wait_until_fresh(call, options)
    query, services = call.query, call.services
    namespace = parameters.read_namespace(query, may_be_all=True)
    if query.keys() <= PLAIN_LIST and is_whole(call, namespace):
        if options.index:
            watched = table_key(EVALUATIONS)
            await blocking.wait_until_past(call, options, watched, evaluations_index)
        listed = await services.work.evaluations.whole(services.view.state(), namespace)
        headers = index_line(max(listed.index, 1))
        headers += blocking.contact_lines(services, options)
        return Reply(200, JSON_TYPE + headers, listed.body)
    return await _list_some(call, options, namespace)


async def _list_some(call: Call, options: ReadOptions, namespace: str) -> Reply:
    query, services = call.query, call.services
    selection = Selection(
        namespace,
        prefix=record_id_prefix(query.get("prefix", ""), EVALUATION),
        token=parse_record_token(query.get("next_token", "")),
        per_page=parse_per_page(query.get("per_page", "")),
        is_wanted=_wanted(query),
        sees=call.sees(READ_JOB),
    )
    if options.index:
        prefix = selection.prefix
        watched = prefix_key(EVALUATIONS, prefix) if prefix else table_key(EVALUATIONS)
        await blocking.wait_until_past(call, options, watched, evaluations_index)
    lists = services.work.evaluations
    index, page = await lists.page(services.view.state(), selection)
    headers = index_line(max(index, 1)) + blocking.contact_lines(services, options)
    if page.next_token:
        token = page.next_token.encode("ascii")
        headers += b"X-Nomad-NextToken: %b\r\n" % token
    parts = await lists.parts(page.records)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


def _wanted(query: Query) -> Callable[[Evaluation], bool] | None:
    """Return what `filter`, `status` and `job` ask for together, `None` for all."""
    wanted = filter_of(query.get("filter", ""), Evaluation)
    status, job_id = query.get("status", ""), query.get("job", "")
    if not status and not job_id:
        return None if wanted is None else wanted.matches

    def is_wanted(evaluation: Evaluation) -> bool:
        if status not in {"", evaluation.status}:
            return False
        if job_id not in {"", evaluation.job_id}:
            return False
        return wanted is None or wanted.matches(evaluation)

    return is_wanted
