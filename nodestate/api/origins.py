"""Keeps web pages of others away: those in a browser that can reach this server.

A browser sends what any page asks it to, with whatever it knows: a page cannot read the
answer, but a write is done by then. So a write that a page of another origin asks for is
refused; browsers say where it comes from, and let no page say otherwise.

A page can also have its own name lead to this machine once it is loaded (DNS rebinding).
For the browser it is then of the same origin, and may read. Its name is still in `Host`:
a server that only this machine can reach answers to names that nobody else can have.
Programs send neither header, and an address or a known name as `Host`.
"""

import ipaddress
import re
from typing import Final

from aiohttp import web
from aiohttp.hdrs import HOST, ORIGIN
from multidict import istr

from nodestate.api.problems import Problem
from nodestate.config import ServerConfig, is_loopback, split_address

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that change nothing here, whoever asks."""
SEC_FETCH_SITE: Final = istr("Sec-Fetch-Site")
OTHER_SITES: Final = frozenset({"cross-site", "same-site"})
"""What a browser says of a page of another origin, which may be of the same domain."""
HOSTS_KEPT_MAX: Final = 1024
SHOWN_MAX: Final = 64
LOCAL_NAME: Final = "localhost"
"""A name, and the end of names, that browsers look up nowhere."""

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:@\[\]]+))(?::[0-9]*)?")
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class OriginCheck:
    """Judges for one server where requests come from."""

    def __init__(self, config: ServerConfig) -> None:
        """Take the names and origins that may be from the settings."""
        host, _ = split_address(config.http)
        # Elsewhere a server may have any name, unless it is told which.
        self._looks_at_host = is_loopback(host) or bool(config.http_hosts_allowed)
        self._names = _own_names(config, host)
        self._origins = {origin.lower() for origin in config.http_origins_allowed}
        self._hosts_known: set[str] = set()

    def problem_with(self, request: web.BaseRequest) -> Problem | None:
        """Return why a request is refused; `None` if it may go on."""
        headers = request.headers
        if self._looks_at_host:
            host = headers.get(HOST)
            if (
                host is not None
                and host not in self._hosts_known
                and not self._knows(host)
            ):
                return _refused_host(host)
        if request.method in SAFE_METHODS:
            return None
        origin = headers.get(ORIGIN)
        if origin is None:
            if headers.get(SEC_FETCH_SITE) not in OTHER_SITES:
                return None
        elif origin.lower() in self._origins or _is_same(origin, headers.get(HOST)):
            return None
        return _refused_origin(origin)

    def _knows(self, host: str) -> bool:
        name = _name_in(host)
        if not (name in self._names or _is_local(name) or _is_address(name)):
            return False
        # What is in a header is anybody's choice, so there is an end to keeping it.
        if len(self._hosts_known) >= HOSTS_KEPT_MAX:
            self._hosts_known.clear()
        self._hosts_known.add(host)
        return True


def _own_names(config: ServerConfig, host: str) -> frozenset[str]:
    """Return the names that this cluster's servers are configured with."""
    names = {host, config.name, *config.http_hosts_allowed}
    for entry in config.servers:
        names |= {entry.name, split_address(entry.http)[0]}
    return frozenset(name.lower() for name in names)


def _name_in(host: str) -> str:
    """Return what a `Host` names, without its port; nothing of what is no `Host`."""
    found = _HOST.fullmatch(host)
    if found is None:
        return ""
    address, name = found.groups("")
    return address or name.lower().removesuffix(".")


def _is_local(name: str) -> bool:
    return name == LOCAL_NAME or name.endswith("." + LOCAL_NAME)


def _is_address(name: str) -> bool:
    """Say whether it is an IP address, which no page can have as the name of its site."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str | None) -> bool:
    """Say whether a page is one of this server's own: at the address that it asks.

    Which of http and https is not compared: something before the server may end TLS.
    """
    scheme, separator, authority = origin.lower().partition("://")
    if not separator or scheme not in _DEFAULT_PORTS or host is None:
        return False
    port = _DEFAULT_PORTS[scheme]
    return authority.removesuffix(port) == host.lower().removesuffix(port)


def _refused_host(host: str) -> Problem:
    return Problem(
        403,
        f"Host {_shown(host)} is not a name of this server: use its address or "
        "localhost, or allow the name (http_hosts_allowed)",
        closes=True,
    )


def _refused_origin(origin: str | None) -> Problem:
    whose = (
        "a page of another site" if origin is None else f"a page of {_shown(origin)}"
    )
    return Problem(
        403,
        f"{whose} may not write here; allow its origin if it should "
        "(http_origins_allowed)",
    )


def _shown(text: str) -> str:
    return ascii(text[:SHOWN_MAX])
