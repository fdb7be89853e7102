"""The settings of ACLs: whether there are any, and how long tokens may live."""

from typing import Annotated, Final

from msgspec import Meta

from nodestate.http_settings import HttpSettings

MINUTE_S: Final = 60.0
DAY_S: Final = 24 * 60 * MINUTE_S
_TTL_S_MAX: Final = 3650 * DAY_S


def _ttl(description: str) -> Meta:
    return Meta(description=description, ge=1, le=_TTL_S_MAX)


class AclSettings(HttpSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what; all servers of a cluster should say the same."""

    acl_enabled: Annotated[
        bool,
        Meta(
            description="only who has a token that allows it may do something",
            extra={"allowed": "true or false"},
        ),
    ] = False
    acl_token_ttl_s_min: Annotated[
        float, _ttl("a token that ends does so at the earliest after so long")
    ] = MINUTE_S
    acl_token_ttl_s_max: Annotated[
        float, _ttl("and at the latest; one that is made without an end has none")
    ] = DAY_S


def find_unfit_acl(settings: AclSettings) -> tuple[str, float, str] | None:
    """Return a setting that does not fit to the others, its value, and why."""
    if settings.acl_token_ttl_s_max < settings.acl_token_ttl_s_min:
        return (
            "acl_token_ttl_s_max",
            settings.acl_token_ttl_s_max,
            f"must be at least acl_token_ttl_s_min, {settings.acl_token_ttl_s_min}",
        )
    return None
