"""Who a data directory is, and how servers become one cluster, once.

A data directory has a random incarnation. The first entry of the log lists the servers
with their incarnations, and only those vote and count: an empty directory under an old
name has forgotten its votes and its acknowledgements, and could help to elect a
leader that lacks a committed entry.
"""

import zlib
from collections.abc import Collection
from typing import Final, NamedTuple, Protocol

import msgspec

from nodestate.clock import IdSource
from nodestate.errors import FormationError, JournalError
from nodestate.replication import entries
from nodestate.replication.frames import Formation
from nodestate.replication.records import Entry

IDENTITY_FILE: Final = "identity"
FIRST_TERM: Final = 1
NOT_FORMED: Final = "no cluster has formed yet"

_FORMAT: Final = 1


class IdentityDisk(Protocol):
    """The part of a disk that an identity needs."""

    def read_file(self, name: str) -> bytes | None:
        """Return a file's content, `None` if there is none."""

    def replace_file(self, name: str, content: bytes) -> None:
        """Write a file whole and durably, or leave it as it was."""


class Identity(msgspec.Struct, frozen=True):
    """A server's name and the incarnation of its data directory."""

    server_id: str
    incarnation: str


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
        return identity
    if has_log:
        raise FormationError(
            f"the data directory has a log but no file {IDENTITY_FILE!r}:"
            " restore the whole directory, or replace this server"
        )
    identity = Identity(server_id, ids.new_id())
    disk.replace_file(IDENTITY_FILE, encode_identity(identity))
    return identity


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


def check_own_formation(
    formation: Formation, own: Identity, server_ids: Collection[str]
) -> None:
    """Raise FormationError unless this server, as configured, is part of `formation`."""
    members = dict(formation.members)
    if own.server_id not in members:
        raise FormationError(
            f"cluster {formation.cluster_id} has no server {own.server_id!r},"
            f" only {', '.join(sorted(members))}"
        )
    if members[own.server_id] != own.incarnation:
        raise FormationError(
            f"cluster {formation.cluster_id} knows server {own.server_id!r} with"
            " another data directory: this one has forgotten its votes. Stop the server"
            " and restore the directory; joining with an empty one is not possible yet"
        )
    if set(members) != set(server_ids):
        raise FormationError(
            f"servers: {', '.join(sorted(server_ids))} are configured, but cluster"
            f" {formation.cluster_id} was formed by {', '.join(sorted(members))}"
        )


class Membership:
    """The place of this server: unformed until `formation` is set, and then for ever in it."""

    def __init__(
        self, own: Identity, server_ids: Collection[str], formation: Formation | None
    ) -> None:
        if formation is not None:
            check_own_formation(formation, own, server_ids)
        self.own = own
        self.formation = formation
        self._server_ids = frozenset(server_ids)
        self._empty_peers: dict[str, str] = {}

    def adopt(self, formation: Formation) -> None:
        """Become a member, now that the first entry is durable."""
        check_own_formation(formation, self.own, self._server_ids)
        self.formation = formation

    def judge(self, claim: Claim) -> str:
        """Return "" if a peer may be connected to, else why not.

        Takes note of what an unformed server has to know to form a cluster. Raises
        FormationError if this server cannot be part of the cluster that the peer is in.
        """
        if claim.server_id not in self._server_ids:
            return f"server {claim.server_id!r} is not configured here"
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
        if self.formation is not None or self.own.server_id != min(self._server_ids):
            return None
        members = {**self._empty_peers, self.own.server_id: self.own.incarnation}
        if set(members) != self._server_ids:
            return None
        return Formation(cluster_id, tuple(sorted(members.items())))

    def _judge_unformed(self, claim: Claim) -> str:
        if claim.formation is None:
            self._empty_peers[claim.server_id] = claim.incarnation
            return NOT_FORMED
        self._empty_peers.pop(claim.server_id, None)
        check_own_formation(claim.formation, self.own, self._server_ids)
        return _judge_member(claim, claim.formation)

    @staticmethod
    def _judge_formed(claim: Claim, formation: Formation) -> str:
        if claim.formation is not None and claim.formation != formation:
            return (
                f"server {claim.server_id!r} is in cluster {claim.formation.cluster_id},"
                f" this one in {formation.cluster_id}"
            )
        return _judge_member(claim, formation)


def _judge_member(claim: Claim, formation: Formation) -> str:
    if (claim.server_id, claim.incarnation) in formation.members:
        return ""
    return (
        f"the data directory of server {claim.server_id!r} is not the one that cluster"
        f" {formation.cluster_id} was formed with"
    )
