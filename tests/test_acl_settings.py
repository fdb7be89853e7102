"""Which settings of ACLs cannot be; `test_config.py` has how they are read and shown."""

import pytest

from nodestate.acl.expiry import EXPIRY_NS_MAX, EXPIRY_NS_MIN
from nodestate.acl_settings import AclSettings, find_unfit_acl
from nodestate.config import ServerConfig, check_config
from nodestate.errors import ConfigError
from nodestate.model.timestamp import NANOSECONDS


def test_acls_are_off_and_bounds_nomads_unless_said_otherwise():
    settings = AclSettings()

    assert not settings.acl_enabled
    assert settings.acl_token_ttl_s_min * NANOSECONDS == EXPIRY_NS_MIN
    assert settings.acl_token_ttl_s_max * NANOSECONDS == EXPIRY_NS_MAX


@pytest.mark.parametrize(
    ("least_s", "is_fit"), [(59.0, True), (60.0, True), (61, False)]
)
def test_the_longest_life_is_no_shorter_than_the_shortest(least_s, is_fit):
    settings = AclSettings(acl_token_ttl_s_min=least_s, acl_token_ttl_s_max=60.0)

    assert (find_unfit_acl(settings) is None) is is_fit


def test_a_server_does_not_start_with_what_does_not_fit():
    config = ServerConfig(acl_token_ttl_s_max=5.0)

    with pytest.raises(
        ConfigError, match=r"acl_token_ttl_s_max = 5\.0: must be at least"
    ):
        check_config(config)
