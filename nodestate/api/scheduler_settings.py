"""How the scheduler is set, as Nomad shows it: it packs, and preempts nobody."""

from typing import Final

from nodestate.api.calls import Call
from nodestate.api.fixed_settings import check_unchanged
from nodestate.api.parameters import check_region
from nodestate.api.replies import Reply
from nodestate.api.shapes import Shape
from nodestate.model.timestamp import NANOSECONDS

BINPACK: Final = "binpack"
FIRST_INDEX: Final = 1
"""At which the cluster was formed, and these settings with it."""


class PreemptionConfig(Shape, frozen=True, kw_only=True):
    """For which kinds of jobs others are stopped to make room: for none."""

    batch_scheduler_enabled: bool = False
    service_scheduler_enabled: bool = False
    sys_batch_scheduler_enabled: bool = False
    system_scheduler_enabled: bool = False


class SchedulerConfiguration(Shape, frozen=True, kw_only=True):
    """The settings; what is left out when they are sent is what it is here."""

    scheduler_algorithm: str = BINPACK
    preemption_config: PreemptionConfig = PreemptionConfig()
    memory_oversubscription_enabled: bool = False
    reject_job_registration: bool = False
    pause_eval_broker: bool = False
    create_index: int = FIRST_INDEX
    modify_index: int = FIRST_INDEX


class SchedulerConfigurationShown(Shape, frozen=True, kw_only=True):
    """The answer to a read; `last_contact` in nanoseconds."""

    scheduler_config: SchedulerConfiguration = SchedulerConfiguration()
    index: int = FIRST_INDEX
    last_contact: int
    known_leader: bool


class SchedulerConfigurationSet(Shape, frozen=True, kw_only=True):
    """The answer to a write."""

    updated: bool
    index: int = FIRST_INDEX


async def read_configuration(call: Call) -> Reply:
    """Answer `GET /v1/operator/scheduler/configuration`."""
    call.read_options()
    status = call.services.leadership.status()
    shown = SchedulerConfigurationShown(
        last_contact=round((status.last_contact_s or 0.0) * NANOSECONDS),
        known_leader=status.leader_id is not None,
    )
    return call.json(shown)


async def write_configuration(call: Call) -> Reply:
    """Answer `PUT /v1/operator/scheduler/configuration`: fine if that is how it is."""
    sent = await call.decoded(SchedulerConfiguration)
    check_region(call.query, call.services.config)
    check_unchanged("the scheduler configuration", sent, SchedulerConfiguration())
    return call.json(SchedulerConfigurationSet(updated=True))
