"""`python -m cluster …`: what the lab can do, from a checkout."""

import argparse
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cluster import bench
from cluster.bench_against import run_against
from cluster.down import run_down, run_status
from cluster.run import add_run_arguments, run_schedules
from cluster.servers import ServerFiles, read_server_files
from cluster.soak import SoakOptions, run_soak
from cluster.up import EXIT_FAILED, ClusterError, run_up

LOCAL: Final = Path(__file__).parent / "local"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was asked, and return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return EXIT_FAILED


def _run(options: argparse.Namespace) -> int:
    match options.command:
        case "up":
            return run_up(_servers(options), fresh=options.fresh)
        case "down":
            return run_down(_servers(options))
        case "status":
            return run_status(_servers(options))
        case "bench":
            return _run_bench(options)
        case "soak":
            return run_soak(_soak_options(options), json_path=options.json)
        case "run":
            return run_schedules(options)
        case other:
            raise AssertionError(f"no such command: {other}")


def _run_bench(options: argparse.Namespace) -> int:
    if options.against is not None:
        return run_against(
            options.against, json_path=options.json, is_quick=options.quick
        )
    return bench.run_bench(
        json_path=options.json, is_quick=options.quick, only=options.only or ()
    )


def _soak_options(options: argparse.Namespace) -> SoakOptions:
    seed = options.seed
    return SoakOptions(
        seconds=options.minutes * 60,
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        server_count=options.servers,
        client_count=options.clients,
        snapshot_entries=options.snapshot_entries,
    )


def _servers(options: argparse.Namespace) -> list[ServerFiles]:
    paths = options.config or sorted(LOCAL.glob("server*.toml"))
    try:
        return [read_server_files(path, directory=Path.cwd()) for path in paths]
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise ClusterError(f"cannot read the servers' settings: {error!r}") from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the servers and stay in the foreground")
    up.add_argument("--fresh", action="store_true", help="start from empty data")
    down = commands.add_parser("down", help="stop them, from another terminal")
    status = commands.add_parser("status", help="say how each server is")
    for command in (up, down, status):
        command.add_argument(
            "--config",
            action="append",
            type=Path,
            metavar="FILE",
            help="settings of one server, once for each; default: cluster/local",
        )
    measure = commands.add_parser("bench", help="measure a cluster of three servers")
    measure.add_argument(
        "--json", type=Path, metavar="FILE", help="write figures there"
    )
    measure.add_argument("--quick", action="store_true", help="short and coarse")
    measure.add_argument(
        "--only",
        action="append",
        choices=bench.PARTS,
        help="measure this part, once for each; default: all",
    )
    measure.add_argument(
        "--against",
        type=Path,
        metavar="PATH",
        help="only compare write throughput with another checkout's, in turn",
    )
    _add_soak(commands.add_parser("soak", help="servers under fire, and a verdict"))
    add_run_arguments(
        commands.add_parser("run", help="simulated schedules, each judged")
    )
    return parser


def _add_soak(soak: argparse.ArgumentParser) -> None:
    soak.add_argument("--minutes", type=float, default=30.0, help="default: 30")
    soak.add_argument("--seed", type=int, help="default: one that is drawn and printed")
    soak.add_argument("--servers", type=int, choices=(1, 3, 5), default=3)
    soak.add_argument("--clients", type=int, default=8, help="default: 8")
    soak.add_argument(
        "--snapshot-entries",
        type=int,
        default=3000,
        metavar="N",
        help="entries from one snapshot to the next; default: 3000",
    )
    soak.add_argument("--json", type=Path, metavar="FILE", help="write all of it there")


if __name__ == "__main__":
    raise SystemExit(main())
