"""Following an evaluation to its end, as `job run` and others do, in Nomad's words."""

from typing import Final

import msgspec

from nodestate.answers import Allocation
from nodestate.cli.alloc_tables import failure_lines, newest_first
from nodestate.cli.flags import Flags
from nodestate.cli.session import (
    EXIT_FAILED,
    EXIT_OK,
    CommandError,
    Session,
    failing,
)
from nodestate.cli.tables import short_id
from nodestate.client import Query
from nodestate.client_work import WorkClient
from nodestate.model.duration import format_duration
from nodestate.model.evaluation import EVAL_COMPLETE, EVAL_FAILED, Evaluation

EXIT_NOT_PLACED: Final = 2
"""The evaluation is over, and not everything that was wanted has a place."""

FOLLOWED_MAX: Final = 32
"""How many evaluations are followed, each from the one before."""

_READING: Final = "Error reading evaluation"
_ALLOCATIONS: Final = "Error reading allocations"


class _Known(msgspec.Struct, frozen=True):
    """What has been reported of an evaluation: its status, and its allocations."""

    status: str = ""
    allocations: dict[str, Allocation] = msgspec.field(default_factory=dict)


def declare_monitor(flags: Flags) -> None:
    """Declare the flags of a command that makes an evaluation and follows it."""
    flags.switch("detach", "do not wait: write the evaluation's id")
    flags.switch("verbose", "full ids")


async def follow(session: Session, client: WorkClient, evaluation_id: str) -> int:
    """Report what an evaluation does until it is over; return the exit code."""
    code = EXIT_OK
    for _ in range(FOLLOWED_MAX):
        evaluation = await _to_the_end(session, client, evaluation_id)
        code = _conclude(session, evaluation)
        evaluation_id = evaluation.next_eval
        if not evaluation_id:
            return code
        wait = format_duration(evaluation.wait) if evaluation.wait else ""
        text = f'Monitoring next evaluation "{_shown(session, evaluation_id)}"'
        session.console.output(f"    {text}" + (f" in {wait}" if wait else ""))
    raise CommandError(f"More than {FOLLOWED_MAX} evaluations, one after the other")


async def _to_the_end(
    session: Session, client: WorkClient, evaluation_id: str
) -> Evaluation:
    """Report one evaluation until it is over; one that is blocked may wait for long."""
    console = session.console
    console.output(f'==> Monitoring evaluation "{_shown(session, evaluation_id)}"')
    known, index = _Known(), 0
    while True:
        with failing(_READING):
            found = await client.evaluation(evaluation_id, Query(index=index))
        with failing(_ALLOCATIONS):
            allocations = (await client.evaluation_allocations(evaluation_id)).value
        known = _report(session, known, found.value, allocations)
        if found.value.is_terminal:
            return found.value
        index = found.index


def _report(
    session: Session,
    known: _Known,
    evaluation: Evaluation,
    allocations: list[Allocation],
) -> _Known:
    """Say what is new since the last look; return all that is known now."""
    if not known.status:
        cause = f'job "{evaluation.job_id}"'
        if evaluation.node_id:
            cause = f'node "{_shown(session, evaluation.node_id)}"'
        _say(session, f"Evaluation triggered by {cause}")
    for each in newest_first(allocations):
        text = _news(session, known.allocations.get(each.id), each, evaluation)
        if text:
            _say(session, f'Allocation "{_shown(session, each.id)}" {text}')
    status = str(evaluation.status)
    if known.status and known.status != status:
        _say(session, f'Evaluation status changed: "{known.status}" -> "{status}"')
    return _Known(status, {each.id: each for each in allocations})


def _news(
    session: Session,
    before: Allocation | None,
    after: Allocation,
    evaluation: Evaluation,
) -> str:
    if before is None:
        verb = "created"
        if after.create_index < evaluation.create_index:
            verb = "modified"
        node_id = _shown(session, after.node_id)
        return f'{verb}: node "{node_id}", group "{after.task_group}"'
    if before.client_status != after.client_status:
        more = f" ({after.client_description})" if after.client_description else ""
        return (
            f'status changed: "{before.client_status}" -> "{after.client_status}"{more}'
        )
    return ""


def _conclude(session: Session, evaluation: Evaluation) -> int:
    """Say how it ended; return the exit code."""
    console = session.console
    text = f'==> Evaluation "{_shown(session, evaluation.id)}" '
    text += f'finished with status "{evaluation.status}"'
    failed = evaluation.failed_tg_allocs
    if not failed:
        if evaluation.status != EVAL_COMPLETE and evaluation.status_description:
            text += f": {evaluation.status_description}"
        console.output(text)
        return EXIT_FAILED if evaluation.status == EVAL_FAILED else EXIT_OK
    console.output(f"{text} but failed to place all allocations:")
    console.output("\n".join(failure_lines(failed, indent="    ")))
    if evaluation.blocked_eval:
        blocked = _shown(session, evaluation.blocked_eval)
        _say(
            session,
            f'Evaluation "{blocked}" waiting for additional capacity to place remainder',
        )
    return EXIT_NOT_PLACED


def _shown(session: Session, id_: str) -> str:
    return short_id(id_, verbose=session.args.verbose)


def _say(session: Session, text: str) -> None:
    session.console.output(f"    {text}")
