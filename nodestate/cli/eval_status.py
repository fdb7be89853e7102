"""`eval status` and `eval list`: what a scheduler was asked, and what came of it."""

from collections.abc import Sequence
from typing import Final

from nodestate.cli.alloc_tables import allocation_table, failure_lines, when
from nodestate.cli.eval_monitor import follow
from nodestate.cli.flags import Flags
from nodestate.cli.job_lookup import one_argument
from nodestate.cli.lookup import searchable
from nodestate.cli.session import (
    Command,
    CommandError,
    Session,
    as_json,
    declare_connection,
    failing,
)
from nodestate.cli.tables import columns, pairs, short_id, yes_no
from nodestate.client import Read
from nodestate.client_work import WorkClient
from nodestate.model.evaluation import Evaluation

_READING: Final = "Error querying evaluation"
_LISTING: Final = "Error querying evaluations"
_IN_PROGRESS: Final = "N/A - In Progress"


def _declare_status(flags: Flags) -> None:
    declare_connection(flags)
    flags.switch("monitor", "follow it to its end")
    flags.switch("verbose", "full ids, and the evaluations before and after")
    flags.switch("json", "write the server's answer")
    flags.arguments("<evaluation>")


async def _status(session: Session) -> int:
    args = session.args
    named = one_argument(session, "evaluation")
    async with session.client() as client:
        found = await _find(session, client, named)
        if args.json:
            session.console.output(as_json(found.body))
            return 0
        if args.monitor:
            return await follow(session, client, found.value.id)
        with failing("Error querying allocations"):
            placed = (await client.evaluation_allocations(found.value.id)).value
    evaluation = found.value
    session.console.output(pairs(_basics(session, evaluation)))
    if evaluation.failed_tg_allocs:
        session.console.heading("Failed Placements")
        session.console.output("\n".join(failure_lines(evaluation.failed_tg_allocs)))
        if evaluation.blocked_eval:
            blocked = short_id(evaluation.blocked_eval, verbose=args.verbose)
            session.console.output(
                f'\nEvaluation "{blocked}" waiting for additional capacity to place '
                "remainder"
            )
    if placed:
        session.console.heading("Placed Allocations")
        session.console.output(allocation_table(session, placed))
    return 0


async def _find(session: Session, client: WorkClient, named: str) -> Read[Evaluation]:
    """Return the one evaluation whose id begins so."""
    if len(named) == 1:
        raise CommandError("Identifier must contain at least two characters.")
    prefix = searchable(named)
    with failing(_READING):
        matching = (await client.evaluations(prefix=prefix)).value
    if not matching:
        raise CommandError(f'No evaluation(s) with prefix or id "{prefix}" found')
    if len(matching) > 1:
        table = _table(session, matching)
        raise CommandError(f"Prefix matched multiple evaluations\n\n{table}")
    with failing(_READING):
        return await client.evaluation(matching[0].id)


def _basics(session: Session, evaluation: Evaluation) -> list[tuple[str, str]]:
    verbose = session.args.verbose
    rows = [
        ("ID", short_id(evaluation.id, verbose=verbose)),
        ("Create Time", when(session, evaluation.create_time)),
        ("Modify Time", when(session, evaluation.modify_time)),
        ("Status", evaluation.status),
        ("Status Description", evaluation.status_description or evaluation.status),
        ("Type", str(evaluation.type)),
        ("TriggeredBy", evaluation.triggered_by),
        ("Job ID", evaluation.job_id),
        ("Namespace", evaluation.namespace),
        ("Node ID", short_id(evaluation.node_id, verbose=verbose)),
        ("Priority", str(evaluation.priority)),
        ("Placement Failures", failures_text(evaluation)),
    ]
    if verbose:
        rows += [
            ("Previous Eval", evaluation.previous_eval),
            ("Next Eval", evaluation.next_eval),
            ("Blocked Eval", evaluation.blocked_eval),
        ]
    return [(name, text) for name, text in rows if text or name != "Node ID"]


def failures_text(evaluation: Evaluation) -> str:
    """Say whether something had no place, once that is known."""
    if evaluation.is_blocked or not evaluation.is_terminal:
        return _IN_PROGRESS
    return yes_no(bool(evaluation.failed_tg_allocs))


def _declare_list(flags: Flags) -> None:
    declare_connection(flags)
    flags.value("job", "<id>", "only those of this job")
    flags.value("status", "<status>", "only those with this status")
    flags.value("filter", "<expression>", "only those that fulfil it")
    flags.value("per-page", "<n>", "list at most so many", kind=int)
    flags.value("page-token", "<token>", "go on where a page ended")
    flags.switch("verbose", "full ids")
    flags.switch("json", "write the server's answer")
    flags.arguments("")


async def _list(session: Session) -> int:
    args, console = session.args, session.console
    if args.arguments:
        raise session.refuse("This command takes no arguments")
    async with session.client() as client:
        with failing(_LISTING):
            listed = await client.evaluations(
                job=args.job or "",
                status=args.status or "",
                filter=args.filter or "",
                per_page=str(args.per_page or ""),
                next_token=args.page_token or "",
            )
    if args.json:
        console.output(as_json(listed.body))
        return 0
    found = listed.value
    console.output(_table(session, found) if found else "No evals found")
    if listed.next_token:
        console.output(_next_page(session, listed.next_token))
    return 0


def _next_page(session: Session, token: str) -> str:
    args = session.args
    words = ["nodestate eval list", *(["-verbose"] if args.verbose else [])]
    words += [f"-job '{args.job}'"] if args.job else []
    words += [f"-status {args.status}"] if args.status else []
    words += [f"-filter '{args.filter}'"] if args.filter else []
    words += [f"-per-page {args.per_page}"] if args.per_page else []
    return (
        "\nResults have been paginated. To get the next page run:\n\n"
        f"{' '.join(words)} -page-token {token}"
    )


def _table(session: Session, evaluations: Sequence[Evaluation]) -> str:
    verbose = session.args.verbose
    rows = [["ID", "Priority", "Triggered By", "Job ID", "Namespace", "Node ID"]]
    rows[0] += ["Status", "Placement Failures"]
    rows += [
        [
            short_id(each.id, verbose=verbose),
            str(each.priority),
            each.triggered_by,
            each.job_id,
            each.namespace,
            short_id(each.node_id, verbose=verbose),
            each.status,
            failures_text(each),
        ]
        for each in sorted(evaluations, key=lambda one: (-one.create_index, one.id))
    ]
    return columns(rows)


COMMANDS = (
    Command(
        words="eval status",
        synopsis="Show an evaluation whose id, or the start of it, is given.",
        example="nodestate eval status -monitor 2ae0e6a5",
        declare=_declare_status,
        run=_status,
    ),
    Command(
        words="eval list",
        synopsis="List evaluations, the newest first.",
        example="nodestate eval list -status blocked",
        declare=_declare_list,
        run=_list,
    ),
)
