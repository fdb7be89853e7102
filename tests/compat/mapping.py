"""Recorded indexes and the ones that our server gave in their place.

Absolute values differ from run to run. What must hold: a recorded index always stands
for the same index of ours, their order is the same, and two writes never share one.
"""


class IndexMap:
    """Grows with every answer; says what is wrong with a pair instead of taking it."""

    def __init__(self) -> None:
        self._ours: dict[int, int] = {}
        self._writes: set[int] = set()

    def bind(self, recorded: int, ours: int, *, is_write: bool = False) -> str | None:
        """Take a pair into account; return what contradicts it, `None` if nothing."""
        known = self._ours.setdefault(recorded, ours)
        if known != ours:
            return f"recorded index {recorded} was {known} before and is {ours} now"
        if is_write:
            self._writes.add(recorded)
        for other_recorded, other_ours in self._ours.items():
            if not self._keeps_order(recorded, ours, other_recorded, other_ours):
                return (
                    f"recorded {recorded} is {ours}, but recorded {other_recorded} "
                    f"is {other_ours}: not in the recorded order"
                )
        return None

    def translate(self, recorded: int) -> int:
        """Return ours for a recorded index; one that no answer had stays as it is.

        An index one below a known one is meant as such: "anything older than that".
        """
        if recorded in self._ours:
            return self._ours[recorded]
        if recorded + 1 in self._ours:
            return self._ours[recorded + 1] - 1
        return recorded

    def _keeps_order(
        self, recorded: int, ours: int, other_recorded: int, other_ours: int
    ) -> bool:
        if recorded > other_recorded:
            recorded, ours, other_recorded, other_ours = (
                other_recorded,
                other_ours,
                recorded,
                ours,
            )
        if recorded == other_recorded:
            return True
        if recorded in self._writes and other_recorded in self._writes:
            return ours < other_ours
        return ours <= other_ours
