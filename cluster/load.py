"""Load on one server: many connections that each ask, wait for the answer, ask again.

Debian's `wrk` where it is installed, since a client in Python would be the slowest part;
else `cluster.load_client`, in a process of its own. Both take the same plan and give the
same figures, and every report says which of them it was.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from nodestate.config import split_address

WRK: Final = shutil.which("wrk")
WRK_THREADS_MAX: Final = 1
REQUEST_S_MAX: Final = 30
SPARE_S: Final = 120.0

# Thread t of n takes every n-th request, so that the order of a plan holds within it.
# Methods, paths and bodies hold no tabs: bodies are compact JSON.
_LUA: Final = """
local threads = 0
function setup(thread)
  thread:set("first", threads)
  threads = threads + 1
end
function init(args)
  requests, position = {}, 0
  local number, stride = 0, tonumber(args[2])
  for line in io.lines(args[1]) do
    if number % stride == first then
      local method, path, body = line:match("^(%S+)\\t(%S+)\\t(.*)$")
      if body == "" then body = nil end
      requests[#requests + 1] = wrk.format(method, path, nil, body)
    end
    number = number + 1
  end
end
function request()
  position = position % #requests + 1
  return requests[position]
end
function done(summary, latency, _)
  local bad = summary.errors.connect + summary.errors.read + summary.errors.write
    + summary.errors.timeout
  io.write(string.format('\\n{"answers":%d,"refused":%d,"broken":%d,"seconds":%f,' ..
    '"p50_ms":%f,"p99_ms":%f}\\n', summary.requests, summary.errors.status, bad,
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
"""


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request; an empty body is none."""

    method: str
    path: str
    body: str = ""


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask of whom. With `seconds` the requests go round, else each is sent once.

    Every request comes with the `token`, if there is one.
    """

    address: str
    connections: int
    requests: Sequence[Request]
    seconds: float | None = None
    token: str = ""


class LoadFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a plan. `refused` are answers that are no 2xx, `broken` none at all.

    The longest answer is known of our own client only.
    """

    answers: int
    refused: int
    broken: int
    seconds: float
    p50_ms: float
    p99_ms: float
    longest_ms: float | None = None

    @property
    def per_second(self) -> float:
        """Return good answers per second."""
        return (self.answers - self.refused) / self.seconds


class LoadError(Exception):
    """The load could not be made, so that there is nothing to report."""


def generator_name() -> str:
    """Say what makes the load that runs for a time."""
    return "wrk" if WRK else "cluster.load_client (asyncio sockets)"


def run_for_a_time(plan: LoadPlan) -> LoadFigures:
    """Run a plan that has `seconds`, with the fastest client that is here."""
    assert plan.seconds is not None
    return _run_wrk(WRK, plan) if WRK else run_client(plan)


def run_client(plan: LoadPlan, *, spare_s: float = SPARE_S) -> LoadFigures:
    """Run any plan with our own client, in a process of its own."""
    return _figures(
        [sys.executable, "-m", "cluster.load_client"],
        within_s=(plan.seconds or 0.0) + spare_s,
        stdin=msgspec.json.encode(plan),
    )


def _run_wrk(wrk: str, plan: LoadPlan) -> LoadFigures:
    assert plan.seconds is not None
    host, port = split_address(plan.address)
    threads = min(WRK_THREADS_MAX, plan.connections)
    with tempfile.TemporaryDirectory() as directory:
        script, requests = Path(directory, "load.lua"), Path(directory, "requests")
        script.write_text(_LUA, encoding="utf-8")
        requests.write_text(
            "".join(f"{r.method}\t{r.path}\t{r.body}\n" for r in plan.requests),
            encoding="utf-8",
        )
        options: dict[str, object] = {
            "--threads": threads,
            "--connections": plan.connections,
            "--duration": f"{max(1, round(plan.seconds))}s",
            "--timeout": f"{REQUEST_S_MAX}s",
            "--script": script,
        }
        if plan.token:
            options["--header"] = f"X-Nomad-Token: {plan.token}"
        flat = [str(part) for option in options.items() for part in option]
        url = f"http://{host}:{port}/"
        return _figures(
            [wrk, *flat, url, "--", str(requests), str(threads)],
            within_s=plan.seconds + SPARE_S,
        )


def _figures(
    command: Sequence[str], *, within_s: float, stdin: bytes = b""
) -> LoadFigures:
    """Run a load generator, whose last line is its figures."""
    done = subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        timeout=within_s,
        check=False,
    )
    lines = done.stdout.decode(errors="replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        raise LoadError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
    figures = msgspec.convert(json.loads(lines[-1]), LoadFigures)
    if figures.answers == 0:
        raise LoadError(f"{command[0]}: not one answer")
    return figures
