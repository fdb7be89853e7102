"""Allocations as tables, and why they could not be placed, for the commands that show them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from nodestate.answers import Allocation
from nodestate.cli.session import Session
from nodestate.cli.tables import age, columns, point_in_time, short_id
from nodestate.model.allocation import AllocMetric


def when(session: Session, ns: int) -> str:
    """Return a point in time: how long ago, or with `-verbose` when."""
    if session.args.verbose:
        return point_in_time(ns)
    return age(ns, session.clock.now_ns())


def allocation_table(session: Session, allocations: Sequence[Allocation]) -> str:
    """Return allocations as a table, the newest first."""
    if not allocations:
        return "No allocations placed"
    verbose = session.args.verbose
    rows = [["ID", *(["Eval ID"] if verbose else []), "Node ID"]]
    rows[0] += [*(["Node Name"] if verbose else []), "Task Group", "Version"]
    rows[0] += ["Desired", "Status", "Created", "Modified"]
    for each in newest_first(allocations):
        row = [short_id(each.id, verbose=verbose)]
        row += [each.eval_id] if verbose else []
        row += [short_id(each.node_id, verbose=verbose)]
        row += [each.node_name] if verbose else []
        row += [each.task_group, str(each.version)]
        row += [each.desired_status, each.client_status]
        row += [when(session, each.create_time), when(session, each.modify_time)]
        rows.append(row)
    return columns(rows)


def newest_first(allocations: Iterable[Allocation]) -> list[Allocation]:
    """Order allocations as Nomad's client does; those of one plan by name."""
    return sorted(allocations, key=lambda each: (-each.create_index, each.name))


def failure_lines(
    failed: Mapping[str, AllocMetric] | None, *, indent: str = ""
) -> Iterator[str]:
    """Yield what could not be placed and why, group by group."""
    for name, metric in sorted((failed or {}).items()):
        count = metric.coalesced_failures + 1
        noun = "allocation" if count == 1 else "allocations"
        yield f'{indent}Task Group "{name}" (failed to place {count} {noun}):'
        yield from metric_lines(metric, indent=f"{indent}  ")


def metric_lines(metric: AllocMetric, *, indent: str = "") -> Iterator[str]:
    """Yield why a search found no room, one reason a line."""
    for reason in _reasons(metric):
        yield f"{indent}* {reason}"


def _reasons(metric: AllocMetric) -> Iterator[str]:
    if metric.nodes_evaluated == 0:
        yield "No nodes were eligible for evaluation"
    for datacenter, count in sorted((metric.nodes_available or {}).items()):
        if count == 0:
            yield f'No nodes are available in datacenter "{datacenter}"'
    for name, count in sorted((metric.class_filtered or {}).items()):
        yield f'Class "{name}": {count} nodes excluded by filter'
    for name, count in sorted((metric.constraint_filtered or {}).items()):
        yield f'Constraint "{name}": {count} nodes excluded by filter'
    if metric.nodes_exhausted:
        yield f"Resources exhausted on {metric.nodes_exhausted} nodes"
    for name, count in sorted((metric.class_exhausted or {}).items()):
        yield f'Class "{name}" exhausted on {count} nodes'
    for name, count in sorted((metric.dimension_exhausted or {}).items()):
        yield f'Dimension "{name}" exhausted on {count} nodes'
    for name in metric.quota_exhausted or ():
        yield f'Quota limit hit "{name}"'


def score_table(metric: AllocMetric, *, verbose: bool) -> str:
    """Return how the best nodes were judged; empty if nobody says."""
    scored = metric.score_meta_data or ()
    names = sorted({name for each in scored for name in each.scores})
    rows = [["Node", *names, "final score"]]
    rows += [
        [
            short_id(each.node_id, verbose=verbose),
            *(f"{each.scores.get(name, 0.0):.3g}" for name in names),
            f"{each.norm_score:.3g}",
        ]
        for each in scored
    ]
    return columns(rows) if scored else ""
