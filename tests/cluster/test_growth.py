"""What counts as flat, and that servers' memory and disk are measured at all."""

import os

import pytest

from cluster.growth import Sample, Trend, disk_mib, find_trends, memory_mib

MIB = 1 << 20


def sample(at_s: float, memory: float, disk: float, **flags: bool) -> Sample:
    return Sample(at_s, "server1", memory, disk, **flags)


def test_the_first_third_is_compared_with_the_last():
    samples = [sample(at, 100 + at, 10) for at in range(91)]

    memory, disk = find_trends(samples)

    assert memory.seconds == 90
    assert (memory.first_mib, memory.last_mib) == pytest.approx((115, 175))
    assert (disk.first_mib, disk.last_mib) == (10, 10)


def test_the_calm_is_judged_by_itself():
    storm = [sample(at, 50, 1) for at in range(30)]
    calm = [sample(at, 50 + at * 10, 1, is_calm=True) for at in range(30, 61)]

    *_, trend, _ = find_trends([*storm, *calm])

    assert trend.what == "memory (PSS) in the calm"
    assert trend.last_mib - trend.first_mib == pytest.approx(200)
    assert not trend.is_flat


def test_what_fills_up_by_design_is_not_judged():
    filling = [sample(at, at, at, is_warm=False) for at in range(60)]
    full = [sample(at, 60, 60) for at in range(60, 91)]

    trends = list(find_trends([*filling, *full]))

    assert [(trend.first_mib, trend.last_mib) for trend in trends] == [(60, 60)] * 2


def test_one_moment_has_no_trend():
    assert list(find_trends([sample(1, 2, 3)])) == []
    assert list(find_trends([])) == []


@pytest.mark.parametrize(
    ("first", "last", "is_flat"),
    [
        (100, 90, True),
        (100, 133, True),
        (100, 134, False),
        (1, 9, True),
        (1, 10, False),
    ],
)
def test_the_margin_is_a_quarter_and_eight_mib(first, last, is_flat):
    assert Trend("memory", first, last, 90).is_flat is is_flat


def test_memory_and_disk_are_those_of_the_system(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(os.urandom(MIB))

    assert 1 < memory_mib(os.getpid()) < 4096
    assert memory_mib(os.getpid()) <= memory_mib(os.getpid(), "Rss")
    assert 1 <= disk_mib(tmp_path) < 1.5
