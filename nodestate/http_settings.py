"""The settings of what clients meet first: limits, names, headers, and the audit log.

No file is opened here: `nodestate.api` does that.
"""

import re
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from nodestate.tls_settings import TlsSettings

NAME_LISTS: Final = frozenset({"http_hosts_allowed", "http_origins_allowed"})
"""Settings that are lists of words: in the environment and as flags with commas between."""

AUDIT_WRITES: Final = "writes"
AUDIT_ALL: Final = "all"
"""What `audit_requests` takes: changes and refusals, or every request."""

Word = Annotated[str, Meta(min_length=1)]

OWN_HEADERS: Final = frozenset(
    {
        *("allow", "connection", "content-encoding", "content-length", "content-type"),
        *("date", "keep-alive", "retry-after", "trailer", "transfer-encoding"),
        *("upgrade", "vary", "x-request-id"),
    }
)
"""Headers that say how an answer is to be read: they are not for others to set."""
OWN_HEADER_PREFIXES: Final = ("x-nomad-", "x-nodestate-")

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_TEXT: Final = re.compile(r"[\x20-\x7e]*")
_HOST: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_ORIGIN: Final = re.compile(r"https?://[A-Za-z0-9._-]+(:[0-9]{1,5})?")


def _number(description: str, ge: float, le: float) -> Meta:
    return Meta(description=description, ge=ge, le=le)


def _rate(description: str) -> Meta:
    return Meta(
        description=description,
        ge=0,
        le=1_000_000,
        extra={"allowed": "a number from 0 to 1000000, 0 for no limit"},
    )


def _words(description: str, what: str) -> Meta:
    return Meta(description=description, extra={"allowed": f"a list of {what}"})


class HttpSettings(TlsSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every client is held to, and what is written down about it."""

    http_response_headers: Annotated[
        dict[str, str],
        Meta(
            description="headers to add to every answer",
            extra={"allowed": "a table of header names and texts"},
        ),
    ] = msgspec.field(default_factory=dict)
    http_hosts_allowed: Annotated[
        tuple[Word, ...],
        _words(
            "names that clients call this server by, beside its own and addresses",
            "host names",
        ),
    ] = ()
    http_origins_allowed: Annotated[
        tuple[Word, ...],
        _words(
            "web pages that may write, beside this server's own",
            "origins such as https://nodes.example",
        ),
    ] = ()
    http_idle_s_max: Annotated[
        float,
        _number("how long a connection may stay without a request", ge=0.01, le=86_400),
    ] = 180.0
    http_head_s_max: Annotated[
        float,
        _number("how long the headers of a request may take to come", ge=0.01, le=3600),
    ] = 10.0
    head_bytes_max: Annotated[
        int,
        _number("all headers of a request that come in pieces", ge=1024, le=16 << 20),
    ] = 128 << 10
    connections_per_address_max: Annotated[
        int, _number("most open connections of one address", ge=1, le=1_000_000)
    ] = 8192
    watchers_per_client_max: Annotated[
        int,
        _number(
            "most blocking queries of one token, or without one of one address",
            ge=1,
            le=1_000_000,
        ),
    ] = 8192
    requests_per_second_max: Annotated[
        float, _rate("most requests of one token, or without one of one address")
    ] = 0.0
    connection_requests_per_second_max: Annotated[
        float, _rate("most requests of one connection")
    ] = 0.0
    audit_file: Annotated[
        str,
        Meta(
            description="where to write who did what; none: nowhere",
            min_length=1,
            extra={"allowed": "the path of a file"},
        ),
    ] = ""
    audit_requests: Annotated[
        str,
        Meta(
            description="what is written there: changes and refusals, or every request",
            pattern=f"^({AUDIT_WRITES}|{AUDIT_ALL})$",
            extra={"allowed": f"one of {AUDIT_WRITES}, {AUDIT_ALL}"},
        ),
    ] = AUDIT_WRITES
    audit_bytes_max: Annotated[
        int, _number("size at which the next file is begun", ge=4096, le=1 << 40)
    ] = 64 << 20
    audit_files_max: Annotated[
        int, _number("files that are kept, the one written to among them", ge=1, le=999)
    ] = 8
    audit_enforced: Annotated[
        bool,
        Meta(
            description="whether writes are refused while they cannot be written down",
            extra={"allowed": "true or false"},
        ),
    ] = False


Unfit = tuple[str, Any, str]
"""A setting, its value, and the rule that it breaks."""


def find_unfit_http(settings: HttpSettings) -> Unfit | None:
    """Return a setting that cannot be, or does not fit to the others; `None` if all do."""
    return (
        _find_unfit_header(settings.http_response_headers)
        or _find_unfit_host(settings.http_hosts_allowed)
        or _find_unfit_origin(settings.http_origins_allowed)
        or _find_unfit_audit(settings)
    )


def _find_unfit_header(headers: dict[str, str]) -> Unfit | None:
    setting = "http_response_headers"
    seen: set[str] = set()
    for name, text in headers.items():
        lowered = name.lower()
        if not (_HEADER_NAME.fullmatch(name) and _HEADER_TEXT.fullmatch(text)):
            rule = (
                "a name is letters, digits, '-' and '_'; a text has no line breaks, "
                "and is ASCII"
            )
            return setting, f"{name}: {text}", rule
        if lowered in OWN_HEADERS or lowered.startswith(OWN_HEADER_PREFIXES):
            return setting, name, "is a header that the server sets itself"
        if lowered in seen:
            return setting, name, "is there twice"
        seen.add(lowered)
    return None


def _find_unfit_host(hosts: tuple[str, ...]) -> Unfit | None:
    for host in hosts:
        if _HOST.fullmatch(host) is None:
            return "http_hosts_allowed", host, "is no host name; ports do not count"
    return None


def _find_unfit_origin(origins: tuple[str, ...]) -> Unfit | None:
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            rule = "is no origin: http or https, a host, perhaps a port, no path"
            return "http_origins_allowed", origin, rule
    return None


def _find_unfit_audit(settings: HttpSettings) -> Unfit | None:
    if settings.audit_enforced and not settings.audit_file:
        return "audit_enforced", True, "is of no use without audit_file"
    return None
