"""Puts a server together: builds every room and hands each what it needs.

Nothing is decided here. `run` is the whole life of a process: check the settings, take
the data directory, replay, listen, serve until it is told to stop or a task fails.
"""

import asyncio
import gc
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import structlog
import uvloop

from nodestate import __version__, telemetry
from nodestate.acl import hcl
from nodestate.api import app
from nodestate.api.listener import HttpListener
from nodestate.clock import SystemClock, SystemIdSource
from nodestate.config import ServerConfig
from nodestate.errors import ConfigError, NodestateError
from nodestate.leader.services import LeaderServices
from nodestate.query import expressions
from nodestate.replication.administration import Administration
from nodestate.replication.disk import SystemDisk
from nodestate.replication.network import SystemNetwork
from nodestate.replication.proposer import LogProposer
from nodestate.replication.replica import Replica
from nodestate.replication.uploads import DiskUpload
from nodestate.tls import PeerTls
from nodestate.watch import Watch

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
SHUTDOWN_S: Final = 2.0
REPLAY_POLL_S: Final = 0.25
# Young objects of a request die young; a collection every 700 of them costs more than
# it frees when almost nothing that lives long is in a cycle.
GC_THRESHOLDS: Final = (50_000, 20, 50)


class TaskSpawner:
    """Starts the long-lived tasks of a server in its task group, and ends them."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self._group = group
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run it; an exception out of it ends the group, and so the server."""
        task = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel_all(self) -> None:
        """Cancel what still runs; the group awaits it."""
        for task in tuple(self._tasks):
            task.cancel()


class Server:
    """One server, built and not yet started."""

    def __init__(self, config: ServerConfig, spawner: TaskSpawner) -> None:
        self._config = config
        self._spawner = spawner
        self._logger = structlog.get_logger().bind(server_id=config.name)
        self._clock = clock = SystemClock()
        ids = SystemIdSource()
        self._peer_tls = PeerTls(config) if config.has_peer_tls else None
        metrics = telemetry.MetricsRegistry()
        self._stop_watching_gc = telemetry.watch_gc(metrics)
        spawner.spawn(
            telemetry.watch_loop(
                metrics, sleep=clock.sleep, monotonic_s=clock.monotonic_s
            ),
            name="loop lag",
        )
        self._watch = Watch()
        self._disk = SystemDisk(Path(config.data_dir))
        self.replica = Replica(
            config,
            disk=self._disk,
            network=self._network(metrics),
            clock=clock,
            ids=ids,
            spawner=spawner,
            watch=self._watch,
            metrics=metrics,
            logger=self._logger,
        )
        proposer = LogProposer(
            self.replica, config=config, clock=clock, ids=ids, metrics=metrics
        )
        self._services = LeaderServices(
            config=config,
            proposer=proposer,
            view=self.replica,
            leadership=self.replica,
            watch=self._watch,
            clock=clock,
            ids=ids,
            metrics=metrics,
            logger=self._logger,
            read_file=self._disk.read_file,
        )
        self.replica.answer_with(self._services.answer)
        self._administration = Administration(
            self.replica, config=config, clock=clock, logger=self._logger
        )
        self._http = app.build_server(
            app.Dependencies(
                config=config,
                proposer=proposer,
                view=self.replica,
                leadership=self.replica,
                leader_calls=self.replica,
                admin=self._administration,
                is_in_dispute=self.replica.is_in_dispute,
                receive_snapshot=lambda: DiskUpload(self._disk),
                watch=self._watch,
                clock=clock,
                ids=ids,
                metrics=metrics,
                logger=self._logger,
            )
        )
        self._listener = HttpListener(self._http, config)
        metrics.gauge(
            "nodestate_api_certificate_expires_at_seconds",
            "Unix time at which the certificate for clients ends; 0 without one.",
            self._listener.expires_at_s,
        )

    async def start(self) -> str:
        """Replay the log, begin to take part, listen; return the HTTP address."""
        await self.replica.start()
        self._spawner.spawn(self._services.run(), name="leader services")
        self._spawner.spawn(self._administration.run(), name="administration")
        self._spawner.spawn(self._freeze_what_was_loaded(), name="freeze")
        return await self._listener.start()

    async def stop(self) -> None:
        """Hand over, take no new requests, end those that wait, let go of log and peers."""
        await self._administration.retire()
        self._listener.close()
        self._watch.wake_all()
        await self._http.shutdown(timeout=SHUTDOWN_S)
        await self.replica.stop()
        self._disk.close()
        self._stop_watching_gc()

    async def reload_when(self, asked: asyncio.Event) -> None:
        """Read keys and certificates again whenever `asked` is set."""
        while True:
            await asked.wait()
            asked.clear()
            try:
                if self._peer_tls is not None:
                    self._peer_tls.reload()
                await self._listener.reload()
            except ConfigError as error:
                self._logger.warning("certificates not reloaded", error=str(error))
            else:
                self._logger.info("certificates reloaded")

    def _network(self, metrics: telemetry.MetricsRegistry) -> SystemNetwork:
        refused = metrics.counter(
            "nodestate_replication_tls_refused_total",
            "Connections between servers that TLS did not let through.",
        )
        if self._peer_tls is not None:
            metrics.gauge(
                "nodestate_replication_certificate_expires_at_seconds",
                "Unix time at which the certificate for peers ends; 0 with a cluster key.",
                self._peer_tls.expires_at_s,
            )
        return SystemNetwork(self._peer_tls, count_refused=refused.add)

    async def _freeze_what_was_loaded(self) -> None:
        """Once the log is replayed, spare the collector the walk over what stays."""
        while not self.replica.is_caught_up():
            await self._clock.sleep(REPLAY_POLL_S)
        await asyncio.to_thread(self._prepare_parsers)
        gc.collect()
        gc.freeze()

    def _prepare_parsers(self) -> None:
        """Make them before the first who needs one; the start need not wait for them."""
        expressions.prepare()
        if self._config.acl_enabled:
            hcl.prepare()


