"""nodestate: Nomad's Nodes API as a service of its own, on a replicated log."""

__version__ = "0.1.0"
