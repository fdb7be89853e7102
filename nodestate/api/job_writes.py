"""Jobs changed: registered, checked, stopped, forgotten, looked at again."""

import json
from typing import Final

from msgspec.structs import replace

from nodestate.acl.policies import MOUNT_READONLY, MOUNT_READWRITE
from nodestate.api import parameters
from nodestate.api.bodies import decode_body
from nodestate.api.calls import Call, index_line
from nodestate.api.job_shapes import (
    EvaluationSent,
    JobSent,
    JobValidated,
    describe_job_write,
    job_from,
)
from nodestate.api.jobs import key_of
from nodestate.api.parameters import NO_SUCH_REGION
from nodestate.api.problems import Problem, ProblemError
from nodestate.api.replies import Reply
from nodestate.errors import PermissionDeniedError, RequestError
from nodestate.model.command import DeregisterJob, EvaluateJob, RegisterJob
from nodestate.model.job import Job
from nodestate.model.job_validation import faults_of, listed, refuse_submission

OTHER_JOB: Final = "Job ID does not match name"
OTHER_EVALUATION: Final = "JobID not same as job name"
NO_EVALUATION_JOB: Final = "Job ID must be specified"
NO_HCL: Final = (
    "HCL is not parsed here: send a job as JSON, as `nomad job run -output` prints it"
)


async def register_job(call: Call) -> Reply:
    """Answer `PUT /v1/jobs` and `PUT /v1/job/:id`."""
    sent = await call.decoded(JobSent)
    await call.prepare_write()
    job = submitted_job(call, sent.job, OTHER_JOB)
    call.permit_if(lambda asking: _check_volumes(asking, job))
    services = call.services
    command = RegisterJob(
        job=job,
        is_index_enforced=sent.enforce_index,
        enforced_index=sent.job_modify_index,
        at_ns=services.clock.now_ns(),
        seed=services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    written = describe_job_write(accepted, warnings="")
    return call.json(written, headers=index_line(accepted.index))


def submitted_job(call: Call, sent: object, other_job: str) -> Job:
    """Return the job of a body, whole and valid; whatever is wrong with it is an error.

    `other_job` is what to say if it is not the one in the path. Tokens that a job may
    carry are for others, and not kept.
    """
    namespace = parameters.read_namespace(call.query)
    region = call.services.config.region
    job = job_from(sent, namespace=namespace, region=region)
    if call.id_text and job.id != call.id_text:
        raise RequestError(other_job)
    if job.region != region:
        raise RequestError(NO_SUCH_REGION)
    if job.namespace != namespace:
        found = json.dumps(job.namespace[: parameters.NAMESPACE_SHOWN_MAX])
        raise RequestError(
            f'mismatched request namespace in request: "{namespace}", {found}'
        )
    reason = refuse_submission(job) or listed(faults_of(job))
    if reason:
        raise RequestError(reason)
    return replace(job, consul_token="", vault_token="")


def _check_volumes(call: Call, job: Job) -> None:
    """Refuse a job that mounts a host's volume as its author may not."""
    permissions = call.identity().permissions
    for group in job.task_groups or ():
        for volume in (group.volumes or {}).values():
            wanted = MOUNT_READONLY if volume.read_only else MOUNT_READWRITE
            may_mount = permissions.allows_host_volume(volume.source, wanted)
            if not may_mount and volume.read_only:
                # Who may write may read.
                may_mount = permissions.allows_host_volume(
                    volume.source, MOUNT_READWRITE
                )
            if not may_mount:
                raise PermissionDeniedError(wanted)


async def validate_job(call: Call) -> Reply:
    """Answer `PUT /v1/validate/job`: what is wrong with a job is no error here."""
    sent = await call.decoded(JobSent)
    parameters.check_region(call.query, call.services.config)
    namespace = parameters.read_namespace(call.query)
    region = call.services.config.region
    job = job_from(sent.job, namespace=namespace, region=region)
    reason = refuse_submission(job)
    faults = [reason] if reason else faults_of(job)
    answer = JobValidated(
        error=reason or listed(faults), validation_errors=tuple(faults) or None
    )
    return call.json(answer)


async def parse_job(_: Call) -> Reply:
    """Answer `PUT /v1/jobs/parse`: that there is no such thing here."""
    raise ProblemError(Problem(501, NO_HCL))


async def deregister_job(call: Call) -> Reply:
    """Answer `DELETE /v1/job/:id`; one that is unknown is gone already."""
    is_purge = parameters.read_word_flag(call.query, "purge")
    await call.prepare_write()
    services = call.services
    command = DeregisterJob(
        key=key_of(call),
        is_purge=is_purge,
        at_ns=services.clock.now_ns(),
        seed=services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    written = describe_job_write(accepted)
    return call.json(written, headers=index_line(accepted.index))


async def evaluate_job(call: Call) -> Reply:
    """Answer `PUT /v1/job/:id/evaluate`; the body may be left out."""
    sent = EvaluationSent(job_id=call.id_text)
    body = await call.body()
    if body:
        sent = decode_body(body, EvaluationSent)
        if not sent.job_id:
            raise RequestError(NO_EVALUATION_JOB)
        if sent.job_id != call.id_text:
            raise RequestError(OTHER_EVALUATION)
    await call.prepare_write()
    services = call.services
    command = EvaluateJob(
        key=key_of(call),
        force_reschedule=sent.eval_options.force_reschedule,
        at_ns=services.clock.now_ns(),
        seed=services.ids.new_seed(),
    )
    accepted = await call.propose(command)
    written = describe_job_write(accepted, warnings="")
    return call.json(written, headers=index_line(accepted.index))
