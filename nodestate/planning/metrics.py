"""What a search for a node went through, for those who wonder why it ended as it did."""

from collections.abc import Sequence

from nodestate.model.allocation import AllocMetric, NodeScore
from nodestate.model.node import Node

Counts = dict[str, int]


class SearchRecord:
    """Counts of one search; it describes that search alone."""

    __slots__ = (
        "_class_exhausted",
        "_class_filtered",
        "_constraint_filtered",
        "_dimension_exhausted",
        "_exhausted_count",
        "_filtered_count",
        "evaluated_count",
    )

    def __init__(self) -> None:
        self.evaluated_count = 0
        self._filtered_count = 0
        self._exhausted_count = 0
        self._class_filtered: Counts = {}
        self._constraint_filtered: Counts = {}
        self._class_exhausted: Counts = {}
        self._dimension_exhausted: Counts = {}

    def filter(self, node: Node, reason: str) -> None:
        """Count a node on which the group may not run."""
        self._filtered_count += 1
        _count(self._constraint_filtered, reason)
        if node.node_class:
            _count(self._class_filtered, node.node_class)

    def exhaust(self, node: Node, dimension: str) -> None:
        """Count a node that has too little of something."""
        self._exhausted_count += 1
        _count(self._dimension_exhausted, dimension)
        if node.node_class:
            _count(self._class_exhausted, node.node_class)

    def metric(
        self, nodes_available: dict[str, int], scores: Sequence[NodeScore]
    ) -> AllocMetric:
        """Return the record; `scores` are the best nodes', the best one first."""
        return AllocMetric(
            nodes_evaluated=self.evaluated_count,
            nodes_filtered=self._filtered_count,
            nodes_available=nodes_available,
            class_filtered=_or_none(self._class_filtered),
            constraint_filtered=_or_none(self._constraint_filtered),
            nodes_exhausted=self._exhausted_count,
            class_exhausted=_or_none(self._class_exhausted),
            dimension_exhausted=_or_none(self._dimension_exhausted),
            score_meta_data=tuple(scores) or None,
        )


def _count(counts: Counts, name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def _or_none(counts: Counts) -> Counts | None:
    """Return them sorted by name, so that the record is the same in every process."""
    return dict(sorted(counts.items())) or None
