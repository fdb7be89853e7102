"""What a server makes of a data directory that is not as it left it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.servers import ServerFiles, ServerProcess
from tests.cluster.running import SERVING_S, RunningCluster, log_lines

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("processes")]


def used_bytes(path: Path) -> int:
    """Return how much of a preallocated segment holds records."""
    return len(path.read_bytes().rstrip(b"\0"))


def segment_in_use(files: ServerFiles) -> Path:
    """Return the last segment that anything was written to."""
    segments = sorted(files.data_dir.glob("journal-*.log"))
    return [path for path in segments if used_bytes(path)][-1]


def flip_byte(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0xFF]))


async def follower_with_a_log(
    cluster: RunningCluster,
) -> tuple[ServerProcess, list[str]]:
    """Write something, and return a follower that is stopped, and the ids written."""
    leader = await cluster.wait_for_leader()
    nodes = await cluster.register(leader, 5)
    for node in nodes:
        await cluster.set_eligibility(leader, node, "ineligible")
    await cluster.settle()
    follower = next(f for f in cluster.servers if f.name != leader.name)
    process = cluster.processes[follower.name]
    process.stop()
    return process, nodes


async def check_the_others_go_on(cluster: RunningCluster, node: str) -> None:
    leader = await cluster.wait_for_leader(cluster.running)
    answer = await cluster.set_eligibility(leader, node, "eligible")
    assert answer.status == 200, answer.body


async def test_a_directory_that_has_lost_its_log_alone_is_refused(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        process, nodes = await follower_with_a_log(cluster)
        for path in process.files.data_dir.iterdir():
            if path.name != "identity":
                path.unlink()

        process.start()

        assert process.wait(within_s=SERVING_S) == 1
        assert "its log is gone" in process.log_tail()
        await check_the_others_go_on(cluster, nodes[0])


async def test_a_torn_tail_is_cut_and_the_server_serves(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        process, _ = await follower_with_a_log(cluster)
        segment = segment_in_use(process.files)
        with segment.open("r+b") as file:
            file.seek(used_bytes(segment))
            file.write(os.urandom(100))

        process.start()
        await cluster.wait_for_leader()
        await cluster.settle()

        assert len(log_lines(process, "journal tail cut")) == 1
        first, *others = [await cluster.get(f, "/v1/nodes") for f in cluster.servers]
        assert all((o.index, o.body) == (first.index, first.body) for o in others)


async def test_a_flipped_byte_in_the_middle_is_fatal_and_says_what_to_do(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster() as cluster:
        process, nodes = await follower_with_a_log(cluster)
        segment = segment_in_use(process.files)
        before = segment.read_bytes()
        flip_byte(segment, used_bytes(segment) // 2)
        damaged = segment.read_bytes()

        process.start()

        assert process.wait(within_s=SERVING_S) == 1
        text = process.log_tail()
        assert segment.name in text
        assert "byte" in text
        assert "replace this server" in text
        # It leaves the evidence as it was found.
        assert segment.read_bytes() == damaged != before
        await check_the_others_go_on(cluster, nodes[0])


async def test_a_second_process_on_one_directory_is_refused(
    make_cluster: Callable[..., RunningCluster],
) -> None:
    async with make_cluster(count=1) as cluster:
        (files,) = cluster.servers
        second = ServerProcess(files)

        second.start()

        assert second.wait(within_s=SERVING_S) == 1
        assert "in use by another server" in second.log_text()
        assert await cluster.is_serving(files)
