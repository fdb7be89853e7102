"""What the tests of the simulation share."""

import pytest
import structlog

from cluster.run import be_quiet


@pytest.fixture
def quiet_logs():
    """Log nothing, and put the configuration back."""
    be_quiet()
    yield
    structlog.reset_defaults()
