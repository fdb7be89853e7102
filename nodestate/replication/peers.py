"""The peers of a server: who they are by the log, where they are, and who may be one.

The log says who the members are, and the settings only where to begin to look. A
server that is behind does not know all of them yet: so it listens to any server of its
cluster, and counts what only members count for.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from nodestate.clock import Clock, IdSource
from nodestate.config import ServerConfig, is_loopback, split_address
from nodestate.errors import ConfigError
from nodestate.ports import Metrics, Network, ServerAddress, Spawner
from nodestate.replication.configuration import MemberEntry
from nodestate.replication.engine import Engine
from nodestate.replication.formation import Membership
from nodestate.replication.frames import Formation, Message
from nodestate.replication.introductions import Introductions
from nodestate.replication.transport import Receiver, Transport

FAREWELL_S: Final = 2.0
"""How long a server that is no member any more is still spoken to."""


class Peers:
    """The connections to them, and the addresses of all servers."""

    def __init__(  # noqa: PLR0913  every one is a thing of its own
        self,
        config: ServerConfig,
        *,
        network: Network,
        clock: Clock,
        ids: IdSource,
        spawner: Spawner,
        receiver: Receiver,
        form: Callable[[Formation], None],
        metrics: Metrics,
        logger: structlog.stdlib.BoundLogger,
    ) -> None:
        self._config = config
        self._network = network
        self._clock = clock
        self._ids = ids
        self._spawner = spawner
        self._receiver = receiver
        self._form = form
        self._metrics = metrics
        self._logger = logger
        self.servers: Sequence[ServerAddress] = servers_of(config)
        self._configured = {server.server_id: server for server in self.servers}
        self._transport: Transport | None = None
        self._engine: Engine | None = None
        self._is_caught_up: Callable[[], bool] = lambda: False
        self._strangers: dict[str, float] = {}

    async def start(self, membership: Membership) -> None:
        """Listen to peers, and dial those that are known."""
        self._introductions = Introductions(
            membership,
            address=self._configured[self._config.name].peer_address,
            ids=self._ids,
            form=self._form,
            is_stranger=self._is_stranger,
            logger=self._logger,
        )
        self._introductions.form_if_due()
        _, port = split_address(self._config.peer)
        if port == 0:
            # Nobody could know where: a server that is alone, and stays so.
            return
        self._transport = Transport(
            server_id=self._config.name,
            peers={
                server.server_id: split_address(server.peer_address)
                for server in self.servers
                if server.peer_address
            },
            listen=split_address(self._config.peer),
            network=self._network,
            clock=self._clock,
            ids=self._ids,
            spawner=self._spawner,
            handshake=self._introductions,
            receiver=self._receiver,
            metrics=self._metrics,
        )
        await self._transport.start()

    def take_part(self, engine: Engine, is_caught_up: Callable[[], bool]) -> None:
        """Know the members by an engine from now on."""
        self._engine = engine
        self._is_caught_up = is_caught_up
        self.on_members_changed()

    async def close(self) -> None:
        """Hang up everywhere."""
        if self._transport is not None:
            await self._transport.close()

    def send(self, peer_id: str, message: Message) -> bool:
        """Send to a peer; `False` if it cannot be sent now."""
        return self._transport is not None and self._transport.send(peer_id, message)

    def is_connected(self, peer_id: str) -> bool:
        """Say whether messages can be sent to the peer."""
        return self._transport is not None and self._transport.is_connected(peer_id)

    def greet_again(self) -> None:
        """Introduce this server anew to everyone: it is not what it was."""
        if self._transport is not None:
            self._transport.drop_all()

    def on_connected(self, peer_id: str) -> None:
        """Take note that messages can be sent to the peer."""
        self._introductions.on_connected(peer_id)

    def on_disconnected(self, peer_id: str) -> None:
        """Take note that they cannot any more."""
        self._introductions.on_disconnected(peer_id)

    def is_members_word(self, peer_id: str) -> bool:
        """Say whether the peer has the data directory that the log knows it by (F12)."""
        engine = self._engine
        if engine is None:
            return False
        member = engine.configuration().member(peer_id)
        if member is None:
            # One that is being removed has still to hear of it.
            return engine.follower(peer_id) is not None
        return member.incarnation == self._introductions.incarnation_of(peer_id)

    def reached_incarnation(self, peer_id: str) -> str | None:
        """Return which data directory a peer has that is connected, both ways, now."""
        reached = self._introductions.reached_incarnation(peer_id)
        spoke = self._introductions.incarnation_of(peer_id)
        return reached if reached == spoke else None

    def address_of(self, member: MemberEntry) -> ServerAddress:
        """Return where a member is reached; by the settings, if the log does not say."""
        configured = self._configured.get(member.server_id)
        peer, http = member.peer_address, member.http_address
        if configured is not None:
            peer, http = (
                peer or configured.peer_address,
                http or configured.http_address,
            )
        return ServerAddress(member.server_id, peer, http)

    def on_members_changed(self) -> None:
        """Dial whom the latest configuration names, and list them."""
        assert self._engine is not None
        members = self._engine.configuration().members
        self.servers = tuple(self.address_of(member) for member in members)
        for server in self.servers:
            if self._transport is not None and server.peer_address:
                host, port = split_address(server.peer_address)
                self._transport.add_peer(server.server_id, host, port)

    def forget_strangers(self) -> None:
        """Hang up on those that have certainly been no members for a while.

        One that was removed may still have an answer to give.
        """
        if self._transport is None:
            return
        now_s = self._clock.monotonic_s()
        strangers = filter(self._is_certainly_no_member, self._transport.peer_ids())
        self._strangers = {
            peer_id: self._strangers.get(peer_id, now_s) for peer_id in strangers
        }
        for peer_id, since_s in self._strangers.items():
            if now_s - since_s >= FAREWELL_S:
                self._transport.remove_peer(peer_id)

    def _is_certainly_no_member(self, server_id: str) -> bool:
        """Say so only while a leader is in contact: what is here may be long overtaken."""
        engine = self._engine
        if engine is None or engine.configuration().member(server_id) is not None:
            return False
        if server_id == engine.leader_id() or engine.follower(server_id) is not None:
            return False
        if engine.configuration_index() > engine.commit_index():
            return False
        contact_s = engine.last_contact_s()
        is_in_contact = (
            contact_s is not None and contact_s < self._config.election_timeout_s_min
        )
        return is_in_contact and self._is_caught_up()

    def _is_stranger(self, server_id: str, address: str) -> bool:
        """Judge a peer of our cluster: no member, or one that may not be dialled."""
        if self._is_certainly_no_member(server_id):
            return True
        if not address or server_id in self._configured or self._config.has_peer_tls:
            return False
        try:
            host, _ = split_address(address)
        except ValueError:
            return True
        return not is_loopback(host)


def servers_of(config: ServerConfig) -> tuple[ServerAddress, ...]:
    """Return all servers of the configuration, sorted by id; this one is among them."""
    servers = {
        server.name: ServerAddress(server.name, server.peer, server.http)
        for server in config.servers
    }
    if not servers:
        servers[config.name] = ServerAddress(config.name, config.peer, config.http)
    if config.name not in servers:
        raise ConfigError(
            f"name: {config.name!r} is not among servers: {', '.join(sorted(servers))}"
        )
    return tuple(servers[name] for name in sorted(servers))
