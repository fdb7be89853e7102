"""How long a node may be silent: Nomad's arithmetic, pure."""

from typing import Final, NamedTuple

_RATE_MIN: Final = 1 / 86_400


class HeartbeatRules(NamedTuple):
    """The settings that the arithmetic needs, in seconds and per second."""

    ttl_s_min: float
    per_second_max: float
    grace_s: float
    failover_ttl_s: float


def base_ttl_s(timer_count: int, rules: HeartbeatRules) -> float:
    """Return the shortest TTL at which all nodes together keep within the rate."""
    if rules.per_second_max <= _RATE_MIN:
        return rules.ttl_s_min
    return max(rules.ttl_s_min, timer_count / rules.per_second_max)


def ttl_s(timer_count: int, rules: HeartbeatRules, *, jitter: float) -> float:
    """Return a TTL for one node; `jitter`, from 0 up to 1, spreads them to twice the base."""
    return base_ttl_s(timer_count, rules) * (1 + jitter)


def silence_s_max(ttl: float, rules: HeartbeatRules) -> float:
    """Return after how long a silent node counts as down."""
    return ttl + rules.grace_s


def first_silence_s_max(rules: HeartbeatRules) -> float:
    """Return the same for a node that a new leader has not heard of yet."""
    return rules.failover_ttl_s + rules.grace_s
