"""A node in the one form in which it is stored, however its agent wrote it.

Maps that are empty are unset, a drain is closed to placements and has a strategy, and
texts that many nodes have in common are kept once: thousands of nodes repeat the same
attributes, and those are most of what a node weighs.
"""

from sys import intern
from typing import Final

from msgspec.structs import replace

from nodestate.model.node import (
    ELIGIBLE,
    INELIGIBLE,
    UNIQUE_PREFIX,
    DeviceResource,
    DrainStrategy,
    Driver,
    Node,
    NodeEvent,
    NodeResources,
)

FLAG_ONLY_DRAIN: Final = DrainStrategy(deadline=-1_000_000_000)
"""What a drain flag without a strategy means: forced, as old agents had it."""


def canonical(node: Node) -> Node:
    """Return the node as it is stored; doing so twice changes nothing more."""
    strategy = node.drain_strategy
    if strategy is None and node.drain:
        strategy = FLAG_ONLY_DRAIN
    eligibility = node.scheduling_eligibility or ELIGIBLE
    return replace(
        node,
        datacenter=intern(node.datacenter),
        node_class=intern(node.node_class),
        node_pool=intern(node.node_pool),
        computed_class=intern(node.computed_class),
        attributes=shared_texts(node.attributes),
        meta=shared_texts(node.meta),
        links=shared_texts(node.links),
        drivers=shared_drivers(node.drivers),
        host_volumes=node.host_volumes or None,
        node_resources=_resources(node.node_resources),
        events=tuple(shared_event(event) for event in node.events),
        scheduling_eligibility=eligibility if strategy is None else INELIGIBLE,
        drain=strategy is not None,
        drain_strategy=strategy,
    )


def shared_texts(texts: dict[str, str] | None) -> dict[str, str] | None:
    """Return the map with each text kept once, `None` for an empty one."""
    if not texts:
        return None
    return {
        intern(key): text if key.startswith(UNIQUE_PREFIX) else intern(text)
        for key, text in texts.items()
    }


def shared_drivers(drivers: dict[str, Driver] | None) -> dict[str, Driver] | None:
    """Return the drivers with each of their texts kept once, `None` if there are none."""
    if not drivers:
        return None
    return {
        intern(name): replace(
            driver,
            attributes=shared_texts(driver.attributes),
            health_description=intern(driver.health_description),
        )
        for name, driver in drivers.items()
    }


def shared_event(event: NodeEvent) -> NodeEvent:
    """Return the line of a node's history with its texts kept once."""
    return replace(
        event, message=intern(event.message), subsystem=intern(event.subsystem)
    )


def _resources(resources: NodeResources | None) -> NodeResources | None:
    if resources is None or not resources.devices:
        return resources
    return replace(resources, devices=[_device(device) for device in resources.devices])


def _device(device: DeviceResource) -> DeviceResource:
    return replace(device, attributes=device.attributes or None)
