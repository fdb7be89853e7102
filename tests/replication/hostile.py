"""Pickles that tell when somebody runs them, for everywhere that bytes come in."""

import pickle
from collections.abc import Callable
from typing import Any

from typing_extensions import override

SPRUNG: list[str] = []
"""What was run: nothing, if all is well."""


def spring(by: str) -> str:
    """Take note that a pickle was run."""
    SPRUNG.append(by)
    return by


class Trap:
    """Unpickling it calls `spring`."""

    @override
    def __reduce__(self) -> tuple[Callable[[str], str], tuple[str]]:
        return spring, ("a pickle",)


def pickles() -> list[bytes]:
    """Return the trap in every protocol there is."""
    return [pickle.dumps(Trap(), at) for at in range(pickle.HIGHEST_PROTOCOL + 1)]


def unpickle(data: Any) -> Any:
    """Run what is a pickle, as the stock package does with all that it reads."""
    return pickle.loads(bytes(data))
