"""The typed client for work: jobs, allocations, evaluations, and what a drain would do."""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from nodestate.answers import (
    Allocation,
    DrainSpec,
    DrainView,
    JobPlan,
    JobStub,
    JobWritten,
)
from nodestate.client import NOW, Client, Query, Read
from nodestate.errors import ResponseError
from nodestate.model.evaluation import Evaluation
from nodestate.model.job import Job, JobSummary


class WorkClient(Client):
    """Talks to one server about work as well as about nodes."""

    async def jobs(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[JobStub]]:
        """List the jobs whose ids begin with `prefix`."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/jobs", list[JobStub], query, options)

    async def job(self, job_id: str, query: Query = NOW) -> Read[Job]:
        """Read one job, by its id."""
        return await self._read(_job_path(job_id), Job, query)

    async def job_summary(self, job_id: str, query: Query = NOW) -> Read[JobSummary]:
        """Read a job in numbers."""
        return await self._read(_job_path(job_id, "summary"), JobSummary, query)

    async def job_allocations(
        self, job_id: str, query: Query = NOW, *, all_incarnations: bool = False
    ) -> Read[list[Allocation]]:
        """List a job's allocations, those of purged jobs of the same id too if asked."""
        options = {"all": "true"} if all_incarnations else {}
        path = _job_path(job_id, "allocations")
        return await self._read(path, list[Allocation], query, options)

    async def job_evaluations(
        self, job_id: str, query: Query = NOW
    ) -> Read[list[Evaluation]]:
        """Read a job's evaluations."""
        path = _job_path(job_id, "evaluations")
        return await self._read(path, list[Evaluation], query)

    async def register_job(
        self,
        job: Mapping[str, object],
        *,
        enforced_index: int | None = None,
        idempotency_key: str = "",
    ) -> JobWritten:
        """Register a job as JSON has it; only if its index is still the enforced one."""
        body: dict[str, object] = {"Job": job}
        if enforced_index is not None:
            body |= {"EnforceIndex": True, "JobModifyIndex": enforced_index}
        return await self._write("/v1/jobs", body, JobWritten, idempotency_key)

    async def plan_job(self, job_id: str, job: Mapping[str, object]) -> JobPlan:
        """Ask what registering a job would lead to; nothing is changed."""
        body = {"Job": job, "Diff": True}
        return await self._write(_job_path(job_id, "plan"), body, JobPlan)

    async def evaluate_job(
        self, job_id: str, *, force_reschedule: bool = False, idempotency_key: str = ""
    ) -> JobWritten:
        """Have a job looked at again, and what has failed for good as well if forced."""
        body = {
            "JobID": job_id,
            "EvalOptions": {"ForceReschedule": force_reschedule},
        }
        path = _job_path(job_id, "evaluate")
        return await self._write(path, body, JobWritten, idempotency_key)

    async def stop_job(self, job_id: str, *, purge: bool = False) -> JobWritten:
        """Stop a job, and forget it if `purge`.

        aiohttp sends a DELETE once more if the connection breaks: stopping twice is fine.
        """
        parameters = {"purge": "true"} if purge else {}
        reply = await self._change("DELETE", _job_path(job_id), parameters)
        try:
            return msgspec.json.decode(reply.body, type=JobWritten)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ResponseError(reply.status, f"unexpected body: {error}") from error

    async def all_allocations(
        self, query: Query = NOW, *, prefix: str = ""
    ) -> Read[list[Allocation]]:
        """List the allocations whose ids begin with `prefix`: an even number of digits."""
        options = {"prefix": prefix} if prefix else {}
        return await self._read("/v1/allocations", list[Allocation], query, options)

    async def allocation(
        self, allocation_id: str, query: Query = NOW
    ) -> Read[Allocation]:
        """Read one allocation, by its full id."""
        path = f"/v1/allocation/{quote(allocation_id, safe='')}"
        return await self._read(path, Allocation, query)

    async def stop_allocation(
        self, allocation_id: str, *, idempotency_key: str = ""
    ) -> JobWritten:
        """Have an allocation stopped, and replaced elsewhere."""
        path = f"/v1/allocation/{quote(allocation_id, safe='')}/stop"
        return await self._write(path, {}, JobWritten, idempotency_key)

    async def evaluations(
        self, query: Query = NOW, *, prefix: str = "", **options: str
    ) -> Read[list[Evaluation]]:
        """List evaluations; `options` are the list's own, such as `status` and `job`."""
        wanted = {"prefix": prefix, **options}
        parameters = {name: value for name, value in wanted.items() if value}
        return await self._read("/v1/evaluations", list[Evaluation], query, parameters)

    async def evaluation(
        self, evaluation_id: str, query: Query = NOW
    ) -> Read[Evaluation]:
        """Read one evaluation, by its full id."""
        return await self._read(_evaluation_path(evaluation_id), Evaluation, query)

    async def evaluation_allocations(
        self, evaluation_id: str, query: Query = NOW
    ) -> Read[list[Allocation]]:
        """List the allocations that an evaluation has made."""
        path = _evaluation_path(evaluation_id, "allocations")
        return await self._read(path, list[Allocation], query)

    async def drain_view(
        self, node_id: str, spec: DrainSpec | None = None, *, query: Query = NOW
    ) -> Read[DrainView]:
        """Read how a node's drain does, or what one as `spec` would do now."""
        options = {}
        if spec is not None:
            options["deadline"] = f"{spec.deadline}ns"
            options["ignore_system_jobs"] = (
                "true" if spec.ignore_system_jobs else "false"
            )
        path = f"/v1/node/{quote(node_id, safe='')}/drain"
        return await self._read(path, DrainView, query, options)


def _job_path(job_id: str, action: str = "") -> str:
    path = f"/v1/job/{quote(job_id, safe='')}"
    return f"{path}/{action}" if action else path


def _evaluation_path(evaluation_id: str, action: str = "") -> str:
    path = f"/v1/evaluation/{quote(evaluation_id, safe='')}"
    return f"{path}/{action}" if action else path
