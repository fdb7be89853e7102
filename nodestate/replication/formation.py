"""Who a data directory is, and how servers become one cluster, once.

A data directory has a random incarnation. The first entry of the log lists the servers
with their incarnations, and only those vote and count: an empty directory under an old
name has forgotten its votes and its acknowledgements, and could help to elect a
leader that lacks a committed entry. It may join, as a learner, and be given a vote by the
log once it has all of it.
"""

import zlib
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

import msgspec
from msgspec.structs import replace

from nodestate.clock import IdSource
from nodestate.errors import FormationError, JournalError
from nodestate.ports import ServerAddress
from nodestate.replication import entries
from nodestate.replication.frames import Formation
from nodestate.replication.records import Entry

IDENTITY_FILE: Final = "identity"
FIRST_TERM: Final = 1
NOT_FORMED: Final = "no cluster has formed yet"
NOT_MEMBER: Final = "an empty data directory: the cluster has to take it in first"

_FORMAT: Final = 1


class IdentityDisk(Protocol):
    """The part of a disk that an identity needs."""

    def read_file(self, name: str) -> bytes | None:
        """Return a file's content, `None` if there is none."""

    def replace_file(self, name: str, content: bytes) -> None:
        """Write a file whole and durably, or leave it as it was."""


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A server's name, its data directory's incarnation, and the cluster it is of."""

    server_id: str
    incarnation: str
    cluster_id: str = ""


class _IdentityFile(msgspec.Struct, frozen=True):
    format: int
    identity: Identity
    checksum: int


class Claim(NamedTuple):
    """What a peer says of itself when it connects."""

    server_id: str
    incarnation: str
    formation: Formation | None


def load_identity(
    disk: IdentityDisk, server_id: str, ids: IdSource, *, has_log: bool
) -> Identity:
    """Return the directory's identity; give it one, durably, if it is empty.

    Raises FormationError if the file is damaged, is another server's, or is missing
    where there is a log.
    """
    content = disk.read_file(IDENTITY_FILE)
    if content is not None:
        identity = decode_identity(content)
        if identity.server_id != server_id:
            raise FormationError(
                f"the data directory belongs to server {identity.server_id!r},"
                f" not to {server_id!r}"
            )
        if identity.cluster_id and not has_log:
            raise FormationError(
                f"the data directory belongs to cluster {identity.cluster_id}, but its"
                " log is gone: restore it, or empty the directory, and the cluster will"
                " take the server back as a learner"
            )
        return identity
    if has_log:
        raise FormationError(
            f"the data directory has a log but no file {IDENTITY_FILE!r}:"
            " restore the whole directory, or replace this server"
        )
    identity = Identity(server_id, ids.new_id())
    disk.replace_file(IDENTITY_FILE, encode_identity(identity))
    return identity


def record_cluster(disk: IdentityDisk, identity: Identity, cluster_id: str) -> Identity:
    """Remember, durably, that the directory has been part of a cluster.

    Should its log be lost, and not this file, it is not taken for a new one.
    """
    if identity.cluster_id == cluster_id:
        return identity
    formed = replace(identity, cluster_id=cluster_id)
    disk.replace_file(IDENTITY_FILE, encode_identity(formed))
    return formed


def encode_identity(identity: Identity) -> bytes:
    """Return the content of an identity file: one line of JSON with a checksum."""
    checksum = zlib.crc32(msgspec.json.encode(identity))
    return msgspec.json.encode(_IdentityFile(_FORMAT, identity, checksum)) + b"\n"


def decode_identity(content: bytes) -> Identity:
    """Read the content of an identity file; raises FormationError if it is damaged."""
    try:
        file = msgspec.json.decode(content, type=_IdentityFile)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FormationError(f"file {IDENTITY_FILE!r} is damaged: {error}") from error
    if file.format != _FORMAT:
        raise FormationError(f"file {IDENTITY_FILE!r} has unknown format {file.format}")
    found = zlib.crc32(msgspec.json.encode(file.identity))
    if found != file.checksum:
        raise FormationError(
            f"file {IDENTITY_FILE!r} is damaged:"
            f" checksum {found:08x}, expected {file.checksum:08x}"
        )
    return file.identity


def first_entry(formation: Formation) -> Entry:
    """Return entry 1: it counts as committed wherever it is."""
    return Entry(entries.encode_formation(formation), 1, FIRST_TERM)


def read_first_entry(entry: Entry) -> Formation:
    """Return the formation in entry 1; raises JournalError if there is another thing."""
    body = entries.decode_body(entry.body)
    if not isinstance(body, Formation):
        raise JournalError(f"entry {entry.index} is no formation")
    return body


class Membership:
    """The place of this server: unformed until `formation` is set, and then for ever in it.

    Who the members are by now is in the log; this is about which cluster it is.
    """

    def __init__(
        self,
        own: Identity,
        servers: Collection[ServerAddress],
        formation: Formation | None,
    ) -> None:
        self.own = own
        self.formation = formation
        self._servers = {server.server_id: server for server in servers}
        self._empty_peers: dict[str, str] = {}

    def adopt(self, formation: Formation) -> None:
        """Become part of a cluster, now that its first entry is durable here."""
        self.formation = formation

    def judge(self, claim: Claim) -> str:
        """Return "" if a peer may be connected to, else why not.

        Takes note of what an unformed server has to know to form a cluster.
        """
        if claim.server_id == self.own.server_id:
            return f"this is server {claim.server_id!r}"
        if self.formation is None:
            return self._judge_unformed(claim)
        return self._judge_formed(claim, self.formation)

    def new_formation(self, cluster_id: str) -> Formation | None:
        """Return what to write as entry 1, `None` unless it is this server's turn.

        Only the founder writes one, the server whose id is the smallest, and only
        once every other server has said that it is empty.
        """
        if self.formation is not None or self.own.server_id != min(self._servers):
            return None
        members = {**self._empty_peers, self.own.server_id: self.own.incarnation}
        if set(members) != set(self._servers):
            return None
        addresses = tuple(
            (server_id, server.peer_address, server.http_address)
            for server_id, server in sorted(self._servers.items())
        )
        return Formation(cluster_id, tuple(sorted(members.items())), addresses)

    def _judge_unformed(self, claim: Claim) -> str:
        if claim.server_id not in self._servers:
            return f"server {claim.server_id!r} is not configured here"
        if claim.formation is None:
            self._empty_peers[claim.server_id] = claim.incarnation
            return NOT_FORMED
        self._empty_peers.pop(claim.server_id, None)
        return ""

    @staticmethod
    def _judge_formed(claim: Claim, formation: Formation) -> str:
        if claim.formation is None:
            # One that was there when the cluster formed, and is about to hear of it.
            is_founding = (claim.server_id, claim.incarnation) in formation.members
            return "" if is_founding else NOT_MEMBER
        if claim.formation != formation:
            return (
                f"server {claim.server_id!r} is in cluster {claim.formation.cluster_id},"
                f" this one in {formation.cluster_id}"
            )
        return ""