async def serve(
    config: ServerConfig,
    stop: asyncio.Event,
    announce: Callable[[str], None],
    *,
    reload: asyncio.Event | None = None,
) -> None:
    """Run one server until `stop` is set; an error of any of its tasks is raised.

    Whenever `reload` is set, keys and certificates are read again.
    """
    async with asyncio.TaskGroup() as group:
        spawner = TaskSpawner(group)
        server = Server(config, spawner)
        try:
            announce(await server.start())
            if reload is not None:
                spawner.spawn(server.reload_when(reload), name="reload")
            await stop.wait()
        finally:
            await server.stop()
            spawner.cancel_all()


def run(config: ServerConfig) -> int:
    """Run one server until SIGINT or SIGTERM, and return the process's exit code."""
    if not __debug__:
        raise ConfigError("python -O: assertions guard the log and must be on")
    telemetry.configure_logging(config.log_level, config.log_format, sys.stderr)
    logger = structlog.get_logger().bind(server_id=config.name)
    _raise_open_files_limit()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        uvloop.run(_serve_until_signalled(config, logger))
    except Exception as error:  # noqa: BLE001  the process's top: report, then end
        _report(error, logger)
        return EXIT_FAILED
    return EXIT_OK


async def _serve_until_signalled(
    config: ServerConfig, logger: structlog.stdlib.BoundLogger
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    reload = asyncio.Event()
    # Without TLS there is nothing to read again, but it is no reason to end either,
    # unless the terminal has gone in which somebody tried things.
    has_tls = config.has_peer_tls or config.has_http_tls
    if has_tls or not (sys.stdin and sys.stdin.isatty()):
        loop.add_signal_handler(signal.SIGHUP, reload.set)
    scheme = "https" if config.has_http_tls else "http"
    await serve(
        config,
        stop,
        lambda address: logger.info(
            "server started",
            http_address=address,
            url=f"{scheme}://{address}",
            version=__version__,
        ),
        reload=reload,
    )
    logger.info("server stopped")


def _report(error: BaseException, logger: structlog.stdlib.BoundLogger) -> None:
    """Log what ended the server: a line for what we foresaw, a traceback for the rest."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            _report(part, logger)
    elif isinstance(error, NodestateError):
        logger.error("server failed", kind=type(error).__name__, error=str(error))
    else:
        logger.error("server failed", exc_info=error)


def _raise_open_files_limit() -> None:
    """Allow as many connections as the system lets us have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
