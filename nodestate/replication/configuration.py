"""Who the members are, as the log says: effective when appended, undone when cut off.

One change at a time, and each moves at most one vote: then any majority before it and
any after it have a server in common (Raft thesis, 4.1). A member without a vote is a
learner; a server whose data directory was lost comes back as one.
"""

from bisect import bisect_right
from typing import Final, NamedTuple

import msgspec

from nodestate.errors import JournalError, RequestError
from nodestate.model.encoding import MSGPACK, msgpack_decoder
from nodestate.replication.frames import MEMBERS_MAX, Formation

VOTERS_MAX: Final = 7


class MemberEntry(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One member: its data directory's incarnation ("" until it is known), its addresses."""

    server_id: str
    incarnation: str
    peer_address: str
    http_address: str
    is_voter: bool


class Configuration(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """All members, sorted by id."""

    members: tuple[MemberEntry, ...]

    def member(self, server_id: str) -> MemberEntry | None:
        """Return a member, `None` if there is none of that id."""
        for member in self.members:
            if member.server_id == server_id:
                return member
        return None

    def ids(self) -> tuple[str, ...]:
        """Return the ids of all members."""
        return tuple(member.server_id for member in self.members)

    def voters(self) -> tuple[str, ...]:
        """Return the ids of those that vote and count."""
        return tuple(member.server_id for member in self.members if member.is_voter)

    def has_vote(self, server_id: str, incarnation: str) -> bool:
        """Say whether this very data directory votes and counts."""
        member = self.member(server_id)
        return member is not None and (member.is_voter, member.incarnation) == (
            True,
            incarnation,
        )

    def with_member(self, member: MemberEntry) -> "Configuration":
        """Return the configuration with a member added or changed."""
        others = tuple(
            other for other in self.members if other.server_id != member.server_id
        )
        members = sorted((*others, member), key=lambda one: one.server_id)
        return Configuration(tuple(members))

    def without(self, server_id: str) -> "Configuration":
        """Return the configuration without a member."""
        return Configuration(
            tuple(one for one in self.members if one.server_id != server_id)
        )


class Image(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a snapshot says of the cluster: how it began, and its members."""

    formation: Formation
    configuration: Configuration


_image_decoder: Final = msgpack_decoder(Image)


def encode_image(image: Image) -> bytes:
    """Return what a snapshot keeps of the cluster."""
    return MSGPACK.encode(image)


def decode_image(content: bytes) -> Image:
    """Read it; raises JournalError if it cannot be read."""
    try:
        return _image_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError) as error:
        raise JournalError(f"a snapshot's members cannot be read: {error}") from error


def initial_configuration(formation: Formation) -> Configuration:
    """Return the members that a cluster began with; all of them vote."""
    addresses = {name: (peer, http) for name, peer, http in formation.addresses}
    return Configuration(
        tuple(
            MemberEntry(name, incarnation, *addresses.get(name, ("", "")), True)
            for name, incarnation in formation.members
        )
    )


def check_change(before: Configuration, after: Configuration) -> None:
    """Raise RequestError unless this is one step that can be taken safely."""
    if not after.voters():
        raise RequestError("no member with a vote would be left")
    if len(after.members) > MEMBERS_MAX:
        raise RequestError(f"at most {MEMBERS_MAX} members are possible")
    if len(after.voters()) > VOTERS_MAX:
        raise RequestError(f"at most {VOTERS_MAX} members may have a vote")
    if len(_votes(before) ^ _votes(after)) > 1:
        raise RequestError("one change of a vote at a time")


def _votes(configuration: Configuration) -> set[tuple[str, str]]:
    return {
        (member.server_id, member.incarnation)
        for member in configuration.members
        if member.is_voter
    }


class _Known(NamedTuple):
    entry_index: int
    configuration: Configuration


class ConfigurationLog:
    """The configurations in the log, from the one that was last in effect before it."""

    def __init__(self, index: int, configuration: Configuration) -> None:
        self._known = [_Known(index, configuration)]

    def latest(self) -> Configuration:
        """Return the one in effect: the last in the log, committed or not."""
        return self._known[-1].configuration

    def latest_index(self) -> int:
        """Return the index of its entry."""
        return self._known[-1].entry_index

    def as_of(self, index: int) -> tuple[int, Configuration]:
        """Return the one in effect when entry `index` was the last, and its index."""
        place = bisect_right(self._known, index, key=lambda known: known.entry_index)
        return self._known[max(place - 1, 0)]

    def append(self, index: int, configuration: Configuration) -> None:
        """Take one into effect."""
        assert index > self.latest_index(), index
        self._known.append(_Known(index, configuration))

    def truncate_from(self, index: int) -> bool:
        """Go back to what was in effect before entry `index`; say if that is a change."""
        count = len(self._known)
        while len(self._known) > 1 and self._known[-1].entry_index >= index:
            self._known.pop()
        return len(self._known) < count

    def drop_before(self, index: int) -> None:
        """Forget those that were superseded before entry `index`."""
        while len(self._known) > 1 and self._known[1].entry_index <= index:
            del self._known[0]
