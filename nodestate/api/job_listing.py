"""The list of jobs: of one namespace or of all, by prefix, by filter, page by page."""

from bisect import bisect_left
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from nodestate.acl.policies import LIST_JOBS
from nodestate.api import blocking, parameters
from nodestate.api.calls import Call, Services, index_line
from nodestate.api.job_shapes import encode_job_stub
from nodestate.api.jobs import jobs_index
from nodestate.api.listing import cut_page, encode_parts, filter_of, list_body
from nodestate.api.parameters import ALL_NAMESPACES
from nodestate.api.replies import JSON_TYPE, Reply
from nodestate.errors import RequestError
from nodestate.fsm.keys import job_text
from nodestate.fsm.state import JOBS, State
from nodestate.model.job import Job, JobKey, JobSummary
from nodestate.query.filters import Filter
from nodestate.query.paging import parse_per_page
from nodestate.watch import WatchKey, prefix_key, table_key

TOKEN_CHARACTERS_MAX: Final = 1024


class Wanted(NamedTuple):
    """What a list is to have; `token` is the key that the page begins with.

    `sees` says which namespaces the caller may see.
    """

    namespace: str
    prefix: str
    wanted: Filter | None
    per_page: int
    token: JobKey | None
    sees: Callable[[str], bool]

    @property
    def is_of_all_namespaces(self) -> bool:
        """Say whether it is a list of all namespaces."""
        return self.namespace == ALL_NAMESPACES

    def has(self, key: JobKey) -> bool:
        """Say whether a job is under the prefix, in the namespace."""
        namespace, id_ = key
        if not (self.is_of_all_namespaces or namespace == self.namespace):
            return False
        return id_.startswith(self.prefix) and self.sees(namespace)

    def watched(self) -> WatchKey:
        """Return the key of whatever may change the list."""
        if self.is_of_all_namespaces:
            return table_key(JOBS)
        return prefix_key(JOBS, job_text(JobKey((self.namespace, self.prefix))))


async def list_jobs(call: Call) -> Reply:
    """Answer `GET /v1/jobs`."""
    options = call.read_options()
    asked = _asked(call)
    await blocking.wait_until_fresh(call, options)
    if options.index:
        await blocking.wait_until_past(call, options, asked.watched(), jobs_index)
    services = call.services
    state = services.view.state()
    headers = index_line(jobs_index(state)) + blocking.contact_lines(services, options)
    # All that the list is made of is taken in this one step.
    jobs, summaries = _jobs_of(state, asked), state.job_summaries.copy()
    page, following = await cut_page(
        services.clock, jobs, per_page=asked.per_page, wanted=asked.wanted
    )

    def encode(job: Job) -> bytes:
        return _stub(services, job, summaries.get(job.key), asked)

    parts = await encode_parts(services.clock, page, encode)
    if following is not None:
        headers += b"X-Nomad-NextToken: %b\r\n" % format_token(following.key)
    return Reply(200, JSON_TYPE + headers, await list_body(call, parts))


def _asked(call: Call) -> Wanted:
    query = call.query
    return Wanted(
        namespace=parameters.read_namespace(query, may_be_all=True),
        prefix=query.get("prefix", ""),
        wanted=filter_of(query.get("filter", ""), Job),
        per_page=parse_per_page(query.get("per_page", "")),
        token=parse_token(query.get("next_token", "")),
        sees=lambda namespace: call.may(LIST_JOBS, namespace),
    )


def _jobs_of(state: State, asked: Wanted) -> list[Job]:
    keys = sorted(filter(asked.has, state.jobs))
    first = bisect_left(keys, asked.token) if asked.token is not None else 0
    return [state.jobs[key] for key in keys[first:]]


def _stub(
    services: Services, job: Job, summary: JobSummary | None, asked: Wanted
) -> bytes:
    shows_namespace = asked.is_of_all_namespaces
    kept = services.job_stubs_of_all if shows_namespace else services.job_stubs
    body = kept.body(
        job.key,
        lambda: encode_job_stub(job, summary, shows_namespace=shows_namespace),
        job,
        summary,
    )
    return body.plain


# Where the next page begins: the namespace, a dot, and the id, fit for a header


def format_token(key: JobKey) -> bytes:
    """Return a page token; a namespace has no dot in it."""
    return quote(".".join(key), safe="/").encode("ascii")


def parse_token(text: str) -> JobKey | None:
    """Return the key that a page begins with, `None` for the first page."""
    if not text:
        return None
    if len(text) > TOKEN_CHARACTERS_MAX:
        raise RequestError(
            f"`next_token` has {len(text)} characters, at most {TOKEN_CHARACTERS_MAX} "
            "are allowed"
        )
    namespace, _, id_ = unquote(text).partition(".")
    return JobKey((namespace, id_))
