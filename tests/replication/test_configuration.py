"""The members by the log: one vote at a time, in effect when appended, undone when cut."""

import pytest
from hypothesis import given, strategies as st

from nodestate.errors import JournalError, RequestError
from nodestate.replication import entries
from nodestate.replication.configuration import (
    Configuration,
    ConfigurationLog,
    Image,
    MemberEntry,
    check_change,
    decode_image,
    encode_image,
    initial_configuration,
)
from nodestate.replication.frames import MEMBERS_MAX, Formation
from nodestate.replication.rules import quorum_size


def one(name, *, incarnation="", is_voter=True):
    return MemberEntry(name, incarnation or f"{name}-1", "peer", "http", is_voter)


def of(*members):
    return Configuration(tuple(members))


ABC = of(one("A"), one("B"), one("C"))

member_sets = st.dictionaries(
    st.sampled_from("ABCDE"),
    st.tuples(st.sampled_from(["x", "y"]), st.booleans()),
    min_size=1,
).map(
    lambda drawn: of(
        *(
            one(name, incarnation=incarnation, is_voter=is_voter)
            for name, (incarnation, is_voter) in sorted(drawn.items())
        )
    )
)


def test_the_founders_all_vote():
    formation = Formation("c", (("A", "a"), ("B", "b")), (("A", "p:1", "h:1"),))

    assert initial_configuration(formation) == of(
        MemberEntry("A", "a", "p:1", "h:1", True), MemberEntry("B", "b", "", "", True)
    )


def test_a_vote_belongs_to_a_data_directory():
    configuration = of(one("A"), one("B", is_voter=False))

    assert configuration.has_vote("A", "A-1")
    assert not configuration.has_vote("A", "A-2")
    assert not configuration.has_vote("B", "B-1")
    assert not configuration.has_vote("C", "C-1")


def test_members_stay_sorted():
    assert of(one("C")).with_member(one("A")).ids() == ("A", "C")
    assert ABC.without("B").ids() == ("A", "C")


@given(member_sets, member_sets)
def test_any_two_majorities_around_a_permitted_change_have_a_server_in_common(
    before, after
):
    """That is what makes one vote at a time safe."""
    if not before.voters():
        return
    try:
        check_change(before, after)
    except RequestError:
        return
    old = {(m.server_id, m.incarnation) for m in before.members if m.is_voter}
    new = {(m.server_id, m.incarnation) for m in after.members if m.is_voter}
    everyone = len(old | new)
    assert quorum_size(len(old)) + quorum_size(len(new)) > everyone


def test_what_is_no_single_step_is_refused():
    many = [one(f"s{number:02}", is_voter=False) for number in range(MEMBERS_MAX)]

    for after in (
        of(),
        of(one("A", is_voter=False)),
        of(one("A")),
        ABC.with_member(one("A", incarnation="another")),
        of(*ABC.members, *many),
    ):
        with pytest.raises(RequestError):
            check_change(ABC, after)
    check_change(ABC, ABC.with_member(one("A", incarnation="x", is_voter=False)))


def test_a_configuration_entry_reads_back():
    body = entries.encode_configuration(ABC)

    assert body[:1] == entries.CONFIGURATION_MARK
    assert entries.decode_body(body) == ABC
    with pytest.raises(RequestError, match="cannot be proposed"):
        entries.check_proposed(body)


def test_what_a_snapshot_keeps_reads_back():
    image = Image(Formation("c", (("A", "a"),)), ABC)

    assert decode_image(encode_image(image)) == image
    with pytest.raises(JournalError, match="members cannot be read"):
        decode_image(b"\xc1")


def test_the_latest_is_in_effect_and_goes_with_its_entry():
    log = ConfigurationLog(1, ABC)
    log.append(5, ABC.without("C"))
    log.append(9, ABC)
    assert (log.latest(), log.latest_index()) == (ABC, 9)

    assert log.truncate_from(9)
    assert log.latest() == ABC.without("C")
    assert not log.truncate_from(8)
    assert log.truncate_from(2)
    assert (log.latest(), log.latest_index()) == (ABC, 1)
    # What was there before the log is never undone.
    assert not log.truncate_from(1)


def test_who_the_members_were_at_an_index():
    log = ConfigurationLog(1, ABC)
    log.append(5, ABC.without("C"))

    assert log.as_of(4) == (1, ABC)
    assert log.as_of(5) == log.as_of(80) == (5, ABC.without("C"))
    log.drop_before(4)
    assert log.as_of(4) == (1, ABC)
    log.drop_before(5)
    assert log.as_of(9) == (5, ABC.without("C"))
