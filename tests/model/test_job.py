"""Which jobs a node has to run."""

import pytest

from nodestate.model.job import Job, JobType


@pytest.mark.parametrize(
    ("kind", "stop", "datacenters", "is_wanted"),
    [
        (JobType.SYSTEM, False, ("dc1",), True),
        (JobType.SYSTEM, False, ("dc0", "dc1"), True),
        (JobType.SYSTEM, False, ("dc10",), False),
        (JobType.SYSTEM, False, (), False),
        (JobType.SYSTEM, True, ("dc1",), False),
        (JobType.SERVICE, False, ("dc1",), False),
        (JobType.BATCH, False, ("dc1",), False),
    ],
)
def test_a_system_job_runs_in_its_datacenters_until_stopped(
    kind, stop, datacenters, is_wanted
):
    job = Job(type=kind, stop=stop, datacenters=datacenters)

    assert job.is_wanted_on("dc1") is is_wanted
