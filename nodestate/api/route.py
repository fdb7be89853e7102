"""One row of the table of routes, and the words that rows are written in."""

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from nodestate.api.calls import Call
from nodestate.api.needs import Need
from nodestate.api.replies import Reply

Handler = Callable[[Call], Awaitable[Reply]]

ID: Final = ":id"
"""An id without a slash in it: a path that has more parts leads nowhere."""
LONG_ID: Final = "*id"
"""An id that may hold slashes, escaped or not: all that is not the end of a route."""
READS: Final = ("GET", "HEAD")
WRITES: Final = ("POST", "PUT")
PUTS: Final = ("PUT",)
"""Of the few that take nothing else in Nomad."""
DELETES: Final = ("DELETE",)


class Route(msgspec.Struct, frozen=True):
    """One line of the table; `name` is also its label in the metrics.

    `need` is what a caller must be allowed where ACLs are on.
    """

    methods: tuple[str, ...]
    path: str
    name: str
    handler: Handler
    need: Need

    @property
    def is_write(self) -> bool:
        """Say whether it may change something."""
        return self.methods is not READS
