"""Settings of the cluster that Nomad keeps in its state, and that are as they are here.

Tools read them, and write back what they have read: that is accepted, since it asks for
nothing. What would be another value is refused, by name, and never accepted in silence.
"""

from typing import Any, Final

import msgspec

from nodestate.api.problems import Problem, ProblemError

NOT_IMPLEMENTED: Final = 501
IGNORED: Final = frozenset({"CreateIndex", "ModifyIndex"})
"""What a writer sends because it has read it, and does not mean."""
SHOWN_MAX: Final = 64


def check_unchanged(what: str, sent: msgspec.Struct, fixed: msgspec.Struct) -> None:
    """Refuse settings that are not what they are; both are of one shape."""
    path = _first_difference(msgspec.to_builtins(sent), msgspec.to_builtins(fixed))
    if path is None:
        return
    name, value = path
    text = f"{what} cannot be changed here: {name} is {_shown(value)}"
    raise ProblemError(Problem(NOT_IMPLEMENTED, text))


def _first_difference(
    sent: dict[str, Any], fixed: dict[str, Any]
) -> tuple[str, Any] | None:
    """Return the name and the value of the first setting that is another one."""
    for name, value in fixed.items():
        if name in IGNORED:
            continue
        if isinstance(value, dict):
            inner = _first_difference(sent[name], value)
            if inner is not None:
                return f"{name}.{inner[0]}", inner[1]
        elif sent[name] != value:
            return name, value
    return None


def _shown(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:SHOWN_MAX]
