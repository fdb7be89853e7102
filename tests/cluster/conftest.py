"""Real clusters for tests: on free ports, in a temporary directory, gone afterwards."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.servers import Setting
from tests.cluster.running import RunningCluster


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., RunningCluster]]:
    """Give a function that lays out a cluster; nothing runs until it is started."""
    made: list[RunningCluster] = []

    def make(*, count: int = 3, **settings: Setting) -> RunningCluster:
        directory = tmp_path / f"cluster{len(made) + 1}"
        directory.mkdir()
        made.append(RunningCluster(directory, count=count, settings=settings))
        return made[-1]

    yield make
    for running in made:
        running.destroy()
