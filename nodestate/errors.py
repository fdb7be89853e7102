"""The whole error tree: what can go wrong, and who is meant to do something about it.

A refusal by the state machine is not here: it is a value, `model.outcome.Refused`.
"""


class NodestateError(Exception):
    """Any failure that nodestate itself reports."""


class RequestError(NodestateError):
    """What the caller sent cannot be used; the text names what was wrong."""


class PermissionDeniedError(NodestateError):
    """The caller may not do this."""


class NoLeaderError(NodestateError):
    """Nothing was sent, because no leader is known; it is safe to try again."""


class OutcomeUnknownError(NodestateError):
    """Sent, and not heard of again: it may still happen, and only a read can tell."""


class JournalError(NodestateError):
    """The journal cannot be written, or what was read from it cannot be trusted."""


class CorruptRecordError(JournalError):
    """A journal record that was durable, and perhaps acknowledged, is damaged."""


class SnapshotError(NodestateError):
    """A snapshot cannot be written or cannot be trusted."""


class StateDisagreementError(NodestateError):
    """The state of this server is not a majority's; it must not go on serving it."""


class FormationError(NodestateError):
    """The server may not be part of the cluster that it found."""


class FrameError(NodestateError):
    """Bytes from a peer that are no frame."""


class PeerRefusedError(NodestateError):
    """Who is at the other end of a connection is no server of this cluster."""


class ResponseError(NodestateError):
    """A server's answer was an error: its status and its text."""

    def __init__(self, status: int, text: str, *, outcome: str = "") -> None:
        """Keep the parts apart; `outcome` is the `X-Nodestate-Outcome` header."""
        super().__init__(f"Unexpected response code: {status} ({text})")
        self.status = status
        self.text = text
        self.outcome = outcome


class UnreachableError(NodestateError):
    """A server gave the client no answer, and nothing can have come of the request."""


class ConfigError(NodestateError):
    """A setting cannot be used; the text names the setting and the value."""
