"""How the servers do, asked of a real cluster that loses one of them and gets it back."""

import pytest

from tests.cluster.running import RunningCluster, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]

HEALTH = "/v1/operator/autopilot/health"


async def unhealthy(cluster: RunningCluster) -> dict[str, set[str]]:
    """Return who is not well, as each running server has it; the status fits to it."""
    found = {}
    for files in cluster.running:
        answer = await cluster.get(files, HEALTH)
        lost = {one["ID"] for one in answer.json["Servers"] if not one["Healthy"]}
        assert answer.status == (429 if lost else 200)
        assert answer.json["Healthy"] is (not lost)
        assert answer.json["FailureTolerance"] == (0 if lost else 1)
        found[files.name] = lost
    return found


async def test_a_server_that_is_lost_is_not_well_until_it_has_caught_up(make_cluster):
    async with make_cluster() as cluster:
        leader = await cluster.wait_for_leader()
        lost = next(files for files in cluster.servers if files is not leader)

        async def all_say(expected: set[str]) -> bool:
            said = await unhealthy(cluster)
            return all(names == expected for names in said.values())

        await wait_until(lambda: all_say(set()))
        cluster.processes[lost.name].kill()
        await wait_until(lambda: all_say({lost.name}))
        await cluster.register(leader, 400)
        before = await cluster.get(leader, HEALTH)
        cluster.start_all()
        await cluster.wait_for_leader()
        await wait_until(lambda: all_say(set()))

        after = await cluster.get(leader, HEALTH)
        (then,) = [one for one in before.json["Servers"] if one["ID"] == lost.name]
        (now,) = [one for one in after.json["Servers"] if one["ID"] == lost.name]
        assert then["SerfStatus"] == "failed"
        assert now["SerfStatus"] == "alive"
        assert now["StableSince"] > then["StableSince"]
        assert now["LastIndex"] > then["LastIndex"]
        assert now["LastTerm"] == after.json["Servers"][0]["LastTerm"]
